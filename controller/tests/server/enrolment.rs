//! Who gets in, and who does not.

use landfall_common::{Duration, Rights, Role, Scope};
use landfall_controller::authorise::{Access, Reach, STREAMS, TABLE, access};
use landfall_controller::ca::CertificateAuthority;
use landfall_controller::identity::{Identity, Peer, PeerCertificate};
use landfall_proto::v1 as pb;
use prost::Message as _;
use tonic::Code;

use crate::fleet::{Credentials, Server, Signer, csr, reason, token};

#[test]
fn every_method_of_the_descriptor_has_an_entry_in_the_table() {
    let files = [landfall_proto::DESCRIPTOR, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let mut methods = vec!["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned()];
    let mut streams = methods.clone();
    for bytes in files {
        for file in prost_types::FileDescriptorSet::decode(bytes).unwrap().file {
            for service in &file.service {
                let path = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
                methods.extend(service.method.iter().map(|method| path(method.name())));
                let goes_on = service.method.iter().filter(|method| method.server_streaming());
                streams.extend(goes_on.map(|method| path(method.name())));
            }
        }
    }
    for method in &methods {
        assert!(access(method).is_some(), "{method} is in no table");
    }
    for (method, _) in TABLE {
        assert!(methods.iter().any(|known| known == method), "{method} is no method");
    }
    streams.sort();
    assert_eq!(streams, STREAMS, "whoever is removed hears no more of these");
}

#[test]
fn each_entry_lets_in_whom_it_names_and_nobody_else() {
    let now = landfall_common::Timestamp::from_ms(1_000_000);
    let denied = landfall_controller::authorise::DenyList::default();
    let peer = |uri: &str| {
        let identity: Identity = uri.parse().unwrap();
        let not_after = now + Duration::from_secs(1);
        Peer { address: None, certificate: Some(PeerCertificate { identity, issued_at: now, not_after }) }
    };
    let nobody = Peer { address: None, certificate: None };
    let host = peer("landfall://host/web-1");
    let mut operators: Vec<Rights> = Vec::new();
    for role in Role::ALL {
        for scope in ["", ":shop", ":shop/staging"] {
            operators.push(format!("{role}{scope}").parse().unwrap());
            operators.push(format!("viewer,{role}{scope}").parse().unwrap());
        }
    }
    let allowed = |method: &str, caller: &Peer| {
        landfall_controller::authorise::authorise(method, Some(caller), &denied, now)
    };
    for (method, needed) in TABLE {
        assert_eq!(allowed(method, &nobody).is_ok(), needed == Access::Anyone, "{method} for nobody");
        let open_to_hosts = matches!(needed, Access::Anyone | Access::Agent);
        assert_eq!(allowed(method, &host).is_ok(), open_to_hosts, "{method} for a host");
        for rights in &operators {
            let answer = allowed(method, &peer(&format!("landfall://operator/ana/{rights}")));
            let expected = match needed {
                Access::Anyone => true,
                Access::Agent => false,
                Access::Operator(role, Reach::Everything) => rights.have(role, &Scope::Everything),
                // How far it reaches is asked of the request.
                Access::Operator(role, _) => rights.have_some(role, &Scope::Everything),
            };
            assert_eq!(answer.is_ok(), expected, "{method} for {rights}");
            if let Err(refused) = answer {
                assert!(
                    refused.to_string().contains(&format!("ana is {rights}"))
                        || !matches!(needed, Access::Operator(..)),
                    "{refused}"
                );
            }
        }
        let expired = peer("landfall://operator/a/admin");
        let later = now + Duration::from_secs(1);
        let allowed =
            landfall_controller::authorise::authorise(method, Some(&expired), &denied, later).is_ok();
        assert_eq!(allowed, needed == Access::Anyone, "{method} with an expired certificate");
    }
    assert!(allowed("/x.Y/Z", &peer("landfall://operator/a/admin")).is_err());
}

#[tokio::test]
async fn an_operator_logs_in_once_with_a_token() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let info = server.operators(&admin).await.get_info(pb::GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((&*info.operator, &*info.role, info.root_version), ("alice", "admin", 0));
    let (id, secret) = token(&server.admin_token);
    let again = server.join(&id, &secret, "").await.err().unwrap();
    assert_eq!(again.code(), Code::Unauthenticated);
    assert!(again.message().contains("one use"), "{}", again.message());
    let guessed = server.join(&id, "AAAA", "").await.err().unwrap();
    assert_eq!((guessed.code(), &*reason(&guessed)), (Code::Unauthenticated, "TOKEN_INVALID"));
    assert!(!guessed.message().contains("used"), "{}", guessed.message());
}

#[tokio::test]
async fn a_lost_answer_to_a_join_can_be_asked_for_again() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    let token = server.host_token(&admin, "web-1").await;
    let key = rcgen::KeyPair::generate().unwrap();
    let request = pb::JoinRequest {
        token_id: token.token_id,
        secret: token.secret,
        csr: csr(&key),
        ..pb::JoinRequest::default()
    };
    for _ in 0..2 {
        let answer = server.enrolment().await.join(request.clone()).await.unwrap().into_inner();
        assert_eq!((&*answer.host, &*answer.application), ("web-1", "shop"));
    }
    let other = rcgen::KeyPair::generate().unwrap();
    let stolen = pb::JoinRequest { csr: csr(&other), ..request };
    assert_eq!(server.enrolment().await.join(stolen).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_expired_token_and_a_taken_name_are_refused() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    let (late, taken) = (server.host_token(&admin, "web-1").await, server.host_token(&admin, "web-2").await);
    server.enrol(&admin, "web-2").await;
    let refused = server.join(&taken.token_id, &taken.secret, "").await.err().unwrap();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::AlreadyExists, "HOST_EXISTS"));
    server.sleep(Duration::from_secs(3601));
    let refused = server.join(&late.token_id, &late.secret, "").await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("expired"), "{}", refused.message());
}

#[tokio::test]
async fn whoever_has_no_certificate_is_told_what_to_do() {
    let server = Server::start().await;
    let mut operators =
        landfall_proto::v1::operators_client::OperatorsClient::new(server.connect(None).await.unwrap());
    let refused = operators.get_info(pb::GetInfoRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unauthenticated, "CERTIFICATE_REQUIRED"));
    assert!(refused.message().contains("ctl login"), "{}", refused.message());
}

pub enum Who {
    Host,
    Operator,
}

/// Each is told the commands of its own kind.
#[track_caller]
pub fn told_the_way_back(refused: &tonic::Status, who: Who) {
    let (host, operator) = ("`landfall-agent join TOKEN --again`", "`ctl login TOKEN`");
    let (own, others) = match who {
        Who::Host => ([host, "`ctl hosts token`"], operator),
        Who::Operator => ([operator, "`ctl operators token "], host),
    };
    let message = refused.message();
    assert!(own.iter().all(|part| message.contains(part)), "{message}");
    assert!(!message.contains(others), "{message}");
}

/// What a client sees whose certificate the handshake does not accept.
async fn turned_away(server: &Server, credentials: &Credentials) -> String {
    match server.connect(Some(credentials)).await {
        Err(error) => format!("{error:?}"),
        Ok(channel) => {
            let mut operators = landfall_proto::v1::operators_client::OperatorsClient::new(channel);
            format!("{:?}", operators.get_info(pb::GetInfoRequest {}).await.unwrap_err())
        }
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_in_the_handshake() {
    let server = Server::start().await;
    let admin = server.admin().await;
    server.sleep(Duration::from_secs(12 * 3600 + 60));
    let text = turned_away(&server, &admin).await;
    assert!(text.contains("CertificateExpired"), "{text}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_in_the_handshake() {
    let server = Server::start().await;
    let directory = tempfile::tempdir().unwrap();
    let foreign = CertificateAuthority::create(directory.path(), server.clock().now()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let identity: Identity = "landfall://operator/mallory/admin".parse().unwrap();
    let certificate = foreign.issue(&csr(&key), &identity, server.clock().now()).unwrap();
    let credentials = Credentials { certificate: certificate.to_vec(), key: key.serialize_der() };
    let text = turned_away(&server, &credentials).await;
    assert!(
        text.contains("UnknownCA") || text.contains("BadCertificate") || text.contains("DecryptError"),
        "{text}"
    );
}

#[tokio::test]
async fn a_certificate_that_expires_ends_an_open_connection() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut operators = server.operators(&admin).await;
    operators.get_info(pb::GetInfoRequest {}).await.unwrap();
    server.sleep(Duration::from_secs(12 * 3600));
    let refused = operators.get_info(pb::GetInfoRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unauthenticated, "CERTIFICATE_EXPIRED"));
    told_the_way_back(&refused, Who::Operator);
}

pub fn renewal(old: &Credentials, new: &rcgen::KeyPair) -> pb::RenewRequest {
    use rcgen::SigningKey as _;
    let request = csr(new);
    let key = rcgen::KeyPair::try_from(old.key.as_slice()).unwrap();
    pb::RenewRequest {
        certificate: old.certificate.clone(),
        signature: key.sign(&request).unwrap(),
        csr: request,
    }
}

#[tokio::test]
async fn a_host_that_slept_renews_for_thirty_days_and_an_operator_does_not() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    let host = server.enrol(&admin, "web-1").await;
    let new = rcgen::KeyPair::generate().unwrap();
    let mut enrolment = server.enrolment().await;
    let answer = enrolment.renew(renewal(&host, &new)).await.unwrap().into_inner();
    let read = PeerCertificate::read(&answer.certificate).unwrap();
    assert_eq!(read.identity.uri(), "landfall://host/web-1");
    server.sleep(Duration::from_secs(25 * 86_400));
    enrolment.renew(renewal(&host, &new)).await.unwrap();
    let refused = enrolment.renew(renewal(&admin, &new)).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unauthenticated, "CERTIFICATE_EXPIRED"));
    told_the_way_back(&refused, Who::Operator);
    let mut forged = renewal(&host, &new);
    forged.signature = renewal(&admin, &new).signature;
    assert_eq!(enrolment.renew(forged).await.unwrap_err().code(), Code::Unauthenticated);
    server.sleep(Duration::from_secs(7 * 86_400));
    let refused = enrolment.renew(renewal(&host, &new)).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unauthenticated, "CERTIFICATE_EXPIRED"));
    told_the_way_back(&refused, Who::Host);
}

#[tokio::test]
async fn a_repeated_request_for_a_token_is_answered_alike_and_another_is_refused() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut operators = server.operators(&admin).await;
    let mut request = pb::CreateTokenRequest {
        request_id: "t-1".to_owned(),
        operator: Some(pb::OperatorToken { name: "bob".to_owned(), role: "viewer".to_owned() }),
        ..pb::CreateTokenRequest::default()
    };
    let one = operators.create_token(request.clone()).await.unwrap().into_inner();
    let two = operators.create_token(request.clone()).await.unwrap().into_inner();
    assert_eq!(one, two);
    request.operator.as_mut().unwrap().role = "admin".to_owned();
    let refused = operators.create_token(request).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    let viewer = server.join(&one.token_id, &one.secret, "").await.unwrap().0;
    let mut operators = server.operators(&viewer).await;
    operators.list_hosts(pb::ListHostsRequest::default()).await.unwrap();
    let refused = operators.put_objects(tokio_stream::iter(Vec::new())).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::PermissionDenied, "ROLE_TOO_LOW"));
    assert!(refused.message().contains("deployer"), "{}", refused.message());
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let server = Server::start().await;
    let channel = server.connect(None).await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = tonic_health::pb::HealthCheckRequest { service: "landfall.v1.Agents".to_owned() };
    let answer = health.check(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
    let admin = server.admin().await;
    let channel = server.connect(Some(&admin)).await.unwrap();
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel);
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let answer = reflection.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
    let message = answer.into_inner().message().await.unwrap().unwrap();
    assert!(format!("{message:?}").contains("landfall.v1.Operators"));
}

#[tokio::test]
async fn operators_are_listed_and_removed_by_an_admin() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let mut operators = server.operators(&admin).await;
    let token = |id: &str, name: &str| pb::CreateTokenRequest {
        request_id: id.to_owned(),
        operator: Some(pb::OperatorToken { name: name.to_owned(), role: "deployer".to_owned() }),
        ..pb::CreateTokenRequest::default()
    };
    let bob = operators.create_token(token("t-1", "bob")).await.unwrap().into_inner();
    let bob = server.join(&bob.token_id, &bob.secret, "").await.unwrap().0;
    operators.create_token(token("t-2", "carol")).await.unwrap();
    let mut listed = async || {
        let answer = operators.list_operators(pb::ListOperatorsRequest {}).await.unwrap().into_inner();
        let line = |operator: pb::Operator| (operator.name, operator.role, operator.issued_ms > 0);
        answer.operators.into_iter().map(line).collect::<Vec<_>>()
    };
    let line = |name: &str, role: &str, is_in: bool| (name.to_owned(), role.to_owned(), is_in);
    let all = [line("alice", "admin", true), line("bob", "deployer", true), line("carol", "deployer", false)];
    assert_eq!(listed().await, all);

    server.sleep(Duration::from_secs(1));
    let remove =
        |id: &str, name: &str| pb::RemoveOperatorRequest { request_id: id.into(), name: name.into() };
    let mut theirs = server.operators(&bob).await;
    theirs.get_info(pb::GetInfoRequest {}).await.unwrap();
    let refused = theirs.remove_operator(remove("r-0", "alice")).await.unwrap_err();
    assert_eq!(reason(&refused), "ROLE_TOO_LOW");
    let mut admins = server.operators(&admin).await;
    for name in ["bob", "carol"] {
        admins.remove_operator(remove(name, name)).await.unwrap();
    }
    let refused = theirs.get_info(pb::GetInfoRequest {}).await.unwrap_err();
    assert_eq!(reason(&refused), "REMOVED");
    assert_eq!(listed().await, [line("alice", "admin", true)]);
    for (name, expected) in [("alice", "PRECONDITION"), ("nobody", "NOT_FOUND")] {
        assert_eq!(reason(&admins.remove_operator(remove("r-1", name)).await.unwrap_err()), expected);
    }

    // Who was let in again stays, whatever is repeated.
    server.sleep(Duration::from_secs(1));
    let anew = admins.create_token(token("t-3", "bob")).await.unwrap().into_inner();
    let bob = server.join(&anew.token_id, &anew.secret, "").await.unwrap().0;
    admins.remove_operator(remove("bob", "bob")).await.unwrap();
    server.restart().await;
    server.operators(&bob).await.get_info(pb::GetInfoRequest {}).await.unwrap();
    let mut admins = server.operators(&admin).await;
    let refused = admins.remove_operator(remove("bob", "alice")).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn only_a_manager_passes_a_window_by() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut operators = server.operators(&admin).await;
    for (role, expected) in [("deployer", "ROLE_TOO_LOW"), ("manager", "NOT_FOUND")] {
        let token = pb::CreateTokenRequest {
            request_id: role.to_owned(),
            operator: Some(pb::OperatorToken { name: format!("a-{role}"), role: role.to_owned() }),
            ..pb::CreateTokenRequest::default()
        };
        let token = operators.create_token(token).await.unwrap().into_inner();
        let theirs = server.join(&token.token_id, &token.secret, "").await.unwrap().0;
        let request = pb::StartRolloutRequest {
            request_id: format!("r-{role}"),
            application: "tenants".to_owned(),
            environment: "production".to_owned(),
            release: "v1".to_owned(),
            outside_window: "it burns".to_owned(),
            ..pb::StartRolloutRequest::default()
        };
        let refused = server.operators(&theirs).await.start_rollout(request).await.unwrap_err();
        assert_eq!(reason(&refused), expected, "{}", refused.message());
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_stop_the_log() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut operators = server.operators(&admin).await;
    let request = |id: String| pb::CreateTokenRequest {
        request_id: id,
        operator: Some(pb::OperatorToken { name: "bob".to_owned(), role: "viewer".to_owned() }),
        ..pb::CreateTokenRequest::default()
    };
    for delay in 1..20 {
        let patience = std::time::Duration::from_micros(delay * 500);
        let hasty = operators.create_token(request(format!("hasty-{delay}")));
        let _ = tokio::time::timeout(patience, hasty).await;
        operators.create_token(request(format!("patient-{delay}"))).await.unwrap();
    }
}

/// Each certificate is an entry of the log, which is kept for ever.
#[tokio::test]
async fn whoever_asks_for_certificates_without_end_is_refused_and_the_log_stays_as_it_is() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    let host = server.enrol(&admin, "web-1").await;
    let token = server.host_token(&admin, "web-2").await;
    let new = rcgen::KeyPair::generate().unwrap();
    let mut enrolment = server.enrolment().await;
    let join = pb::JoinRequest {
        token_id: token.token_id,
        secret: token.secret,
        csr: csr(&new),
        ..pb::JoinRequest::default()
    };
    let mut operators = server.operators(&admin).await;
    let mut entries = async || {
        let log = operators.read_log(pb::ReadLogRequest::default()).await.unwrap().into_inner().entries;
        log.len()
    };
    let before = entries().await;
    let mut refused = Vec::new();
    for _ in 0..40 {
        refused.extend(enrolment.renew(renewal(&host, &new)).await.err());
        refused.extend(enrolment.join(join.clone()).await.err());
    }
    assert!(refused.iter().all(|status| reason(status) == "OVERLOADED"), "{refused:?}");
    assert_eq!((refused.len(), entries().await - before), (80 - 24, 25), "the first join is two entries");
    // Nobody else suffers for it.
    server.enrol(&admin, "web-3").await;
    enrolment.renew(renewal(&admin, &new)).await.unwrap();
}
