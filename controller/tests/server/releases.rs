//! Publishing, and everything that is refused on the way.

use landfall_common::{Duration, Sha256};
use landfall_proto::v1 as pb;
use landfall_trust::metadata::Targets;
use landfall_trust::policy::app_role;
use landfall_trust::{KeyPair, Signed};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::fleet::{Server, Signer, YEAR, application, reason, signed, strategy, upload};

async fn file(server: &Server, credentials: &crate::fleet::Credentials, name: &str) -> Option<Vec<u8>> {
    let request = pb::GetRepositoryFileRequest { name: name.to_owned() };
    let answer = server.operators(credentials).await.get_repository_file(request).await;
    answer.ok().map(|answer| answer.into_inner().content)
}

#[tokio::test]
async fn a_published_release_is_listed_and_its_objects_reach_a_host() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let published = signer.release(&server, &admin, "v1").await;
    assert!(!published.existed);
    let release = published.release.unwrap();
    assert_eq!((&*release.name, release.counter), ("v1", 1));

    let mut operators = server.operators(&admin).await;
    let listed =
        operators.list_releases(pb::ListReleasesRequest::default()).await.unwrap().into_inner().releases;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].file_count, listed[0].total_bytes), (1, 10));
    assert_eq!((&*listed[0].author, &*listed[0].notes), ("Alice", "notes of v1"));
    let request = pb::GetReleaseRequest { application: "shop".to_owned(), name: "v1".to_owned() };
    let got = operators.get_release(request).await.unwrap().into_inner();
    assert_eq!(Sha256::of(&got.manifest).to_string(), release.digest);

    // A host gets the manifest and a file, from any offset.
    let host = server.enrol(&admin, "web-1").await;
    let mut agents = server.agents(&host).await;
    let content = b"this is v1";
    let digest = Sha256::of(content).to_string();
    let ranges = vec![
        pb::ObjectRange { digest: release.digest, offset: 0 },
        pb::ObjectRange { digest: digest.clone(), offset: 0 },
        pb::ObjectRange { digest: digest.clone(), offset: 5 },
    ];
    let request = pb::FetchObjectsRequest { objects: ranges };
    let chunks: Vec<_> =
        agents.fetch_objects(request).await.unwrap().into_inner().map(Result::unwrap).collect().await;
    assert_eq!(chunks.len(), 3);
    assert_eq!(zstd::bulk::decompress(&chunks[1].data, 100).unwrap(), content);
    assert_eq!(chunks[1].data[5..], chunks[2].data);
    assert!(chunks.iter().all(|chunk| chunk.last));
    // What is here comes before the one that is missing is told of.
    let wanted = [digest.clone(), Sha256::of(b"none").to_string(), digest.clone()];
    let objects = wanted.map(|digest| pb::ObjectRange { digest, offset: 0 }).to_vec();
    let request = pb::FetchObjectsRequest { objects };
    let mut stream = agents.fetch_objects(request).await.unwrap().into_inner();
    assert_eq!(stream.next().await.unwrap().unwrap().digest, digest);
    let missing = stream.next().await.unwrap().unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert!(missing.message().contains(&Sha256::of(b"none").to_string()), "{}", missing.message());

    let got: Vec<_> = operators
        .get_object(pb::GetObjectRequest { digest, application: "shop".to_owned() })
        .await
        .unwrap()
        .into_inner()
        .map(|message| message.unwrap().data)
        .collect()
        .await;
    assert_eq!(got.concat(), content);
}

#[tokio::test]
async fn publishing_again_changes_nothing_and_other_content_is_refused() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let (request, objects) = signer.prepare(&server, "v1", strategy());
    let mut operators = server.operators(&admin).await;

    let refused = operators.publish_release(request.clone()).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::FailedPrecondition, "MISSING_OBJECTS"));
    upload(&mut operators, &objects).await;
    // A signature by somebody who may not sign is no harm and no merit.
    let mut request = request;
    let mut envelope = landfall_trust::Envelope::parse("role", &request.role_metadata).unwrap();
    envelope.sign(&KeyPair::generate().unwrap()).unwrap();
    request.role_metadata = envelope.to_bytes();
    let first = operators.publish_release(request.clone()).await.unwrap().into_inner();
    assert!(!first.existed);
    let log = operators.read_log(pb::ReadLogRequest::default()).await.unwrap().into_inner().entries;
    let published = log.iter().find(|entry| entry.kind == "release_published").unwrap();
    let body: serde_json::Value = serde_json::from_slice(&published.body).unwrap();
    assert_eq!(body["event"]["signed_by"], serde_json::json!([signer.release.keyid().0]));
    let again = operators.publish_release(request.clone()).await.unwrap().into_inner();
    assert_eq!((again.existed, again.release), (true, first.release));

    // The same name for another manifest, signed all the same.
    let mut other = Targets { targets: Default::default(), ..signer.role.clone() };
    let (manifest, objects) = crate::fleet::release("v1", landfall_common::strategy::Strategy::default());
    upload(&mut operators, &objects).await;
    let bytes = manifest.to_bytes().unwrap();
    let custom = landfall_trust::policy::ReleaseCustom {
        app: application(),
        release: manifest.release.clone(),
        counter: landfall_common::ReleaseCounter(2),
        environments: None,
    };
    other.add_release(&bytes, &custom).unwrap();
    let other = other.next(server.clock().now() + YEAR);
    let taken = pb::PublishReleaseRequest {
        request_id: "publish-other".to_owned(),
        manifest: bytes,
        role_metadata: signed(&other, &signer.release),
        notes: String::new(),
    };
    let refused = operators.publish_release(taken).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::AlreadyExists, "RELEASE_NAME_TAKEN"));

    // A version that leaves one out: somebody else has published in between.
    let skipped = signer.role.next(server.clock().now() + YEAR).next(server.clock().now() + YEAR);
    let skipped = pb::PublishReleaseRequest {
        request_id: "publish-skipped".to_owned(),
        role_metadata: signed(&skipped, &signer.release),
        ..request.clone()
    };
    let refused = operators.publish_release(skipped).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Aborted, "REPOSITORY_CHANGED"));
}

#[tokio::test]
async fn a_release_that_its_signers_did_not_sign_is_refused() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let (mut request, objects) = signer.prepare(&server, "v1", strategy());
    let mut operators = server.operators(&admin).await;
    upload(&mut operators, &objects).await;
    request.role_metadata = signed(&signer.role, &KeyPair::generate().unwrap());
    let refused = operators.publish_release(request.clone()).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::FailedPrecondition, "BAD_SIGNATURE"));
    request.manifest.push(b' ');
    let refused = operators.publish_release(request).await.unwrap_err();
    assert_eq!(reason(&refused), "BAD_MANIFEST");
    assert_eq!(file(&server, &admin, "2.apps%2Fshop.json").await, None);
}

#[tokio::test]
async fn a_root_that_does_not_name_the_controllers_keys_is_refused_with_theirs() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let (root, release, other) =
        (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let key = serde_json::to_string(other.public()).unwrap();
    let request = Signer::root_request(&root, &release, &key, &key, &server);
    let mut operators = server.operators(&admin).await;
    let refused = operators.publish_root(request).await.unwrap_err();
    assert_eq!(reason(&refused), "BAD_SIGNATURE");
    let keys = landfall_controller::keys::OnlineKeys::open(&server.layout.keys()).unwrap();
    assert!(refused.message().contains(&keys.snapshot.keyid().0), "{}", refused.message());
    let missing = pb::PublishRootRequest { request_id: "r2".to_owned(), ..Default::default() };
    assert!(operators.publish_root(missing).await.is_err());
    assert_eq!(operators.get_info(pb::GetInfoRequest {}).await.unwrap().into_inner().root_version, 0);
}

#[tokio::test]
async fn the_repository_can_be_followed_by_a_client_and_is_signed_anew_in_time() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    signer.release(&server, &admin, "v1").await;
    let timestamp = file(&server, &admin, "timestamp.json").await.unwrap();
    let read = |bytes: Vec<u8>| {
        Signed::<landfall_trust::metadata::Timestamp>::read("timestamp", bytes).unwrap().body
    };
    let before = read(timestamp);
    let name = format!("{}.snapshot.json", before.snapshot().version);
    let snapshot = file(&server, &admin, &name).await.unwrap();
    let snapshot = Signed::<landfall_trust::metadata::Snapshot>::read("snapshot", snapshot).unwrap().body;
    assert_eq!(snapshot.role(&app_role(&application())).unwrap().version, 2);
    assert!(file(&server, &admin, "2.apps%2Fshop.json").await.is_some());
    assert!(file(&server, &admin, "1.root.json").await.is_some());
    assert_eq!(file(&server, &admin, "../../keys/log.key").await, None);

    server.sleep(Duration::from_secs(13 * 3600));
    server.running().chores.round().await;
    let admin = server.log_in(&renewed_token(&server).await).await;
    let after = read(file(&server, &admin, "timestamp.json").await.unwrap());
    assert_eq!(after.header.version, before.header.version + 1);
    assert!(after.header.expires > server.clock().now() + Duration::from_secs(23 * 3600));

    // A month later everything that is signed here still holds, and old tokens are forgotten.
    let context = &server.running().context;
    assert!(!context.store.scan("token/").await.unwrap().entries.is_empty());
    server.sleep(Duration::from_secs(29 * 86_400));
    server.running().chores.round().await;
    assert!(context.store.scan("token/").await.unwrap().entries.is_empty());
    let admin = server.log_in(&renewed_token(&server).await).await;
    let info = server.operators(&admin).await.get_info(pb::GetInfoRequest {}).await.unwrap().into_inner();
    let now = server.clock().now();
    for role in ["timestamp", "snapshot"] {
        assert!(info.role_expires_ms[role] > now.ms(), "{role}");
    }
    assert!(info.server_certificate_expires_ms > (now + Duration::from_secs(20 * 86_400)).ms());
}

/// The first admin's certificate is over by then; the way back in is on the controller's own host.
pub async fn renewed_token(server: &Server) -> String {
    use landfall_controller::admin::{Answer, Request, ask};
    let socket = server.layout.admin_socket();
    let request = Request::OperatorToken {
        name: landfall_common::OperatorName::new("alice").unwrap(),
        rights: landfall_common::Rights::everywhere(landfall_common::Role::Admin),
        valid_for_ms: 0,
    };
    let answer =
        tokio::task::spawn_blocking(move || ask(&socket, &request).unwrap().unwrap().0).await.unwrap();
    let Answer::Token { text } = answer else { panic!("{answer:?}") };
    text
}

#[tokio::test]
async fn an_interrupted_upload_goes_on_where_it_ended() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut operators = server.operators(&admin).await;
    let mut state = 7u64;
    let content: Vec<u8> = (0..3 << 20)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .collect();
    let digest = Sha256::of(&content).to_string();
    let compressed = zstd::bulk::compress(&content, 1).unwrap();
    let pieces = |from: usize, to: usize, last: bool| {
        let bytes = compressed[from..to].to_vec();
        let digest = digest.clone();
        let count = bytes.chunks(256 * 1024).count();
        let pieces: Vec<_> = bytes
            .chunks(256 * 1024)
            .enumerate()
            .map(|(index, data)| pb::PutObjectsRequest {
                digest: if index == 0 { digest.clone() } else { String::new() },
                offset: if index == 0 { from as u64 } else { 0 },
                data: data.to_vec(),
                last: last && index + 1 == count,
            })
            .collect();
        tokio_stream::iter(pieces)
    };
    let half = 2 << 20;
    assert_eq!(
        operators.put_objects(pieces(0, half, false)).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let asked = pb::MissingObjectsRequest { digests: vec![digest.clone()] };
    let missing = operators.missing_objects(asked.clone()).await.unwrap().into_inner().missing;
    assert_eq!(missing, [pb::MissingObject { digest: digest.clone(), offset: half as u64 }]);
    let wrong = operators.put_objects(pieces(5, half, true)).await.unwrap_err();
    assert_eq!(reason(&wrong), "WRONG_OFFSET");
    let answer = operators.put_objects(pieces(half, compressed.len(), true)).await.unwrap().into_inner();
    assert_eq!((answer.stored, answer.stored_bytes), (1, compressed.len() as u64));
    assert!(operators.missing_objects(asked).await.unwrap().into_inner().missing.is_empty());
}

#[tokio::test]
async fn a_tampered_object_is_refused_and_not_stored() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut operators = server.operators(&admin).await;
    let digest = Sha256::of(b"good").to_string();
    let piece = pb::PutObjectsRequest {
        digest: digest.clone(),
        offset: 0,
        data: zstd::bulk::compress(b"evil", 3).unwrap(),
        last: true,
    };
    let refused = operators.put_objects(tokio_stream::iter([piece])).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::InvalidArgument, "BAD_OBJECT"));
    let asked = pb::MissingObjectsRequest { digests: vec![digest] };
    assert_eq!(operators.missing_objects(asked).await.unwrap().into_inner().missing.len(), 1);
}
