//! Drift over real sessions: what hosts say of it is shown, a repair is asked for, and agents that know nothing of it
//! are left alone.

use std::time::Duration;

use landfall_proto::v1 as pb;
use landfall_proto::v1::operators_client::OperatorsClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::agent::{Agent, Memory};
use crate::fleet::{Server, Signer};

async fn drift(operators: &mut OperatorsClient<Channel>) -> pb::ListDriftResponse {
    operators.list_drift(pb::ListDriftRequest::default()).await.unwrap().into_inner()
}

/// Asks until it is so.
async fn until(
    operators: &mut OperatorsClient<Channel>,
    what: &str,
    wanted: impl Fn(&pb::ListDriftResponse) -> bool,
) -> pb::ListDriftResponse {
    let asking = async {
        loop {
            let seen = drift(operators).await;
            if wanted(&seen) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking).await.unwrap_or_else(|_| panic!("never: {what}"))
}

fn ask(host: &str) -> pb::RepairDriftRequest {
    pb::RepairDriftRequest {
        request_id: format!("repair-{host}"),
        host: host.to_owned(),
        reason: "hotfix of last night".to_owned(),
    }
}

#[tokio::test]
async fn what_hosts_say_is_shown_and_a_repair_is_asked_for_by_name_and_logged_with_its_end() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let _signer = Signer::publish_root(&server, &admin).await;
    let release = pb::ReleaseRef { name: "v1".into(), digest: "ab".repeat(32), ..Default::default() };
    let finding = |path: &str| pb::DriftFinding {
        path: path.to_owned(),
        kind: "changed".to_owned(),
        detail: "other content".to_owned(),
        by_hand: String::new(),
    };
    let changed = pb::Drift {
        release: Some(release.clone()),
        counts: [("changed".to_owned(), 2)].into(),
        findings: vec![finding("releases/v1/views.py"), finding("releases/v1/models.py")],
        ..Default::default()
    };
    let active = pb::HostReport { active: Some(release), ..Default::default() };
    let drifted = Memory { report: active.clone(), drift: Some(changed.clone()), ..Memory::default() };
    // Its agent is of a version before there was drift, and its kernel another one.
    let older = Memory { report: active, kernel: Some("5.10".to_owned()), ..Memory::default() };
    let first = server.enrol(&admin, "web-1").await;
    let second = server.enrol(&admin, "web-2").await;
    let away = server.enrol(&admin, "web-3").await;
    let _first = Agent::connect(&server, &first, drifted).await;
    let _second = Agent::connect(&server, &second, older).await;
    drop(away);

    let mut operators = server.operators(&admin).await;
    let seen = until(&mut operators, "both have said how they are", |seen| {
        seen.facts.len() == 1 && seen.hosts[0].is_of_active && seen.hosts[1].active == "v1"
    })
    .await;
    assert_eq!(seen.hosts[0].drift.as_ref().unwrap().findings, changed.findings);
    assert_eq!((&seen.hosts[1].drift, seen.hosts[1].looked_ms), (&None, 0));
    let fact = &seen.facts[0];
    assert_eq!((&*fact.fact, &*fact.inside, fact.between), ("kernel", &["production".to_owned()][..], false));
    let values: Vec<_> = fact.values.iter().map(|value| (&*value.value, &*value.hosts[0])).collect();
    assert_eq!(values, [("5.10", "web-2"), ("6.1", "web-1")]);
    let hosts = operators.list_hosts(pb::ListHostsRequest::default()).await.unwrap().into_inner().hosts;
    let totals: Vec<_> = hosts.iter().map(|host| host.drift.as_ref().map(|drift| drift.total)).collect();
    assert_eq!(totals, [Some(2), None, None]);

    // Whoever cannot hear it is not asked; an older agent is, and nothing comes of it.
    let refused = operators.repair_drift(ask("web-3")).await.unwrap_err();
    assert!(refused.code() == Code::FailedPrecondition && refused.message().contains("not connected"));
    assert_eq!(operators.repair_drift(ask("web-7")).await.unwrap_err().code(), Code::NotFound);
    operators.repair_drift(ask("web-2")).await.unwrap();
    operators.repair_drift(ask("web-1")).await.unwrap();
    let repaired = |host: &pb::HostDrift| {
        let repair = host.drift.as_ref()?.repair.as_ref()?;
        Some((repair.request_id.clone(), repair.restored))
    };
    let seen = until(&mut operators, "it is repaired", |seen| repaired(&seen.hosts[0]).is_some()).await;
    assert_eq!(repaired(&seen.hosts[0]), Some(("repair-web-1".to_owned(), 2)));
    assert!(seen.hosts[1].connected && seen.hosts[1].drift.is_none());
    let log = operators.read_log(pb::ReadLogRequest::default()).await.unwrap().into_inner().entries;
    let told: Vec<_> = log.iter().filter(|entry| entry.kind.starts_with("drift")).collect();
    let told: Vec<_> = told.iter().map(|entry| (&*entry.kind, &*entry.actor)).collect();
    let asked = ("drift_repair_requested", "alice");
    assert_eq!(told, [asked, asked, ("drift_repaired", "web-1")]);
}
