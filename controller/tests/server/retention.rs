//! The files of old releases go, and come back when somebody wants them; old rollouts are forgotten.

use landfall_common::{Duration, Sha256};
use landfall_controller_core::timing;
use landfall_proto::v1 as pb;
use landfall_proto::v1::operators_client::OperatorsClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::agent::{Agent, Memory};
use crate::fleet::{Server, Signer, reason, strategy, upload};
use crate::rollouts::{follow, start};

type Operators = OperatorsClient<Channel>;

async fn release(operators: &mut Operators, name: &str) -> pb::Release {
    let request = pb::GetReleaseRequest { application: "shop".to_owned(), name: name.to_owned() };
    operators.get_release(request).await.unwrap().into_inner().release.unwrap()
}

async fn is_here(operators: &mut Operators, content: &str) -> bool {
    let digests = vec![Sha256::of(content.as_bytes()).to_string()];
    let answer = operators.missing_objects(pb::MissingObjectsRequest { digests }).await.unwrap();
    answer.into_inner().missing.is_empty()
}

fn rollback(release: &str) -> pb::RollbackRequest {
    pb::RollbackRequest {
        request_id: format!("back-{release}-{}", rand::random::<u64>()),
        application: "shop".to_owned(),
        environment: "production".to_owned(),
        release: release.to_owned(),
        reason: String::new(),
    }
}

async fn rolled_out(operators: &mut Operators, name: &str) {
    let begun = operators.start_rollout(start(name)).await.unwrap().into_inner().rollout.unwrap();
    let ended = follow(operators, &begun.id).await;
    assert_eq!(ended.status(), pb::RolloutStatus::Succeeded, "{name}: {:?}", ended.reasons);
}

#[tokio::test]
async fn the_files_of_releases_that_nobody_goes_back_to_are_removed_and_can_be_brought_back() {
    let mut server = Server::start().await;
    server.retention.releases = 2;
    server.restart().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let host = server.enrol(&admin, "web-1").await;
    let agent = Agent::connect(&server, &host, Memory::default()).await;
    let mut operators = server.operators(&admin).await;
    let (first, objects) = signer.prepare(&server, "v1", strategy());
    upload(&mut operators, &objects).await;
    operators.publish_release(first.clone()).await.unwrap();
    rolled_out(&mut operators, "v1").await;
    // The definition lets hosts keep five, and the controller keeps no fewer.
    for name in ["v2", "v3", "v4", "v5", "v6", "v7"] {
        signer.release(&server, &admin, name).await;
        rolled_out(&mut operators, name).await;
    }
    let count = operators.get_info(pb::GetInfoRequest {}).await.unwrap().into_inner().objects;
    assert_eq!(count, None, "nothing is decided right after a start");

    // The grace of what was uploaded is not over yet: the decision stands, and nothing is gone.
    server.sleep(Duration::from_secs(3600));
    server.running().chores.round().await;
    assert!(release(&mut operators, "v1").await.removed_ms > 0);
    assert_eq!(release(&mut operators, "v3").await.removed_ms, 0);
    let count = operators.get_info(pb::GetInfoRequest {}).await.unwrap().into_inner().objects.unwrap();
    assert_eq!((count.releases, count.keep_releases, count.grace_ms), (5, 2, 86_400_000));
    // Five kept releases with a file, a directory and a manifest each, and the manifests of the others.
    assert_eq!(count.kept, 17);
    assert!(count.freeable_bytes > 0 && count.kept_bytes > 0 && count.held_up.is_empty());
    assert!(is_here(&mut operators, "this is v1").await);

    server.sleep(Duration::from_secs(5 * 86_400));
    server.running().chores.round().await;
    drop(agent.disconnect().await);
    server.admin_token = crate::releases::renewed_token(&server).await;
    let admin = server.admin().await;
    let mut operators = server.operators(&admin).await;
    let count = operators.get_info(pb::GetInfoRequest {}).await.unwrap().into_inner().objects.unwrap();
    assert_eq!((count.kept, count.freeable_bytes), (17, 0));
    for (content, here) in [("this is v1", false), ("this is v2", false), ("this is v3", true)] {
        assert_eq!(is_here(&mut operators, content).await, here, "{content}");
    }

    // It is still listed, says so, and is refused before anything begins, with the command that helps.
    let listed = operators.list_releases(pb::ListReleasesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.releases.iter().filter(|release| release.removed_ms > 0).count(), 2);
    let refused = operators.rollback(rollback("v1")).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::FailedPrecondition, "CONTENT_REMOVED"));
    assert!(refused.message().contains("`ctl release v1 --publish-only`"), "{}", refused.message());
    let log = operators.read_log(pb::ReadLogRequest::default()).await.unwrap().into_inner().entries;
    assert_eq!(log.iter().filter(|entry| entry.kind == "content_removed").count(), 2);

    // Across a restart, too.
    server.restart().await;
    let mut operators = server.operators(&admin).await;
    assert_eq!(reason(&operators.rollback(rollback("v1")).await.unwrap_err()), "CONTENT_REMOVED");
    let role = signer.role.next(server.clock().now() + crate::fleet::YEAR);
    let again = pb::PublishReleaseRequest {
        request_id: "publish-v1-again".to_owned(),
        role_metadata: crate::fleet::signed(&role, &signer.release),
        ..first
    };
    let refused = operators.publish_release(again.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), "MISSING_OBJECTS");
    upload(&mut operators, &objects).await;
    assert!(operators.publish_release(again).await.unwrap().into_inner().existed);
    assert_eq!(release(&mut operators, "v1").await.removed_ms, 0);
    operators.rollback(rollback("v1")).await.unwrap();
}

#[tokio::test]
async fn a_damaged_object_is_told_of_and_uploaded_again() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let (request, objects) = signer.prepare(&server, "v1", strategy());
    let mut operators = server.operators(&admin).await;
    upload(&mut operators, &objects).await;
    operators.publish_release(request).await.unwrap();
    let host = server.enrol(&admin, "web-1").await;
    let mut agents = server.agents(&host).await;
    let digest = Sha256::of(&objects[0]).to_string();
    let stored = server.layout.objects.join(&digest[..2]).join(format!("{digest}.zst"));
    std::fs::write(stored, b"rot").unwrap();
    assert_eq!(release(&mut operators, "v1").await.damaged_objects, 0, "nobody has looked yet");

    let objects_wanted = vec![pb::ObjectRange { digest: digest.clone(), offset: 0 }];
    let wanted = pb::FetchObjectsRequest { objects: objects_wanted };
    let refused =
        agents.fetch_objects(wanted.clone()).await.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::NotFound, "OBJECT_DAMAGED"));
    assert!(refused.message().contains("uploads it again"), "{}", refused.message());
    assert_eq!(release(&mut operators, "v1").await.damaged_objects, 1);
    server.sleep(Duration::from_secs(3600));
    server.running().chores.round().await;
    let count = operators.get_info(pb::GetInfoRequest {}).await.unwrap().into_inner().objects.unwrap();
    assert_eq!(count.damaged_releases, ["shop v1"]);

    upload(&mut operators, &objects).await;
    assert_eq!(release(&mut operators, "v1").await.damaged_objects, 0);
    let chunk = agents.fetch_objects(wanted).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(zstd::bulk::decompress(&chunk.data, 100).unwrap(), objects[0]);
}

#[tokio::test]
async fn the_log_of_a_forgotten_rollout_is_still_found_by_its_place() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    server.enrol(&admin, "web-1").await;
    let mut operators = server.operators(&admin).await;
    signer.release(&server, &admin, "v1").await;
    let mut first = None;
    for number in 0..timing::ROLLOUTS_KEPT + 2 {
        let request = pb::StartRolloutRequest { request_id: format!("start-{number}"), ..start("v1") };
        let begun = operators.start_rollout(request).await.unwrap().into_inner().rollout.unwrap();
        let abort = pb::ControlRolloutRequest {
            request_id: format!("abort-{number}"),
            rollout: begun.id.clone(),
            control: pb::Control::Abort.into(),
            reason: String::new(),
        };
        operators.control_rollout(abort).await.unwrap();
        first.get_or_insert(begun.id);
    }
    let first = first.unwrap();
    server.sleep(timing::REQUEST_KEPT + Duration::from_secs(1));
    server.admin_token = crate::releases::renewed_token(&server).await;
    let admin = server.admin().await;
    let mut operators = server.operators(&admin).await;
    let request = pb::StartRolloutRequest { request_id: "the-last".to_owned(), ..start("v1") };
    operators.start_rollout(request).await.unwrap();
    let forgotten =
        operators.get_rollout(pb::GetRolloutRequest { rollout: first.clone() }).await.unwrap_err();
    assert_eq!(forgotten.code(), Code::NotFound);
    let context = &server.running().context;
    assert!(context.store.get(&format!("changes/{first}")).await.unwrap().is_none());
    let aborted = async |application: &str| {
        let mut operators = server.operators(&admin).await;
        let asked = pb::ReadLogRequest {
            limit: 1000,
            application: application.to_owned(),
            environment: "production".to_owned(),
            ..pb::ReadLogRequest::default()
        };
        let entries = operators.read_log(asked).await.unwrap().into_inner().entries;
        entries.iter().filter(|entry| entry.kind == "rollout_aborted").count()
    };
    assert_eq!(aborted("shop").await, timing::ROLLOUTS_KEPT + 2);
    assert_eq!(aborted("blog").await, 0);
}
