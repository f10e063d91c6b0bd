//! Rollouts over real sessions, with agents that pretend.

use landfall_common::merkle::{CHECKPOINT_TYPE, Checkpoint, Frontier, verify_consistency};
use landfall_common::{ReleaseCounter, Sha256};
use landfall_proto::v1 as pb;
use landfall_proto::v1::operators_client::OperatorsClient;
use landfall_trust::director::verify_document;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::transport::Channel;

use crate::agent::{Agent, Memory};
use crate::fleet::{Credentials, Server, Signer, reason};

pub fn start(release: &str) -> pb::StartRolloutRequest {
    pb::StartRolloutRequest {
        request_id: format!("start-{release}"),
        application: "shop".to_owned(),
        environment: "production".to_owned(),
        release: release.to_owned(),
        changes: vec!["0123456 a change".to_owned()],
        ..pb::StartRolloutRequest::default()
    }
}

/// Follows a rollout to its end.
pub async fn follow(operators: &mut OperatorsClient<Channel>, id: &str) -> pb::Rollout {
    let request = pb::WatchRolloutRequest { rollout: id.to_owned() };
    let mut stream = operators.watch_rollout(request).await.unwrap().into_inner();
    let mut last = None;
    let end = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while let Some(message) = stream.next().await {
            last = message.unwrap().rollout;
        }
    });
    end.await.unwrap_or_else(|_| panic!("it did not end"));
    last.unwrap()
}

async fn fleet(server: &Server, admin: &Credentials, memory: &Memory) -> Vec<Agent> {
    let mut agents = Vec::new();
    for name in ["web-1", "web-2", "web-3"] {
        let host = server.enrol(admin, name).await;
        agents.push(Agent::connect(server, &host, memory.clone()).await);
    }
    agents
}

#[tokio::test]
async fn a_release_reaches_every_host_and_the_log_tells_of_it() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let _agents = fleet(&server, &admin, &Memory::default()).await;
    signer.release(&server, &admin, "v1").await;
    let mut operators = server.operators(&admin).await;
    let plan = pb::PlanRolloutRequest {
        application: "shop".to_owned(),
        environment: "production".to_owned(),
        release: "v1".to_owned(),
        ..pb::PlanRolloutRequest::default()
    };
    let plan = operators.plan_rollout(plan).await.unwrap().into_inner();
    assert_eq!(plan.batches.iter().map(|batch| batch.hosts.len()).sum::<usize>(), 3);
    assert!(plan.refusals.is_empty(), "{:?}", plan.refusals);
    let request = pb::StartRolloutRequest { plan_id: plan.plan_id, ..start("v1") };
    let begun = operators.start_rollout(request.clone()).await.unwrap().into_inner().rollout.unwrap();
    let again = operators.start_rollout(request).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(begun.id, again.id);
    let ended = follow(&mut operators, &begun.id).await;
    assert_eq!(ended.status(), pb::RolloutStatus::Succeeded, "{:?}", ended.reasons);
    assert_eq!(ended.changes, ["0123456 a change"]);
    for host in ended.batches.iter().flat_map(|batch| &batch.hosts) {
        assert_eq!(host.progress(), pb::HostProgress::Committed);
    }

    let releases = operators.list_releases(pb::ListReleasesRequest::default()).await.unwrap().into_inner();
    assert_eq!(releases.releases[0].active_in, ["production"]);
    let hosts = operators.list_hosts(pb::ListHostsRequest::default()).await.unwrap().into_inner().hosts;
    assert_eq!(hosts.len(), 3);
    assert!(hosts.iter().all(|host| host.connected && host.facts["kernel"] == "6.1"));
    assert_eq!(hosts[0].labels["zone"], "a");
    let log = operators.read_log(pb::ReadLogRequest::default()).await.unwrap().into_inner().entries;
    let kinds: Vec<_> = log.iter().map(|entry| entry.kind.as_str()).collect();
    for kind in ["host_enrolled", "release_published", "rollout_started", "rollout_finished"] {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
    let started = log.iter().find(|entry| entry.kind == "rollout_started").unwrap();
    assert_eq!((&*started.actor, &*started.origin), ("alice", "127.0.0.1"));

    // The checkpoint signs all of it, and what was read before is a prefix of it.
    let asked = pb::GetCheckpointRequest { since_size: 5 };
    let answer = operators.get_checkpoint(asked).await.unwrap().into_inner();
    let context = &server.running().context;
    let keys = [context.keys.log.public().clone()];
    let signed: Checkpoint = verify_document(CHECKPOINT_TYPE, &answer.checkpoint, &keys, 1).unwrap();
    let hash = |body: &pb::LogEntry| landfall_common::merkle::leaf_hash(&body.body);
    let mut frontier = Frontier::default();
    log.iter().take(5).for_each(|entry| drop(frontier.append(hash(entry))));
    let old = frontier.root();
    log.iter().skip(5).for_each(|entry| drop(frontier.append(hash(entry))));
    assert_eq!((signed.size, signed.root), (log.len() as u64, frontier.root()));
    let proof: Vec<Sha256> = answer
        .consistency
        .iter()
        .map(|hash| Sha256::from_bytes(hash.as_slice().try_into().unwrap()))
        .collect();
    verify_consistency(5, &old, signed.size, &signed.root, &proof).unwrap();
    landfall_controller::log::verify(&*context.store, &keys, None).await.unwrap();
    let asked = pb::GetCheckpointRequest { since_size: 1_000_000 };
    assert_eq!(operators.get_checkpoint(asked).await.unwrap_err().code(), Code::InvalidArgument);

    // Of one application, from the end.
    let asked = pb::ReadLogRequest {
        last: true,
        limit: 2,
        application: "shop".to_owned(),
        environment: "production".to_owned(),
        ..pb::ReadLogRequest::default()
    };
    let newest = operators.read_log(asked.clone()).await.unwrap().into_inner().entries;
    assert_eq!(newest.len(), 2);
    assert_eq!(newest[1].kind, "rollout_finished");
    let asked = pb::ReadLogRequest { application: "blog".to_owned(), ..asked };
    assert!(operators.read_log(asked).await.unwrap().into_inner().entries.is_empty());
}

#[tokio::test]
async fn a_second_rollout_is_refused_with_who_holds_the_place() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    server.enrol(&admin, "web-1").await;
    signer.release(&server, &admin, "v1").await;
    signer.release(&server, &admin, "v2").await;
    let mut operators = server.operators(&admin).await;
    operators.start_rollout(start("v1")).await.unwrap();
    let refused = operators.start_rollout(start("v2")).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Aborted, "ROLLOUT_IN_PROGRESS"));
    assert!(refused.message().contains("alice"), "{}", refused.message());
    let refused =
        operators.start_rollout(pb::StartRolloutRequest { release: "v9".into(), ..start("v1") }).await;
    assert_eq!(reason(&refused.unwrap_err()), "REQUEST_ID_REUSED");
    let refused = operators.start_rollout(start("v9")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn a_release_that_fails_on_the_canary_goes_back() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let memory = Memory { fails: Some("v2".to_owned()), ..Memory::default() };
    let _agents = fleet(&server, &admin, &memory).await;
    signer.release(&server, &admin, "v1").await;
    signer.release(&server, &admin, "v2").await;
    let mut operators = server.operators(&admin).await;
    for (release, end) in [("v1", pb::RolloutStatus::Succeeded), ("v2", pb::RolloutStatus::RolledBack)] {
        let begun = operators.start_rollout(start(release)).await.unwrap().into_inner().rollout.unwrap();
        let ended = follow(&mut operators, &begun.id).await;
        assert_eq!(ended.status(), end, "{ended:?}");
        if end == pb::RolloutStatus::RolledBack {
            assert!(
                ended.reasons.iter().any(|reason| reason.contains("answered 500")),
                "{:?}",
                ended.reasons
            );
            let failed =
                ended.batches.iter().flat_map(|batch| &batch.hosts).find(|host| host.failure.is_some());
            assert_eq!(failed.unwrap().failure.as_ref().unwrap().tail, ["the last line"]);
        }
    }
}

#[tokio::test]
async fn an_operator_goes_back_by_hand() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let _agents = fleet(&server, &admin, &Memory::default()).await;
    let mut operators = server.operators(&admin).await;
    for release in ["v1", "v2"] {
        signer.release(&server, &admin, release).await;
        let begun = operators.start_rollout(start(release)).await.unwrap().into_inner().rollout.unwrap();
        assert_eq!(follow(&mut operators, &begun.id).await.status(), pb::RolloutStatus::Succeeded);
    }
    let request = pb::RollbackRequest {
        request_id: "back".to_owned(),
        application: "shop".to_owned(),
        environment: "production".to_owned(),
        release: String::new(),
        reason: "too slow".to_owned(),
    };
    let begun = operators.rollback(request).await.unwrap().into_inner().rollout.unwrap();
    assert!(begun.is_rollback);
    let ended = follow(&mut operators, &begun.id).await;
    assert_eq!(ended.status(), pb::RolloutStatus::Succeeded, "{:?}", ended.reasons);
    assert_eq!(ended.to.unwrap().name, "v1");
}

#[tokio::test]
async fn what_is_below_the_signed_floor_is_refused_before_it_begins() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let _agents = fleet(&server, &admin, &Memory::default()).await;
    let mut operators = server.operators(&admin).await;
    for release in ["v1", "v2", "v3"] {
        signer.release(&server, &admin, release).await;
        let begun = operators.start_rollout(start(release)).await.unwrap().into_inner().rollout.unwrap();
        assert_eq!(follow(&mut operators, &begun.id).await.status(), pb::RolloutStatus::Succeeded);
    }
    signer.raise_floor(&server, &admin, ReleaseCounter(2)).await;
    let back_to = |release: &str| pb::RollbackRequest {
        request_id: format!("back-to-{release}"),
        application: "shop".to_owned(),
        environment: "production".to_owned(),
        release: release.to_owned(),
        reason: String::new(),
    };
    let refused = operators.rollback(back_to("v1")).await.unwrap_err();
    assert_eq!(reason(&refused), "BELOW_FLOOR");
    insta::assert_snapshot!(refused.message(), @"v1 of shop is number 1, and the signed floor is number 2 (v2): every host refuses what is below, also to go back, and a floor only rises. What v1 holds can be released again under a new name");
    let listed = operators.list_rollouts(pb::ListRolloutsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.rollouts.len(), 3, "nothing has begun");
    // The floor itself may be gone back to; from there nothing is left.
    let begun = operators.rollback(back_to("")).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(follow(&mut operators, &begun.id).await.to.unwrap().name, "v2");
    assert_eq!(reason(&operators.rollback(back_to("")).await.unwrap_err()), "BELOW_FLOOR");
}

#[tokio::test]
async fn a_rollout_waits_with_its_reason_and_is_paused_resumed_and_aborted() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    server.enrol(&admin, "web-1").await;
    signer.release(&server, &admin, "v1").await;
    let mut operators = server.operators(&admin).await;
    let id = operators.start_rollout(start("v1")).await.unwrap().into_inner().rollout.unwrap().id;
    let control = |control: pb::Control| pb::ControlRolloutRequest {
        request_id: format!("c-{}", i32::from(control)),
        rollout: id.clone(),
        control: control.into(),
        reason: "lunch".to_owned(),
    };
    let reasons = loop {
        let request = pb::GetRolloutRequest { rollout: id.clone() };
        let rollout = operators.get_rollout(request).await.unwrap().into_inner().rollout.unwrap();
        if !rollout.reasons.is_empty() {
            break rollout.reasons;
        }
        tokio::task::yield_now().await;
    };
    assert!(reasons.iter().any(|reason| reason.contains("web-1")), "{reasons:?}");
    for (asked, expected) in [
        (pb::Control::Pause, pb::RolloutStatus::Paused),
        (pb::Control::Resume, pb::RolloutStatus::Staging),
        (pb::Control::Abort, pb::RolloutStatus::Aborted),
    ] {
        let answer = operators.control_rollout(control(asked)).await.unwrap().into_inner().rollout.unwrap();
        assert_eq!(answer.status(), expected, "{answer:?}");
    }
    let refused = operators.control_rollout(control(pb::Control::Unspecified)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_rollout_goes_on_after_a_restart_in_the_middle() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let (one, two) = (server.enrol(&admin, "web-1").await, server.enrol(&admin, "web-2").await);
    signer.release(&server, &admin, "v1").await;
    // One host is there, the other is not: the rollout waits for it.
    let agent = Agent::connect(&server, &one, Memory::default()).await;
    let mut operators = server.operators(&admin).await;
    let id = operators.start_rollout(start("v1")).await.unwrap().into_inner().rollout.unwrap().id;
    let staged = |rollout: &pb::Rollout| {
        rollout
            .batches
            .iter()
            .flat_map(|batch| &batch.hosts)
            .any(|host| host.progress() == pb::HostProgress::Staged)
    };
    loop {
        let request = pb::GetRolloutRequest { rollout: id.clone() };
        if staged(&operators.get_rollout(request).await.unwrap().into_inner().rollout.unwrap()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    server.restart().await;
    let memory = agent.ended().await;
    let _one = Agent::connect(&server, &one, memory).await;
    let _two = Agent::connect(&server, &two, Memory::default()).await;
    let mut operators = server.operators(&admin).await;
    let ended = follow(&mut operators, &id).await;
    assert_eq!(ended.status(), pb::RolloutStatus::Succeeded, "{:?}", ended.reasons);
}
