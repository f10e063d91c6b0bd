//! Who was removed, and stays out: at once, for good, and by whatever way.

use landfall_common::Duration;
use landfall_proto::v1 as pb;
use landfall_proto::v1::enrolment_client::EnrolmentClient;
use tonic::Code;

use crate::agent::{Agent, Memory};
use crate::enrolment::{Who, renewal, told_the_way_back};
use crate::fleet::{Credentials, Server, Signer, csr, reason};

#[tokio::test]
async fn a_removed_host_is_shut_out_at_once_and_may_join_anew() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    let host = server.enrol(&admin, "web-1").await;
    let agent = Agent::connect(&server, &host, Memory::default()).await;
    let mut agents = server.agents(&host).await;
    let timestamp = || pb::GetMetadataRequest { name: "timestamp.json".to_owned() };
    agents.get_metadata(timestamp()).await.unwrap();
    let request = pb::RemoveHostRequest {
        request_id: "remove-1".to_owned(),
        host: "web-1".to_owned(),
        reason: "stolen".to_owned(),
    };
    let mut operators = server.operators(&admin).await;
    operators.remove_host(request.clone()).await.unwrap();
    agent.ended().await;
    let refused = agents.get_metadata(timestamp()).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::PermissionDenied, "REMOVED"));
    told_the_way_back(&refused, Who::Host);
    let new = rcgen::KeyPair::generate().unwrap();
    let refused = server.enrolment().await.renew(renewal(&host, &new)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    let anew = server.enrol(&admin, "web-1").await;
    // The same request again changes nothing: the new host stays.
    operators.remove_host(request).await.unwrap();
    server.agents(&anew).await.get_metadata(timestamp()).await.unwrap();
    server.restart().await;
    server.agents(&anew).await.get_metadata(timestamp()).await.unwrap();
    let refused = server.agents(&host).await.get_metadata(timestamp()).await.unwrap_err();
    assert_eq!(reason(&refused), "REMOVED");
    told_the_way_back(&refused, Who::Host);
}

#[tokio::test]
async fn a_removed_operator_is_shut_out_at_once_and_cannot_renew() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let mut operators = server.operators(&admin).await;
    operators.get_info(pb::GetInfoRequest {}).await.unwrap();
    let socket = server.layout.admin_socket();
    let name = landfall_common::OperatorName::new("alice").unwrap();
    let request = landfall_controller::admin::Request::RemoveOperator { name };
    let asked = tokio::task::spawn_blocking(move || {
        landfall_controller::admin::ask(&socket, &request).unwrap().unwrap().0
    });
    assert_eq!(asked.await.unwrap(), landfall_controller::admin::Answer::Done);
    let refused = operators.get_info(pb::GetInfoRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::PermissionDenied, "REMOVED"));
    told_the_way_back(&refused, Who::Operator);
    server.restart().await;
    let new = rcgen::KeyPair::generate().unwrap();
    let refused = server.enrolment().await.renew(renewal(&admin, &new)).await.unwrap_err();
    assert_eq!(reason(&refused), "REMOVED");
    told_the_way_back(&refused, Who::Operator);
}

#[tokio::test]
async fn a_removed_operator_gets_in_neither_by_the_used_token_nor_by_one_left_over() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut made = Vec::new();
    for request_id in ["t-1", "t-2"] {
        let request = pb::CreateTokenRequest {
            request_id: request_id.to_owned(),
            operator: Some(pb::OperatorToken { name: "bob".to_owned(), role: "admin".to_owned() }),
            ..pb::CreateTokenRequest::default()
        };
        let token = server.operators(&admin).await.create_token(request).await.unwrap().into_inner();
        let csr = csr(&rcgen::KeyPair::generate().unwrap());
        made.push(pb::JoinRequest {
            token_id: token.token_id,
            secret: token.secret,
            csr,
            ..pb::JoinRequest::default()
        });
    }
    server.enrolment().await.join(made[0].clone()).await.unwrap();
    server.sleep(Duration::from_secs(1));
    let socket = server.layout.admin_socket();
    let name = landfall_common::OperatorName::new("bob").unwrap();
    let request = landfall_controller::admin::Request::RemoveOperator { name };
    tokio::task::spawn_blocking(move || {
        landfall_controller::admin::ask(&socket, &request).unwrap();
    })
    .await
    .unwrap();
    server.sleep(Duration::from_secs(1));
    for request in made {
        let refused = server.enrolment().await.join(request).await.unwrap_err();
        assert_eq!((refused.code(), &*reason(&refused)), (Code::PermissionDenied, "REMOVED"));
        told_the_way_back(&refused, Who::Operator);
    }
}

#[tokio::test]
async fn a_removed_host_does_not_come_back_as_the_one_that_took_its_name() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    let token = server.host_token(&admin, "web-1").await;
    let csr = csr(&rcgen::KeyPair::generate().unwrap());
    let request =
        pb::JoinRequest { token_id: token.token_id, secret: token.secret, csr, ..pb::JoinRequest::default() };
    server.enrolment().await.join(request.clone()).await.unwrap();
    server.sleep(Duration::from_secs(1));
    let remove = pb::RemoveHostRequest {
        request_id: "remove-1".to_owned(),
        host: "web-1".to_owned(),
        reason: "stolen".to_owned(),
    };
    server.operators(&admin).await.remove_host(remove).await.unwrap();
    server.sleep(Duration::from_secs(1));
    server.enrol(&admin, "web-1").await;
    let refused = server.enrolment().await.join(request).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::PermissionDenied, "REMOVED"));
    told_the_way_back(&refused, Who::Host);
}

#[tokio::test]
async fn a_removal_is_complete_also_when_whoever_asked_hangs_up() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    let mut operators = server.operators(&admin).await;
    for delay_ms in 1..8 {
        let name = format!("web-{delay_ms}");
        let host = server.enrol(&admin, &name).await;
        let mut agents = server.agents(&host).await;
        server.sleep(Duration::from_secs(1));
        let request = pb::RemoveHostRequest {
            request_id: format!("remove-{delay_ms}"),
            host: name.clone(),
            reason: "stolen".to_owned(),
        };
        let patience = std::time::Duration::from_millis(delay_ms);
        let _ = tokio::time::timeout(patience, operators.remove_host(request.clone())).await;
        // Whether it got that far or not: once it is said to be done, it is.
        operators.remove_host(request).await.unwrap();
        let timestamp = pb::GetMetadataRequest { name: "timestamp.json".to_owned() };
        let refused = agents.get_metadata(timestamp).await.map(|_| ()).unwrap_err();
        assert_eq!(reason(&refused), "REMOVED", "after {delay_ms} ms");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_beside_a_removal_gives_nothing_that_holds_after_it() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    let mut operators = server.operators(&admin).await;
    for round in 0..3 {
        let host = server.enrol(&admin, "web-1").await;
        let channel = server.connect(None).await.unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        let renewing: Vec<_> = (0..6)
            .map(|_| {
                let (host, stop) = (host.clone(), stop.clone());
                let channel = channel.clone();
                tokio::spawn(async move {
                    let mut enrolment = EnrolmentClient::new(channel);
                    let mut got = Vec::new();
                    while !stop.is_cancelled() {
                        let key = rcgen::KeyPair::generate().unwrap();
                        match enrolment.renew(renewal(&host, &key)).await {
                            Ok(answer) => got.push(Credentials {
                                certificate: answer.into_inner().certificate,
                                key: key.serialize_der(),
                            }),
                            Err(_) => break,
                        }
                    }
                    got
                })
            })
            .collect();
        let request = pb::RemoveHostRequest {
            request_id: format!("remove-{round}"),
            host: "web-1".to_owned(),
            reason: "stolen".to_owned(),
        };
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        operators.remove_host(request).await.unwrap();
        stop.cancel();
        let mut stolen = Vec::new();
        for task in renewing {
            // The last ones are those that may have come too late.
            stolen.extend(task.await.unwrap().into_iter().rev().take(2));
        }
        server.sleep(Duration::from_millis(5));
        // The name belongs to another machine from here on.
        server.enrol(&admin, "web-1").await;
        for old in stolen {
            let request = pb::GetMetadataRequest { name: "timestamp.json".to_owned() };
            let refused = server.agents(&old).await.get_metadata(request).await.unwrap_err();
            assert_eq!(reason(&refused), "REMOVED", "in round {round}");
        }
        let request = pb::RemoveHostRequest {
            request_id: format!("clear-{round}"),
            host: "web-1".to_owned(),
            reason: String::new(),
        };
        operators.remove_host(request).await.unwrap();
        server.sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn what_somebody_who_was_removed_has_invited_does_not_get_in() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    let bob = server.operator(&admin, "bob", "admin").await;
    let (used, left) = (server.host_token(&bob, "web-1").await, server.host_token(&bob, "web-2").await);
    let key = rcgen::KeyPair::generate().unwrap();
    let join = |token: pb::CreateTokenResponse| pb::JoinRequest {
        token_id: token.token_id,
        secret: token.secret,
        csr: csr(&key),
        ..pb::JoinRequest::default()
    };
    let used = join(used);
    server.enrolment().await.join(used.clone()).await.unwrap();
    server.sleep(Duration::from_secs(1));
    let removal = pb::RemoveOperatorRequest { request_id: "r-1".to_owned(), name: "bob".to_owned() };
    server.operators(&admin).await.remove_operator(removal).await.unwrap();
    let refused = server.enrolment().await.join(join(left)).await.unwrap_err();
    assert_eq!(reason(&refused), "TOKEN_INVALID");
    assert!(refused.message().contains("bob, who made the token, was removed since"), "{refused:?}");
    // What got in before stays, and may ask again for an answer that was lost.
    server.enrolment().await.join(used).await.unwrap();
}
