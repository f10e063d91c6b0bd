//! Who waits for a place, and who has locked it.

use landfall_proto::v1 as pb;
use tonic::Code;

use crate::fleet::{Server, Signer, reason};
use crate::rollouts::start;

fn queued(release: &str) -> pb::StartRolloutRequest {
    pb::StartRolloutRequest { if_held: pb::IfHeld::Queue.into(), ..start(release) }
}

pub fn lock(message: &str, minutes: u64) -> pb::LockEnvironmentRequest {
    pb::LockEnvironmentRequest {
        request_id: format!("lock-{}-{minutes}", message.len()),
        application: "shop".to_owned(),
        environment: "production".to_owned(),
        message: message.to_owned(),
        valid_for_ms: minutes * 60_000,
    }
}

#[tokio::test]
async fn a_rollout_stands_in_line_over_a_restart_and_leaves_it() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    server.enrol(&admin, "web-1").await;
    for release in ["v1", "v2", "v3"] {
        signer.release(&server, &admin, release).await;
    }
    let mut operators = server.operators(&admin).await;
    let first = operators.start_rollout(start("v1")).await.unwrap().into_inner().rollout.unwrap();
    let second = operators.start_rollout(queued("v2")).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!((second.status(), second.in_line), (pb::RolloutStatus::Pending, true));
    assert!(second.reasons[0].contains(&first.id), "{:?}", second.reasons);
    server.restart().await;
    let mut operators = server.operators(&admin).await;
    let again = operators.start_rollout(queued("v2")).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(again.id, second.id);
    let listed = operators.list_environments(pb::ListEnvironmentsRequest::default()).await.unwrap();
    let place = &listed.into_inner().environments[0];
    assert_eq!((&place.rollout, &place.queue), (&first.id, &vec![second.id.clone()]));
    // Nobody is connected: what is under way is ended, and the next one begins by itself.
    let abort = pb::ControlRolloutRequest {
        request_id: "abort-1".to_owned(),
        rollout: first.id.clone(),
        control: pb::Control::Abort.into(),
        reason: String::new(),
    };
    operators.control_rollout(abort).await.unwrap();
    let begun = async {
        loop {
            let request = pb::GetRolloutRequest { rollout: second.id.clone() };
            let now = operators.get_rollout(request).await.unwrap().into_inner().rollout.unwrap();
            if now.status() == pb::RolloutStatus::Staging {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), begun).await.expect("it begins");
    let supersedes = pb::StartRolloutRequest { if_held: pb::IfHeld::Supersede.into(), ..start("v3") };
    operators.start_rollout(supersedes).await.unwrap();
    let request = pb::GetRolloutRequest { rollout: second.id.clone() };
    let ended = operators.get_rollout(request).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(ended.status(), pb::RolloutStatus::Superseded);
}

#[tokio::test]
async fn a_lock_refuses_with_its_message_and_ends_by_itself() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    server.enrol(&admin, "web-1").await;
    signer.release(&server, &admin, "v1").await;
    let mut operators = server.operators(&admin).await;
    let unlock = pb::UnlockEnvironmentRequest {
        request_id: "unlock-1".to_owned(),
        application: "shop".to_owned(),
        environment: "production".to_owned(),
        reason: String::new(),
    };
    let refused = operators.unlock_environment(unlock.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{}", refused.message());
    for wrong in [lock("", 10), lock("audit", 0), lock("audit", 31 * 24 * 60)] {
        let refused = operators.lock_environment(wrong).await.unwrap_err();
        assert!(refused.message().contains("1m to 30d"), "{}", refused.message());
    }
    let locked = operators.lock_environment(lock("audit", 10)).await.unwrap().into_inner();
    assert_eq!(locked.environment.unwrap().lock.unwrap().by, "alice");
    let refused = operators.start_rollout(start("v1")).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Aborted, "LOCKED"));
    assert!(refused.message().contains("audit"), "{}", refused.message());
    operators.unlock_environment(unlock).await.unwrap();
    operators.lock_environment(lock("audit again", 10)).await.unwrap();
    server.sleep(landfall_common::Duration::from_secs(11 * 60));
    operators.start_rollout(start("v1")).await.unwrap();
}
