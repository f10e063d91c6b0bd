//! One host among many: what it may have of the controller, and what it may see.

use landfall_common::Sha256;
use landfall_proto::v1 as pb;
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::fleet::{Server, Signer, reason, strategy, upload};

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 7u64;
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..length).map(byte).collect()
}

fn fetch(digest: &str) -> pb::FetchObjectsRequest {
    let range = pb::ObjectRange { digest: digest.to_owned(), offset: 0 };
    pb::FetchObjectsRequest { objects: vec![range] }
}

#[tokio::test]
async fn a_host_that_does_not_read_leaves_room_for_the_others() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    // More than a client takes in without being read.
    let content = noise(5 << 19);
    let (request, objects) = signer.prepare_with(&server, "v1", strategy(), &content);
    let mut operators = server.operators(&admin).await;
    upload(&mut operators, &objects).await;
    operators.publish_release(request).await.unwrap();
    let digest = Sha256::of(&content).to_string();

    let (idle, busy) = (server.enrol(&admin, "web-1").await, server.enrol(&admin, "web-2").await);
    let (mut unread, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut agents = server.agents(&idle).await;
        for _ in 0..100 {
            match agents.fetch_objects(fetch(&digest)).await {
                Ok(stream) => unread.push(stream),
                Err(status) => refused.push((status.code(), reason(&status))),
            }
        }
    }
    let answer = server.agents(&busy).await.fetch_objects(fetch(&digest)).await.unwrap();
    let read = answer.into_inner().map(|chunk| chunk.unwrap().data.len()).collect::<Vec<_>>();
    // The limit is only there so that a failure ends.
    let read = tokio::time::timeout(std::time::Duration::from_secs(120), read).await.unwrap();
    assert!(read.iter().sum::<usize>() >= content.len());
    assert!(unread.len() <= 4, "{} transfers were begun for one host", unread.len());
    assert!(refused.iter().all(|refused| *refused == (Code::Unavailable, "OVERLOADED".to_owned())));
    // Once they are given up, the host is served again.
    drop(unread);
    let mut agents = server.agents(&idle).await;
    loop {
        match agents.fetch_objects(fetch(&digest)).await {
            Ok(_) => break,
            Err(status) => assert_eq!(reason(&status), "OVERLOADED"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_host_gets_the_objects_of_its_own_application_only() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    let host = server.enrol(&admin, "web-1").await;
    let mut agents = server.agents(&host).await;
    let secret = b"of another application".to_vec();
    upload(&mut server.operators(&admin).await, std::slice::from_ref(&secret)).await;
    let digest = Sha256::of(&secret).to_string();
    let mut stream = agents.fetch_objects(fetch(&digest)).await.unwrap().into_inner();
    let refused = stream.next().await.unwrap().unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::NotFound, "NOT_FOUND"));

    // What is published after the first look is found as well, the manifest and the tree.
    for name in ["v1", "v2"] {
        let published = signer.release(&server, &admin, name).await.release.unwrap();
        let content = Sha256::of(format!("this is {name}").as_bytes()).to_string();
        for digest in [published.digest, content] {
            let mut stream = agents.fetch_objects(fetch(&digest)).await.unwrap().into_inner();
            assert!(stream.next().await.unwrap().unwrap().last);
        }
    }
    let mut metadata = async |name: &str| {
        let request = pb::GetMetadataRequest { name: name.to_owned() };
        agents.get_metadata(request).await.map(drop).map_err(|status| status.code())
    };
    assert_eq!(metadata("3.apps%2Fshop.json").await, Ok(()));
    assert_eq!(metadata("1.apps%2Fblog.json").await, Err(Code::NotFound));
}
