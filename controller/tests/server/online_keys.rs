//! New online keys after the controller was in other hands: the hosts come back from the versions that it made up.

use std::collections::BTreeMap;

use landfall_controller::keys::OnlineKeys;
use landfall_proto::v1 as pb;
use landfall_trust::metadata::{MetaFile, Root, Snapshot, Timestamp, file_name};
use landfall_trust::policy::app_role;
use landfall_trust::{PublicKey, Signed, TrustError};

use crate::fleet::{Server, Signer, YEAR, application, signed};
use crate::republish::Client;

/// What somebody publishes who has the online keys and wants the hosts never to take anything again: the list of
/// releases at a version that the honest repository will never reach.
fn fast_forward(host: &Client, keys: &OnlineKeys) -> BTreeMap<String, Vec<u8>> {
    let stored = |name: &str| host.0.get(name).unwrap().to_vec();
    let mut snapshot = Signed::<Snapshot>::read("snapshot", stored("snapshot.json")).unwrap().body;
    snapshot.header.version += 1;
    snapshot.meta.get_mut(&format!("{}.json", app_role(&application()))).unwrap().version = 1 << 60;
    let version = snapshot.header.version;
    let snapshot = signed(&snapshot, &keys.snapshot);
    let mut timestamp = Signed::<Timestamp>::read("timestamp", stored("timestamp.json")).unwrap().body;
    timestamp.header.version = 1 << 60;
    timestamp.meta.insert("snapshot.json".to_owned(), MetaFile::of(version, &snapshot));
    BTreeMap::from([
        (file_name("snapshot", Some(version)), snapshot),
        ("timestamp.json".to_owned(), signed(&timestamp, &keys.timestamp)),
    ])
}

#[tokio::test]
async fn hosts_come_back_from_versions_made_up_with_the_online_keys() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    signer.release(&server, &admin, "v1").await;
    let mut operators = server.operators(&admin).await;
    let mut host = Client::new(&mut operators).await;
    assert!(host.sees(&server, &mut operators, "v1").await.unwrap());
    let stolen = OnlineKeys::open(&server.layout.keys()).unwrap();
    let forged = fast_forward(&host, &stolen);
    host.sees_among(&forged, &server, &mut operators, "v1").await.unwrap_err();
    let refused = host.sees(&server, &mut operators, "v1").await.unwrap_err();
    assert!(matches!(refused, TrustError::Rollback { .. }), "{refused}");

    OnlineKeys::renew(&server.layout.keys()).unwrap();
    server.restart().await;
    let mut operators = server.operators(&admin).await;
    let info = operators.get_info(pb::GetInfoRequest {}).await.unwrap().into_inner();
    let key = |text: &str| serde_json::from_str::<PublicKey>(text).unwrap();
    let (snapshot, timestamp) = (key(&info.snapshot_key), key(&info.timestamp_key));
    assert_ne!(snapshot.keyid(), *stolen.snapshot.keyid());
    // Until root names the new keys the old ones sign: who was not lied to misses nothing.
    signer.release(&server, &admin, "v2").await;
    let mut other = Client::new(&mut operators).await;
    assert!(other.sees(&server, &mut operators, "v2").await.unwrap());

    let root = Signed::<Root>::read("root", host.0.get("root.json").unwrap().to_vec()).unwrap().body;
    let mut next = root.next(server.clock().now() + YEAR);
    next.set_role("snapshot", &[snapshot], 1);
    next.set_role("timestamp", &[timestamp], 1);
    let request = pb::PublishRootRequest {
        request_id: "online".to_owned(),
        root: signed(&next, &signer.root),
        targets: Vec::new(),
        roles: Default::default(),
        resume: None,
    };
    operators.publish_root(request).await.unwrap();
    for client in [&mut host, &mut other] {
        assert!(client.sees(&server, &mut operators, "v2").await.unwrap());
    }
    signer.release(&server, &admin, "v3").await;
    assert!(host.sees(&server, &mut operators, "v3").await.unwrap());
    // The stolen keys are good for nothing.
    let forged = fast_forward(&host, &stolen);
    let refused = host.sees_among(&forged, &server, &mut operators, "v3").await.unwrap_err();
    assert!(matches!(refused, TrustError::Unsigned { .. }), "{refused}");
    server.restart().await;
    let mut operators = server.operators(&admin).await;
    assert!(host.sees(&server, &mut operators, "v3").await.unwrap());
}
