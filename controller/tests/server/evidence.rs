//! What CI says of commits, handed in.

use std::sync::atomic::{AtomicU32, Ordering};

use landfall_common::evidence::{CommitId, Statement, Verdict};
use landfall_common::{AppName, EvidenceName, Timestamp};
use landfall_proto::v1 as pb;
use landfall_trust::{KeyPair, evidence};
use tonic::Code;

use crate::fleet::{Server, Signer, reason};

/// The tests of a commit of an application, in a run.
pub fn document(application: &str, run: u64, result: Verdict) -> Vec<u8> {
    let pair = KeyPair::from_seed(&[7; 32]).unwrap();
    let statement = Statement {
        application: AppName::new(application).unwrap(),
        commit: CommitId::new("1".repeat(40)).unwrap(),
        name: EvidenceName::new("tests").unwrap(),
        result,
        run,
        url: String::new(),
        at: Timestamp::from_ms(1),
        key: evidence::key_of(&pair),
    };
    evidence::Evidence::sign(statement, &pair).unwrap().to_bytes()
}

/// A request of its own each time.
fn submit(document: Vec<u8>) -> pb::SubmitEvidenceRequest {
    static REQUESTS: AtomicU32 = AtomicU32::new(0);
    let request_id = format!("evidence-{}", REQUESTS.fetch_add(1, Ordering::Relaxed));
    pb::SubmitEvidenceRequest { request_id, document }
}

#[tokio::test]
async fn a_failure_outlives_the_controller_and_no_older_success_undoes_it() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let mut signer = Signer::publish_root(&server, &admin).await;
    signer.release(&server, &admin, "v1").await;
    let mut operators = server.operators(&admin).await;
    // The second run had passed, as one of its jobs said, and has failed after all.
    for result in [Verdict::Passed, Verdict::Failed] {
        operators.submit_evidence(submit(document("shop", 2, result))).await.unwrap();
    }
    server.restart().await;
    let mut operators = server.operators(&admin).await;
    for run in [1, 2] {
        let refused = operators.submit_evidence(submit(document("shop", run, Verdict::Passed))).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("failed"), "{refused}");
    }
    // The same again changes nothing.
    operators.submit_evidence(submit(document("shop", 2, Verdict::Failed))).await.unwrap();
    let mut list = async |limit| {
        let request =
            pb::ListEvidenceRequest { application: "shop".to_owned(), commit: String::new(), limit };
        operators.list_evidence(request).await.unwrap().into_inner()
    };
    let all = list(0).await;
    let documents: Vec<Vec<u8>> = all.evidence.into_iter().map(|evidence| evidence.document).collect();
    assert_eq!((documents, all.more), (vec![document("shop", 2, Verdict::Failed)], 0));
}

#[tokio::test]
async fn what_is_listed_says_how_much_is_not() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    server.enrol(&admin, "web-1").await;
    let mut operators = server.operators(&admin).await;
    for seed in 1..4 {
        let pair = KeyPair::from_seed(&[seed; 32]).unwrap();
        let evidence = evidence::Evidence::parse(&document("shop", 1, Verdict::Passed)).unwrap();
        let statement = Statement { key: evidence::key_of(&pair), ..evidence.statement };
        let document = evidence::Evidence::sign(statement, &pair).unwrap().to_bytes();
        operators.submit_evidence(submit(document)).await.unwrap();
    }
    let request = pb::ListEvidenceRequest { application: "shop".to_owned(), commit: String::new(), limit: 2 };
    let listed = operators.list_evidence(request).await.unwrap().into_inner();
    assert_eq!((listed.evidence.len(), listed.more), (2, 1));
}

#[tokio::test]
async fn nothing_is_taken_that_is_bent_or_of_an_application_that_nobody_knows() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    server.enrol(&admin, "web-1").await;
    let mut operators = server.operators(&admin).await;
    let mut bent = document("shop", 1, Verdict::Failed);
    let at = bent.windows(6).position(|word| word == b"failed").unwrap();
    bent[at..at + 6].copy_from_slice(b"passed");
    let refused = operators.submit_evidence(submit(bent)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let refused = operators.submit_evidence(submit(document("shoop", 1, Verdict::Passed))).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::NotFound, "NOT_FOUND".to_owned()), "{refused}");
    assert!(refused.message().contains("no application shoop is known"), "{refused}");
}
