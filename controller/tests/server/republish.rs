//! A backup is restored, and what was published since is put back by those who saw it.

use std::collections::BTreeMap;
use std::path::Path;

use landfall_common::ReleaseName;
use landfall_controller::backup;
use landfall_controller::config::Layout;
use landfall_proto::v1 as pb;
use landfall_proto::v1::operators_client::OperatorsClient;
use landfall_trust::policy::{app_role, release_path};
use landfall_trust::{Limits, Lookup, Next, TrustError, TrustedStore, Updater};
use tonic::Code;
use tonic::transport::Channel;

use crate::fleet::{Credentials, Server, Signer, application, reason, strategy, upload};
use crate::state::back_up;

pub type Operators = OperatorsClient<Channel>;

pub async fn file(operators: &mut Operators, name: &str) -> Option<Vec<u8>> {
    let request = pb::GetRepositoryFileRequest { name: name.to_owned() };
    match operators.get_repository_file(request).await {
        Ok(answer) => Some(answer.into_inner().content),
        Err(status) if status.code() == Code::NotFound => None,
        Err(status) => panic!("{status:?}"),
    }
}

/// A client of the repository that remembers what it has seen.
pub struct Client(pub TrustedStore);

impl Client {
    pub async fn new(operators: &mut Operators) -> Self {
        Self(TrustedStore::initialise(&file(operators, "1.root.json").await.unwrap()).unwrap())
    }

    /// Whether a release is listed, after a refresh.
    pub async fn sees(
        &mut self,
        server: &Server,
        operators: &mut Operators,
        name: &str,
    ) -> Result<bool, TrustError> {
        self.sees_among(&BTreeMap::new(), server, operators, name).await
    }

    /// The same, where these files stand in the place of the controller's.
    pub async fn sees_among(
        &mut self,
        forged: &BTreeMap<String, Vec<u8>>,
        server: &Server,
        operators: &mut Operators,
        name: &str,
    ) -> Result<bool, TrustError> {
        let path = release_path(&application(), &ReleaseName::new(name).unwrap());
        let mut updater = Updater::start(self.0.clone(), server.clock().now(), Limits::default())?;
        loop {
            match updater.advance()? {
                Next::Store { name, bytes } => self.0.put(name, bytes),
                Next::Fetch(need) => match forged.get(&need.name) {
                    Some(bytes) => updater.feed(Some(bytes.clone()))?,
                    None => updater.feed(file(operators, &need.name).await)?,
                },
                Next::Ready => match updater.find(&path)? {
                    Lookup::Incomplete => {}
                    Lookup::Found(_) => return Ok(true),
                    Lookup::Absent => return Ok(false),
                },
            }
        }
    }
}

async fn restore(server: &Server, file: &Path) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("restored");
    let layout = Layout { objects: state.join("objects"), state: state.clone() };
    backup::restore(&layout, file, &server.clock()).await.unwrap();
    let restored = Server::start_in(directory, state, false).await;
    restored.sleep(server.clock().now().since(restored.clock().now()));
    restored
}

/// What an operator sends who has seen this version of the application's role.
async fn republish(
    server: &Server,
    admin: &Credentials,
    seen: &Client,
    role: Vec<u8>,
) -> Result<tonic::Response<pb::PublishRootResponse>, tonic::Status> {
    let floors = seen.0.floors().unwrap();
    let request = pb::PublishRootRequest {
        request_id: "republish".to_owned(),
        root: seen.0.get("root.json").unwrap().to_vec(),
        targets: seen.0.get("targets.json").unwrap().to_vec(),
        roles: BTreeMap::from([(app_role(&application()), role)]),
        resume: Some(pb::Resume {
            roots: Vec::new(),
            snapshot_version: floors.snapshot.unwrap().version + 7_000_000_000,
            timestamp_version: floors.timestamp.unwrap().version,
        }),
    };
    server.operators(admin).await.publish_root(request).await
}

#[tokio::test]
async fn what_was_published_after_a_backup_is_put_back_by_who_saw_it() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    signer.release(&server, &admin, "v1").await;
    let directory = tempfile::tempdir().unwrap();
    let saved = directory.path().join("backup.tar");
    back_up(&server, &saved).await;
    let (v2, objects) = signer.prepare(&server, "v2", strategy());
    let mut operators = server.operators(&admin).await;
    upload(&mut operators, &objects).await;
    operators.publish_release(v2.clone()).await.unwrap();
    let mut host = Client::new(&mut operators).await;
    assert!(host.sees(&server, &mut operators, "v2").await.unwrap());
    server.stop().await.unwrap();

    let restored = restore(&server, &saved).await;
    let admin = restored.recovered_admin().await;
    let mut operators = restored.operators(&admin).await;
    let refused = host.sees(&restored, &mut operators, "v1").await.unwrap_err();
    assert!(matches!(refused, TrustError::Rollback { .. }), "{refused}");

    republish(&restored, &admin, &host, v2.role_metadata.clone()).await.unwrap();
    assert!(host.sees(&restored, &mut operators, "v2").await.unwrap());
    // Listed, and without its content yet.
    let refused = operators.publish_release(v2.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), "MISSING_OBJECTS");
    upload(&mut operators, &objects).await;
    let answer = operators.publish_release(v2).await.unwrap().into_inner();
    assert_eq!(answer.release.unwrap().counter, 2);
    signer.release(&restored, &admin, "v3").await;
    assert!(host.sees(&restored, &mut operators, "v3").await.unwrap());
    let releases = operators.list_releases(pb::ListReleasesRequest::default()).await.unwrap().into_inner();
    assert_eq!(releases.releases.len(), 3);
}

#[tokio::test]
async fn a_release_that_was_published_after_the_restore_is_not_lost_by_it() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let directory = tempfile::tempdir().unwrap();
    let saved = directory.path().join("backup.tar");
    back_up(&server, &saved).await;
    let before = signer.role.clone();
    signer.release(&server, &admin, "v1").await;
    let (v2, objects) = signer.prepare(&server, "v2", strategy());
    let mut operators = server.operators(&admin).await;
    upload(&mut operators, &objects).await;
    operators.publish_release(v2.clone()).await.unwrap();
    let mut host = Client::new(&mut operators).await;
    assert!(host.sees(&server, &mut operators, "v2").await.unwrap());
    server.stop().await.unwrap();

    let restored = restore(&server, &saved).await;
    let admin = restored.recovered_admin().await;
    // By somebody who had not seen what came after the backup.
    signer.role = before;
    signer.release(&restored, &admin, "hotfix").await;
    let refused = republish(&restored, &admin, &host, v2.role_metadata).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Aborted, "REPOSITORY_CHANGED"));
    assert!(refused.message().contains("shop/hotfix"), "{}", refused.message());
}

#[tokio::test]
async fn a_backup_that_is_restored_twice_is_above_its_first_restore() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let directory = tempfile::tempdir().unwrap();
    let saved = directory.path().join("backup.tar");
    back_up(&server, &saved).await;
    let first = restore(&server, &saved).await;
    let admin = first.recovered_admin().await;
    let mut operators = first.operators(&admin).await;
    let mut host = Client::new(&mut operators).await;
    for name in ["v1", "v2"] {
        signer.release(&first, &admin, name).await;
    }
    assert!(host.sees(&first, &mut operators, "v2").await.unwrap());
    let floors = host.0.floors().unwrap();
    server.sleep(landfall_common::Duration::from_secs(60));
    let second = restore(&server, &saved).await;
    let admin = second.recovered_admin().await;
    let timestamp = file(&mut second.operators(&admin).await, "timestamp.json").await.unwrap();
    let version =
        serde_json::from_slice::<serde_json::Value>(&timestamp).unwrap()["signed"]["version"].as_u64();
    assert!(version.unwrap() > floors.timestamp.unwrap().version);
}
