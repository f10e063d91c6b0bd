//! The state directory: damaged, shared, saved and restored.

use landfall_common::OperatorName;
use landfall_controller::asker::Asker;
use landfall_controller::clock::Clock;
use landfall_controller::config::Retention;
use landfall_controller::serve;
use landfall_controller::{ControllerError, backup, initialise};
use landfall_proto::v1 as pb;

use crate::agent::{Agent, Memory};
use crate::fleet::{Server, Signer, reason};
use crate::rollouts::{follow, start};

async fn refused(layout: landfall_controller::config::Layout) -> ControllerError {
    let listener = serve::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    serve::start(layout, Retention::default(), Asker::default(), listener, address, Clock::system())
        .await
        .err()
        .expect("it started")
}

#[tokio::test]
async fn a_second_controller_on_the_same_state_is_refused() {
    let server = Server::start().await;
    let error = refused(server.layout.clone()).await.chain();
    assert!(error.contains("in use by another controller"), "{error}");
}

#[tokio::test]
async fn an_empty_state_directory_says_what_to_do_and_a_used_one_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let layout = landfall_controller::config::Layout { objects: state.join("objects"), state };
    assert!(refused(layout.clone()).await.chain().contains("init"));
    let name = || OperatorName::new("alice").unwrap();
    initialise::initialise(&layout, name(), &Clock::system()).await.unwrap();
    let again = initialise::initialise(&layout, name(), &Clock::system()).await.unwrap_err();
    assert!(again.to_string().contains("operator-token"), "{again}");
}

#[tokio::test]
async fn a_taken_port_is_told_as_one() {
    let server = Server::start().await;
    let error = serve::bind(server.address).unwrap_err();
    assert!(error.to_string().contains("another program has this port"), "{error}");
}

#[tokio::test]
async fn a_damaged_index_is_rebuilt_from_the_journal() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    signer.release(&server, &admin, "v1").await;
    server.stop().await.unwrap();
    let index = server.layout.state.join("index");
    for entry in std::fs::read_dir(&index).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::write(path, b"rubbish").unwrap();
        }
    }
    let layout = server.layout.clone();
    let listener = serve::bind(([127, 0, 0, 1], 0).into()).unwrap();
    server.address = listener.local_addr().unwrap();
    let running = serve::start(
        layout,
        Retention::default(),
        Asker::default(),
        listener,
        server.address,
        server.clock(),
    )
    .await
    .unwrap();
    let releases =
        server.operators(&admin).await.list_releases(pb::ListReleasesRequest::default()).await.unwrap();
    assert_eq!(releases.into_inner().releases.len(), 1);
    running.stop().await.unwrap();
}

type Operators = pb::operators_client::OperatorsClient<tonic::transport::Channel>;

/// The version of the timestamp, and that of the snapshot that it vouches for and that is there.
async fn online_versions(operators: &mut Operators) -> (u64, u64) {
    let mut file = async |name: String| {
        let request = pb::GetRepositoryFileRequest { name };
        let content = operators.get_repository_file(request).await.unwrap().into_inner().content;
        serde_json::from_slice::<serde_json::Value>(&content).unwrap()["signed"].clone()
    };
    let timestamp = file("timestamp.json".to_owned()).await;
    let snapshot = timestamp["meta"]["snapshot.json"]["version"].as_u64().unwrap();
    assert_eq!(file(format!("{snapshot}.snapshot.json")).await["version"], snapshot);
    (timestamp["version"].as_u64().unwrap(), snapshot)
}

/// A backup through the running controller, as the command does it.
pub async fn back_up(server: &Server, file: &std::path::Path) {
    let (socket, target) = (server.layout.admin_socket(), file.to_owned());
    tokio::task::spawn_blocking(move || {
        use std::io::Read as _;
        let request = landfall_controller::admin::Request::Backup { without_objects: false };
        let (_, mut stream) = landfall_controller::admin::ask(&socket, &request).unwrap().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(1));
        std::fs::write(target, bytes).unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_restored_controller_waits_for_an_operator_and_goes_on_above_what_its_agents_report() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let host = server.enrol(&admin, "web-1").await;
    let agent = Agent::connect(&server, &host, Memory::default()).await;
    signer.release(&server, &admin, "v1").await;
    let mut operators = server.operators(&admin).await;
    let begun = operators.start_rollout(start("v1")).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(follow(&mut operators, &begun.id).await.status(), pb::RolloutStatus::Succeeded);
    let unused = operators.create_token(operator_token("bob")).await.unwrap().into_inner();

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.tar");
    back_up(&server, &file).await;

    // After the backup the agent has gone further than the backup knows.
    signer.release(&server, &admin, "v2").await;
    let begun = operators.start_rollout(start("v2")).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(follow(&mut operators, &begun.id).await.status(), pb::RolloutStatus::Succeeded);
    let before = online_versions(&mut operators).await;
    server.stop().await.unwrap();
    let memory = agent.ended().await;
    let reported = memory.report.generation;

    let state = directory.path().join("restored");
    let layout = landfall_controller::config::Layout { objects: state.join("objects"), state: state.clone() };
    let told = backup::restore(&layout, &file, &server.clock()).await.unwrap().to_string();
    for part in
        ["shop in production", "v1 was in force", "ctl release NAME --env production", "operator-token"]
    {
        assert!(told.contains(part), "{told}");
    }
    let again = backup::restore(&layout, &file, &server.clock()).await.unwrap_err();
    assert!(matches!(again, ControllerError::RestoreOverState { .. }), "{again}");

    let restored = Server::start_in(directory, state, false).await;
    // Whoever was shut out after the backup is not let in again by it.
    let refused = restored.operators(&admin).await.list_hosts(pb::ListHostsRequest::default()).await;
    assert_eq!(reason(&refused.unwrap_err()), "REMOVED");
    let refused = restored.join(&unused.token_id, &unused.secret, "").await.err().unwrap();
    assert_eq!(reason(&refused), "TOKEN_INVALID");
    let admin = restored.recovered_admin().await;
    let mut operators = restored.operators(&admin).await;
    let releases = operators.list_releases(pb::ListReleasesRequest::default()).await.unwrap().into_inner();
    assert_eq!(releases.releases.len(), 1);
    // Whoever has seen what was signed after the backup would take anything lower for an attack.
    let after = online_versions(&mut operators).await;
    assert!(after.0 > before.0 && after.1 > before.1, "{after:?} after {before:?}");
    let request = pb::GetReleaseRequest { application: "shop".to_owned(), name: "v1".to_owned() };
    assert!(!operators.get_release(request).await.unwrap().into_inner().manifest.is_empty());
    let agent = Agent::connect(&restored, &host, memory).await;
    // The release in force in the backup is v1. That the host should go back to it nobody has said.
    let context = restored.running().context.clone();
    let held = async || {
        let report = context.reactor.read(|view| view.report.sentences()).await.unwrap();
        report.into_values().flatten().find(|sentence| sentence.contains("left alone"))
    };
    let sentence = loop {
        if let Some(sentence) = held().await {
            break sentence;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(sentence.contains("restored from a backup"), "{sentence}");
    let hosts = operators.list_hosts(pb::ListHostsRequest::default()).await.unwrap().into_inner().hosts;
    let report = hosts[0].report.clone().unwrap();
    assert_eq!((report.active.unwrap().name, report.generation), ("v2".to_owned(), reported));
    let begun = pb::StartRolloutRequest { request_id: "again".to_owned(), ..start("v1") };
    let begun = operators.start_rollout(begun).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(follow(&mut operators, &begun.id).await.status(), pb::RolloutStatus::Succeeded);
    let memory = agent.disconnect().await;
    assert_eq!(memory.report.active.unwrap().name, "v1");
    assert!(memory.report.generation > reported);
    let log = operators.read_log(pb::ReadLogRequest::default()).await.unwrap().into_inner().entries;
    assert!(log.iter().any(|entry| entry.kind == "state_restored"));
}

fn operator_token(name: &str) -> pb::CreateTokenRequest {
    pb::CreateTokenRequest {
        request_id: format!("token-{name}"),
        operator: Some(pb::OperatorToken { name: name.to_owned(), role: "deployer".to_owned() }),
        ..pb::CreateTokenRequest::default()
    }
}

fn files(directory: &std::path::Path) -> usize {
    std::fs::read_dir(directory).map_or(0, |entries| entries.count())
}

#[tokio::test]
async fn a_file_that_is_no_backup_restores_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let layout = landfall_controller::config::Layout { objects: state.join("objects"), state };
    let file = directory.path().join("file");
    for content in [b"no tar".to_vec(), vec![0; 1024], vec![b'x'; 5000], Vec::new()] {
        std::fs::write(&file, content).unwrap();
        let refused = backup::restore(&layout, &file, &Clock::system()).await.unwrap_err().to_string();
        assert!(refused.contains("was not written by `landfall-controller backup`"), "{refused}");
        assert_eq!(files(&layout.state), 0);
    }
}

/// A backup of a controller at work: uploads are half way, and a key is being replaced.
#[tokio::test]
async fn a_backup_holds_what_a_controller_needs_and_a_damaged_one_restores_nothing() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    signer.release(&server, &admin, "v1").await;
    let digest = landfall_common::Sha256::of(b"half").to_string();
    let shard = server.layout.objects.join(&digest[..2]);
    std::fs::create_dir_all(&shard).unwrap();
    std::fs::write(shard.join(format!("{digest}.zst#1")), "half of it").unwrap();
    std::fs::write(server.layout.objects.join("unsynced"), "").unwrap();
    std::fs::write(server.layout.keys().join("director.key.new"), "half of it").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.tar");
    back_up(&server, &file).await;
    let whole = std::fs::read(&file).unwrap();

    let state = directory.path().join("restored");
    std::fs::create_dir(&state).unwrap();
    let layout = landfall_controller::config::Layout { objects: state.join("objects"), state: state.clone() };
    // Cut off, even where a file of it ends, and damaged in the middle.
    let mut cuts: Vec<_> =
        (1..whole.len() / 512).step_by(7).map(|blocks| whole[..blocks * 512].to_vec()).collect();
    let mut damaged = whole.clone();
    damaged[600..700].fill(b'x');
    cuts.push(damaged);
    for content in cuts {
        std::fs::write(&file, &content).unwrap();
        backup::restore(&layout, &file, &server.clock()).await.unwrap_err();
        assert_eq!(files(&state), 0, "after {} of {} bytes", content.len(), whole.len());
    }
    // Of another build, which took in whatever lay there.
    let mut old = tar::Builder::new(Vec::new());
    let mut archive = tar::Archive::new(whole.as_slice());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let (mut header, path) = (entry.header().clone(), entry.path().unwrap().into_owned());
        assert!(!path.to_string_lossy().contains(['#', 'w']), "{} is of no use", path.display());
        old.append_data(&mut header, &path, &mut entry).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    let name = format!("objects/{}/{digest}.zst#1", &digest[..2]);
    old.append_data(&mut header, &name, b"half".as_slice()).unwrap();
    std::fs::write(&file, old.into_inner().unwrap()).unwrap();
    let restored = backup::restore(&layout, &file, &server.clock()).await.unwrap();
    assert!(
        restored
            .to_string()
            .contains(&format!("Left out, since it is no part of a controller's state: {name}"))
    );
    let restored = Server::start_in(directory, state, false).await;
    let admin = restored.recovered_admin().await;
    let request = pb::GetReleaseRequest { application: "shop".to_owned(), name: "v1".to_owned() };
    let mut operators = restored.operators(&admin).await;
    assert!(!operators.get_release(request).await.unwrap().into_inner().manifest.is_empty());
}
