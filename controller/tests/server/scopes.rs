//! Roles that hold for one application or one environment: what they let in, what they keep out, and what is told of
//! the rest.

mod methods;

use landfall_common::{Duration, Sha256};
use landfall_controller::identity::PeerCertificate;
use landfall_proto::v1 as pb;
use landfall_proto::v1::operators_client::OperatorsClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::enrolment::renewal;
use crate::fleet::{Credentials, Server, Signer, reason, release, strategy, upload};
use crate::rollouts::start;

const STAGING: (&str, &str) = ("shop", "staging");

/// shop in production and staging, each with a host, and v1 published.
async fn two_environments(server: &Server, admin: &Credentials) -> Signer {
    let mut signer = Signer::publish_root(server, admin).await;
    server.enrol(admin, "web-1").await;
    server.enrol_in(admin, STAGING, "stage-1").await.unwrap();
    signer.release(server, admin, "v1").await;
    signer
}

fn start_in(environment: &str, release: &str, request_id: &str) -> pb::StartRolloutRequest {
    let environment = environment.to_owned();
    pb::StartRolloutRequest { environment, request_id: request_id.to_owned(), ..start(release) }
}

fn abort(rollout: &str) -> pb::ControlRolloutRequest {
    pb::ControlRolloutRequest {
        request_id: format!("abort-{rollout}"),
        rollout: rollout.to_owned(),
        control: pb::Control::Abort.into(),
        reason: "no".to_owned(),
    }
}

#[track_caller]
fn too_low<T: std::fmt::Debug>(answer: Result<T, Status>, words: &str) {
    let refused = answer.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::PermissionDenied, "ROLE_TOO_LOW"), "{refused:?}");
    assert!(refused.message().contains(words), "{}", refused.message());
}

#[track_caller]
fn unknown<T: std::fmt::Debug>(answer: Result<T, Status>, words: &str) {
    let refused = answer.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
    assert_eq!(refused.message(), words);
}

async fn started(operators: &mut OperatorsClient<Channel>, request: pb::StartRolloutRequest) -> pb::Rollout {
    operators.start_rollout(request).await.unwrap().into_inner().rollout.unwrap()
}

#[tokio::test]
async fn a_deployer_of_one_environment_does_there_what_deployers_do_and_nothing_elsewhere() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = two_environments(&server, &admin).await;
    let dora = server.operator(&admin, "dora", "deployer:shop/staging").await;
    let mut all = server.operators(&admin).await;
    let theirs = started(&mut all, start("v1")).await;
    let waiting = pb::StartRolloutRequest {
        if_held: pb::IfHeld::Queue.into(),
        ..start_in("production", "v1", "queued")
    };
    let in_line = started(&mut all, waiting).await;

    let mut operators = server.operators(&dora).await;
    let info = operators.get_info(pb::GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((&*info.operator, &*info.role), ("dora", "deployer:shop/staging"));
    assert_eq!(info.applications, ["shop"]);
    // A release is for all environments of its application.
    signer.release(&server, &dora, "v2").await;
    let rollout = started(&mut operators, start_in("staging", "v2", "mine")).await;
    assert_eq!((&*rollout.environment, &*rollout.started_by), ("staging", "dora"));
    let cordon = pb::CordonHostsRequest {
        request_id: "cordon".to_owned(),
        hosts: vec!["stage-1".to_owned()],
        reason: "disk".to_owned(),
    };
    operators.cordon_hosts(cordon.clone()).await.unwrap();

    let needs = "this needs the role deployer for shop in production, and dora is deployer:shop/staging; an admin for \
                 everything gives it with `ctl operators token dora --role deployer:shop/production,deployer:shop/staging`";
    too_low(operators.start_rollout(start("v2")).await, needs);
    let back = pb::RollbackRequest {
        request_id: "back".to_owned(),
        application: "shop".to_owned(),
        environment: "production".to_owned(),
        ..pb::RollbackRequest::default()
    };
    too_low(operators.rollback(back).await, needs);
    // Neither what is under way in production is there for dora, nor what stands in line, nor its hosts.
    let only = "dora looks at shop in staging only";
    for id in [&theirs.id, &in_line.id] {
        let nothing = format!("no rollout {id} is known; {only}");
        unknown(operators.control_rollout(abort(id)).await, &nothing);
        unknown(operators.get_rollout(pb::GetRolloutRequest { rollout: id.clone() }).await, &nothing);
        unknown(operators.watch_rollout(pb::WatchRolloutRequest { rollout: id.clone() }).await, &nothing);
        let asked = operators.explain(pb::ExplainRequest { subject: id.clone() }).await;
        unknown(
            asked,
            &format!(
                "neither a host nor a rollout is called {id:?}; `ctl hosts` lists hosts, `ctl status` the newest rollouts; {only}"
            ),
        );
    }
    unknown(operators.control_rollout(abort("r-none")).await, &format!("no rollout r-none is known; {only}"));
    let both = pb::CordonHostsRequest {
        request_id: "both".to_owned(),
        hosts: vec!["stage-1".to_owned(), "web-1".to_owned()],
        ..cordon
    };
    unknown(operators.cordon_hosts(both).await, &format!("no host web-1 is enrolled; {only}"));
    let label = pb::LabelHostsRequest {
        request_id: "label".to_owned(),
        hosts: vec!["stage-1".to_owned()],
        set: [("zone".to_owned(), "a".to_owned())].into(),
        ..pb::LabelHostsRequest::default()
    };
    let labelled = operators.label_hosts(label.clone()).await.unwrap().into_inner();
    assert_eq!(labelled.hosts[0].labels["zone"], "a");
    let both = pb::LabelHostsRequest {
        request_id: "label-both".to_owned(),
        hosts: vec!["stage-1".to_owned(), "web-1".to_owned()],
        remove: vec!["zone".to_owned()],
        set: [].into(),
        ..label
    };
    unknown(operators.label_hosts(both).await, &format!("no host web-1 is enrolled; {only}"));
    // A host of its own, left out of a rollout of another place.
    let exclude = pb::ExcludeHostsRequest {
        request_id: "exclude".to_owned(),
        hosts: vec!["stage-1".to_owned()],
        rollout: theirs.id.clone(),
        reason: "odd".to_owned(),
    };
    unknown(operators.exclude_hosts(exclude).await, &format!("no rollout {} is known; {only}", theirs.id));
    let asked = operators.explain(pb::ExplainRequest { subject: "web".to_owned() }).await;
    assert!(!asked.unwrap_err().message().contains("web-1"));
    // Above the role, where it can be looked at: the role is named, and not the scope alone.
    let overrules =
        pb::StartRolloutRequest { outside_window: "now".to_owned(), ..start_in("staging", "v2", "outside") };
    too_low(
        operators.start_rollout(overrules).await,
        "to begin outside of a release window needs the role manager for shop in staging, and dora is deployer:shop/staging",
    );
    let token = server.enrol_in(&dora, STAGING, "stage-2").await;
    too_low(token.map(drop), "this needs the role admin, and dora is deployer:shop/staging");
}

#[tokio::test]
async fn lists_have_what_may_be_looked_at_and_the_log_too() {
    let server = Server::start().await;
    let admin = server.admin().await;
    two_environments(&server, &admin).await;
    let mut all = server.operators(&admin).await;
    let theirs = started(&mut all, start("v1")).await;
    started(&mut all, start_in("staging", "v1", "mine")).await;
    let vera = server.operator(&admin, "vera", "viewer:shop/staging").await;
    let mut operators = server.operators(&vera).await;
    let hosts = operators.list_hosts(pb::ListHostsRequest::default()).await.unwrap().into_inner().hosts;
    assert_eq!(hosts.iter().map(|host| &*host.id).collect::<Vec<_>>(), ["stage-1"]);
    let drift = operators.list_drift(pb::ListDriftRequest::default()).await.unwrap().into_inner().hosts;
    assert_eq!(drift.iter().map(|host| &*host.host).collect::<Vec<_>>(), ["stage-1"]);
    let named = pb::ListDriftRequest { host: "web-1".to_owned(), ..pb::ListDriftRequest::default() };
    unknown(operators.list_drift(named).await, "there is no host \"web-1\"; `ctl hosts` lists them");
    let rollouts = operators.list_rollouts(pb::ListRolloutsRequest::default()).await.unwrap().into_inner();
    assert_eq!(
        rollouts.rollouts.iter().map(|rollout| &*rollout.environment).collect::<Vec<_>>(),
        ["staging"]
    );
    // The place in a list that is named by what is not in it.
    let page =
        pb::ListRolloutsRequest { page_token: theirs.id.clone(), ..pb::ListRolloutsRequest::default() };
    unknown(operators.list_rollouts(page).await, &format!("no rollout {} is known", theirs.id));
    let places =
        operators.list_environments(pb::ListEnvironmentsRequest::default()).await.unwrap().into_inner();
    assert_eq!(places.environments.iter().map(|place| &*place.environment).collect::<Vec<_>>(), ["staging"]);
    let production = pb::ListHostsRequest {
        application: "shop".to_owned(),
        environment: "production".to_owned(),
        ..pb::ListHostsRequest::default()
    };
    too_low(
        operators.list_hosts(production).await,
        "the role viewer for shop in production, and vera is viewer:shop/staging",
    );

    let read = |application: &str, last| pb::ReadLogRequest {
        application: application.to_owned(),
        last,
        limit: 1000,
        ..pb::ReadLogRequest::default()
    };
    let whole = all.read_log(read("", true)).await.unwrap().into_inner().entries;
    for request in [read("", true), read("shop", true), read("shop", false)] {
        let entries = operators.read_log(request).await.unwrap().into_inner().entries;
        let bodies: String = entries.iter().map(|entry| String::from_utf8_lossy(&entry.body)).collect();
        assert!(bodies.contains("stage-1") && bodies.contains("release_published"), "{bodies}");
        assert!(
            !bodies.contains("production") && !bodies.contains("web-1") && !bodies.contains(&theirs.id),
            "{bodies}"
        );
        assert!(entries.len() < whole.len());
    }
    too_low(
        operators.read_log(read("", false)).await,
        "reading the log as a whole, as proving it does, needs the role viewer for everything, and vera is \
         viewer:shop/staging",
    );
    too_low(operators.read_log(read("blog", true)).await, "the role viewer for blog, and");
    too_low(operators.list_operators(pb::ListOperatorsRequest {}).await, "the role viewer for everything");
    // What is in force elsewhere is not told by a release of one's own either.
    let releases = operators.list_releases(pb::ListReleasesRequest::default()).await.unwrap().into_inner();
    assert_eq!(releases.releases.len(), 1);
    let request = pb::GetReleaseRequest { application: "shop".to_owned(), name: "v1".to_owned() };
    let shown = operators.get_release(request).await.unwrap().into_inner().release.unwrap();
    assert!(shown.active_in.is_empty() && shown.proven_in.is_empty());
}

#[tokio::test]
async fn what_others_were_answered_is_told_to_nobody_else() {
    let server = Server::start().await;
    let admin = server.admin().await;
    two_environments(&server, &admin).await;
    let mut all = server.operators(&admin).await;
    let theirs = started(&mut all, start("v1")).await;
    let here = started(&mut all, start_in("staging", "v1", "here")).await;
    let dora = server.operator(&admin, "dora", "deployer:shop/staging").await;
    let mut operators = server.operators(&dora).await;
    // The very request of an admin, who was answered with the rollout.
    too_low(operators.start_rollout(start("v1")).await, "for shop in production");
    let used = operators.start_rollout(start_in("staging", "v1", "start-v1")).await.unwrap_err();
    assert_eq!((used.code(), &*reason(&used)), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    assert!(!used.message().contains(&theirs.id) && !used.message().contains("production"), "{used:?}");
    let used = operators.start_rollout(start_in("staging", "v1", "here")).await.unwrap_err();
    assert_eq!(&*reason(&used), "REQUEST_ID_REUSED");
    // One and the same operator with less than before gets no answer of before either.
    let less = server.operator(&admin, "alice", "admin:shop/staging").await;
    let mut less = server.operators(&less).await;
    too_low(less.start_rollout(start("v1")).await, "for shop in production");
    let again = started(&mut less, start_in("staging", "v1", "here")).await;
    assert_eq!(again.id, here.id);

    // The plan of another place is not this one's.
    let mut plan = pb::PlanRolloutRequest {
        application: "shop".to_owned(),
        environment: "production".to_owned(),
        release: "v1".to_owned(),
        ..pb::PlanRolloutRequest::default()
    };
    let id = all.plan_rollout(plan.clone()).await.unwrap().into_inner().plan_id;
    too_low(operators.plan_rollout(plan.clone()).await, "the role viewer for shop in production");
    let with_it = pb::StartRolloutRequest { plan_id: id, ..start_in("staging", "v1", "planned") };
    assert_ne!(operators.start_rollout(with_it).await.unwrap_err().code(), Code::Ok);
    // Who asks for a proof elsewhere must be let look there.
    plan.environment = "staging".to_owned();
    plan.proven_in = vec!["production".to_owned()];
    let words = "asking whether it is proven there needs the role viewer for shop in production, and dora is";
    too_low(operators.plan_rollout(plan.clone()).await, words);
    let proven =
        pb::StartRolloutRequest { proven_in: plan.proven_in.clone(), ..start_in("staging", "v1", "proven") };
    too_low(operators.start_rollout(proven).await, words);
    let both = server.operator(&admin, "dora", "viewer:shop/production,deployer:shop/staging").await;
    server.operators(&both).await.plan_rollout(plan).await.unwrap();
}

#[tokio::test]
async fn nothing_of_another_application_is_published_or_fetched() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = two_environments(&server, &admin).await;
    let eve = server.operator(&admin, "eve", "deployer:blog").await;
    let mut operators = server.operators(&eve).await;
    let (request, objects) = signer.prepare(&server, "v2", strategy());
    // Objects are what their digest says, whoever brings them.
    upload(&mut operators, &objects).await;
    too_low(
        operators.publish_release(request.clone()).await,
        "the role deployer for shop, and eve is deployer:blog",
    );
    server.operators(&admin).await.publish_release(request).await.unwrap();
    let digest = Sha256::of(&release("v1", strategy()).1[0]).to_string();
    let object = |application: &str| pb::GetObjectRequest {
        digest: digest.clone(),
        application: application.to_owned(),
    };
    too_low(
        operators.get_object(object("")).await,
        "the role viewer for everything, and eve is deployer:blog",
    );
    too_low(operators.get_object(object("shop")).await, "the role viewer for shop, and eve is deployer:blog");
    unknown(
        operators.get_object(object("blog")).await,
        &format!("there is no object {digest} of a release of blog"),
    );
    for name in ["apps%2Fshop.json", "2.apps%2Fshop.json", "2.apps/shop.json"] {
        let file = pb::GetRepositoryFileRequest { name: name.to_owned() };
        too_low(
            operators.get_repository_file(file).await,
            "the role viewer for shop, and eve is deployer:blog",
        );
    }
    operators
        .get_repository_file(pb::GetRepositoryFileRequest { name: "timestamp.json".to_owned() })
        .await
        .unwrap();
    // Its own operators get them, in whatever environment.
    let dora = server.operator(&admin, "dora", "viewer:shop/staging").await;
    let mut content = server.operators(&dora).await.get_object(object("shop")).await.unwrap().into_inner();
    assert_eq!(content.message().await.unwrap().unwrap().data, b"this is v1");
    let mut operators = server.operators(&dora).await;
    too_low(
        operators.missing_objects(pb::MissingObjectsRequest::default()).await,
        "the role deployer, and dora is",
    );
}

#[tokio::test]
async fn an_admin_of_one_environment_lets_hosts_in_and_out_there_and_no_operators() {
    let server = Server::start().await;
    let admin = server.admin().await;
    two_environments(&server, &admin).await;
    let olga = server.operator(&admin, "olga", "admin:shop/staging").await;
    server.enrol_in(&olga, STAGING, "stage-2").await.unwrap();
    let needs = "this needs the role admin for shop in production, and olga is admin:shop/staging";
    too_low(server.enrol_in(&olga, ("shop", "production"), "web-2").await.map(drop), needs);
    let mut operators = server.operators(&olga).await;
    let remove = |host: &str, request: &str| pb::RemoveHostRequest {
        request_id: request.to_owned(),
        host: host.to_owned(),
        reason: "sold".to_owned(),
    };
    operators.remove_host(remove("stage-2", "one")).await.unwrap();
    // The answer may have got lost.
    operators.remove_host(remove("stage-2", "one")).await.unwrap();
    for (host, request) in [("web-1", "two"), ("stage-2", "three"), ("never", "four"), ("web-1", "one")] {
        let answer = operators.remove_host(remove(host, request)).await;
        unknown(answer, &format!("no host {host} is enrolled; olga looks at shop in staging only"));
    }
    let colleague = pb::CreateTokenRequest {
        request_id: "colleague".to_owned(),
        operator: Some(pb::OperatorToken { name: "pat".to_owned(), role: "viewer:shop/staging".to_owned() }),
        ..pb::CreateTokenRequest::default()
    };
    let everything = "this needs the role admin for everything, and olga is admin:shop/staging; an admin for everything \
                      gives it with `ctl operators token olga --role admin`";
    too_low(operators.create_token(colleague).await, everything);
    let removal = pb::RemoveOperatorRequest { request_id: "out".to_owned(), name: "alice".to_owned() };
    too_low(operators.remove_operator(removal).await, everything);
}

#[tokio::test]
async fn approvals_and_gates_are_said_where_the_role_holds() {
    let server = Server::start().await;
    let admin = server.admin().await;
    two_environments(&server, &admin).await;
    let mut all = server.operators(&admin).await;
    let theirs = started(&mut all, start("v1")).await;
    let mine = started(&mut all, start_in("staging", "v1", "here")).await;
    let ada = server.operator(&admin, "ada", "viewer:shop/production,approver:shop/staging").await;
    let mut operators = server.operators(&ada).await;
    let approve = |rollout: &str| pb::ApproveRolloutRequest {
        request_id: format!("yes-{rollout}"),
        rollout: rollout.to_owned(),
        content: Sha256::of(b"content").to_string(),
        reason: String::new(),
    };
    let reject = |rollout: &str| pb::RejectRolloutRequest {
        request_id: format!("no-{rollout}"),
        rollout: rollout.to_owned(),
        reason: "no".to_owned(),
    };
    let gate = |rollout: &str| pb::AnswerGateRequest {
        request_id: format!("gate-{rollout}"),
        rollout: rollout.to_owned(),
        gate: "qa".to_owned(),
        verdict: pb::GateVerdict::Open.into(),
        reason: "fine".to_owned(),
        ..pb::AnswerGateRequest::default()
    };
    // What one may look at is named.
    let words = |role: &str| {
        format!(
            "this needs the role {role} for shop in production, and ada is viewer:shop/production,approver:shop/staging"
        )
    };
    too_low(operators.approve_rollout(approve(&theirs.id)).await, &words("approver"));
    too_low(operators.reject_rollout(reject(&theirs.id)).await, &words("approver"));
    too_low(operators.answer_gate(gate(&theirs.id)).await, &words("gatekeeper"));
    // In its own place the planner has the word: nothing stands in line there, and no gate is asked.
    for refused in [
        operators.approve_rollout(approve(&mine.id)).await.unwrap_err(),
        operators.reject_rollout(reject(&mine.id)).await.unwrap_err(),
        operators.answer_gate(gate(&mine.id)).await.unwrap_err(),
    ] {
        assert_ne!(refused.code(), Code::PermissionDenied, "{refused:?}");
    }
}

#[tokio::test]
async fn a_scope_lasts_over_renewals_and_restarts_and_ends_with_its_operator() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    two_environments(&server, &admin).await;
    let rights = "viewer,deployer:shop/staging";
    let dora = server.operator(&admin, "dora", "deployer:shop/staging,viewer").await;
    let new = rcgen::KeyPair::generate().unwrap();
    let answer = server.enrolment().await.renew(renewal(&dora, &new)).await.unwrap().into_inner();
    let renewed = Credentials { certificate: answer.certificate, key: new.serialize_der() };
    let read = PeerCertificate::read(&renewed.certificate).unwrap();
    assert_eq!(read.identity.uri(), format!("landfall://operator/dora/{rights}"));
    server.restart().await;
    let mut operators = server.operators(&renewed).await;
    assert_eq!(operators.get_info(pb::GetInfoRequest {}).await.unwrap().into_inner().role, rights);
    // It looks at everything, and deploys to one place.
    let hosts = operators.list_hosts(pb::ListHostsRequest::default()).await.unwrap().into_inner().hosts;
    assert_eq!(hosts.len(), 2);
    let listed = operators.list_operators(pb::ListOperatorsRequest {}).await.unwrap().into_inner().operators;
    assert!(listed.iter().any(|operator| operator.name == "dora" && operator.role == rights), "{listed:?}");
    too_low(
        operators.start_rollout(start("v1")).await,
        "--role viewer,deployer:shop/production,deployer:shop/staging`",
    );
    started(&mut operators, start_in("staging", "v1", "mine")).await;
    let removal = pb::RemoveOperatorRequest { request_id: "out".to_owned(), name: "dora".to_owned() };
    server.operators(&admin).await.remove_operator(removal).await.unwrap();
    let refused = operators.get_info(pb::GetInfoRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::PermissionDenied, "REMOVED"));
    assert!(
        refused.message().contains(&format!("`ctl operators token dora --role {rights}`")),
        "{refused:?}"
    );
    server.sleep(Duration::from_secs(60));
    let another = rcgen::KeyPair::generate().unwrap();
    assert!(server.enrolment().await.renew(renewal(&renewed, &another)).await.is_err());
}

/// A version before knows roles and nothing else, and reads the store when somebody goes back to it.
#[tokio::test]
async fn what_an_earlier_version_reads_has_no_scopes() {
    let server = Server::start().await;
    let admin = server.admin().await;
    for (name, role) in
        [("dora", "deployer:shop/staging"), ("pat", "viewer,deployer:shop"), ("cy", "approver")]
    {
        server.operator(&admin, name, role).await;
    }
    let store = &server.running().context.store;
    let mut found = Vec::new();
    for (prefix, at) in [("token/", "/grant/role"), ("operator/", "/role")] {
        for entry in store.scan(prefix).await.unwrap().entries {
            let record: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
            let role = record.pointer(at).unwrap().as_str().unwrap().to_owned();
            assert!(role.parse::<landfall_common::Role>().is_ok(), "{record}");
            found.push((prefix, role));
        }
    }
    // Those of alice and cy; and of whoever has a scope no token, and the lowest role.
    let count = |what: &str| found.iter().filter(|(prefix, _)| *prefix == what).count();
    assert_eq!((count("token/"), count("operator/")), (2, 4), "{found:?}");
    assert_eq!(found.iter().filter(|(_, role)| role == "viewer").count(), 2, "{found:?}");
    // The same request for more is another one.
    let mut operators = server.operators(&admin).await;
    let request = |role: &str| pb::CreateTokenRequest {
        request_id: "once".to_owned(),
        operator: Some(pb::OperatorToken { name: "eve".to_owned(), role: role.to_owned() }),
        ..pb::CreateTokenRequest::default()
    };
    let first = operators.create_token(request("viewer:shop")).await.unwrap().into_inner();
    let again = operators.create_token(request("viewer:shop")).await.unwrap().into_inner();
    assert_eq!(first, again);
    for role in ["viewer", "deployer:shop"] {
        let used = operators.create_token(request(role)).await.unwrap_err();
        assert_eq!(&*reason(&used), "REQUEST_ID_REUSED");
    }
}

#[tokio::test]
async fn a_role_that_is_not_understood_makes_no_token() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut operators = server.operators(&admin).await;
    for (role, words) in [
        ("", "operator: a role is missing"),
        ("deploy:shop", "operator: \"deploy\" is not a role; there are viewer"),
        ("deployer:Shop", "operator: \"deployer:Shop\" does not say where it holds"),
        ("deployer:shop/*", "write deployer, deployer:APP or deployer:APP/ENV"),
        ("viewer deployer", "operator: \"viewer deployer\" is not a role"),
    ] {
        let request = pb::CreateTokenRequest {
            request_id: format!("token-{}", role.len()),
            operator: Some(pb::OperatorToken { name: "dora".to_owned(), role: role.to_owned() }),
            ..pb::CreateTokenRequest::default()
        };
        let refused = operators.create_token(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(words), "{}", refused.message());
    }
    let listed = operators.list_operators(pb::ListOperatorsRequest {}).await.unwrap().into_inner().operators;
    assert_eq!(listed.len(), 1);
}
