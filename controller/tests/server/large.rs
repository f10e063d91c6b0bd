//! A fleet of ten thousand hosts, seen by a client that takes no more than gRPC's own 4 MiB.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::ReleaseRef;
use landfall_common::{HostId, ReleaseCounter, ReleaseName, Sha256, Timestamp};
use landfall_controller::state::ControllerState;
use landfall_controller::store::{Batch, Store as _};
use landfall_controller_core::log::Actor;
use landfall_controller_core::record::{HostRecord, Place, PlaceRecord, Record, ReleaseRecord};
use landfall_proto::v1 as pb;
use landfall_proto::v1::operators_client::OperatorsClient;

use crate::fleet::{Server, Signer, application, release, strategy};
use crate::rollouts::start;

const HOSTS: usize = 10_000;
const RELEASES: u64 = 3_000;

/// What would take an hour of enrolling and publishing, as it would stand in the store.
async fn populated() -> Server {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    server.admin_token = crate::releases::renewed_token(&server).await;
    server.stop().await.unwrap();
    let place = Place { application: application(), environment: "production".parse().unwrap() };
    let hosts = (0..HOSTS).map(|number| {
        let id = HostId::new(format!("web-{number:05}.europe-west.example.org")).unwrap();
        let labels = BTreeMap::from([("zone".parse().unwrap(), format!("zone-{}", number % 7))]);
        Record::Host(HostRecord {
            id,
            place: place.clone(),
            labels,
            enrolled_at: Timestamp::from_ms(1),
            cordon: None,
            drain: None,
            led_away: None,
        })
    });
    let releases = (1..=RELEASES).map(|counter| {
        let name = format!("v{counter}");
        let (manifest, _) = release(&name, strategy());
        let reference = ReleaseRef {
            name: ReleaseName::new(name).unwrap(),
            counter: ReleaseCounter(counter),
            digest: Sha256::of(&counter.to_be_bytes()),
            length: 1,
        };
        let at = Timestamp::from_ms(1_000 + counter);
        let mut record = ReleaseRecord::of(&manifest, reference, at, Actor::Controller);
        record.notes = Some("what has changed, at some length. ".repeat(40));
        Record::Release(Box::new(record))
    });
    let places = [Record::Place(Box::new(PlaceRecord::new(place.clone())))];
    let state = ControllerState::open(&server.layout, &server.clock()).await.unwrap();
    for records in [hosts.collect::<Vec<_>>(), releases.collect(), places.into()] {
        let batch = records.iter().fold(Batch::new(), |batch, record| {
            batch.put(record.key().to_string(), serde_json::to_vec(record).unwrap())
        });
        state.store.commit(batch).await.unwrap();
    }
    state.close().unwrap();
    server.run().await;
    server
}

#[tokio::test]
async fn every_list_is_read_whole_by_a_client_with_the_usual_bound() {
    let server = populated().await;
    let admin = server.admin().await;
    let mut operators = OperatorsClient::new(server.connect(Some(&admin)).await.unwrap());
    let live = &server.running().context.live;
    let facts: BTreeMap<_, _> =
        (0..10).map(|number| (format!("fact-{number}"), "a value of some length".to_owned())).collect();
    let names = {
        let read = server
            .running()
            .context
            .reactor
            .read(|view| view.state.all_hosts().map(|host| host.record.id.clone()).collect::<Vec<_>>());
        read.await.unwrap()
    };
    for host in names {
        live.hello(host, pb::Hello { facts: facts.clone(), ..pb::Hello::default() }, Timestamp::from_ms(1));
    }

    let (mut hosts, mut pages, mut page_token) = (BTreeSet::new(), 0, String::new());
    loop {
        let request = pb::ListHostsRequest { page_token, ..pb::ListHostsRequest::default() };
        let answer = operators.list_hosts(request).await.unwrap().into_inner();
        hosts.extend(answer.hosts.into_iter().map(|host| host.id));
        (pages, page_token) = (pages + 1, answer.next_page_token);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(hosts.len(), HOSTS);
    assert!(pages > 1, "it was one page");

    let (mut releases, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListReleasesRequest { page_token, ..pb::ListReleasesRequest::default() };
        let answer = operators.list_releases(request).await.unwrap().into_inner();
        releases.extend(answer.releases.into_iter().map(|release| release.release.unwrap().counter));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(releases, (1..=RELEASES).rev().collect::<Vec<_>>(), "the newest first, each once");

    let plan = pb::PlanRolloutRequest {
        application: "shop".to_owned(),
        environment: "production".to_owned(),
        release: "v3000".to_owned(),
        ..pb::PlanRolloutRequest::default()
    };
    operators.plan_rollout(plan).await.unwrap();
    let begun = operators.start_rollout(start("v3000")).await.unwrap().into_inner().rollout.unwrap();
    let got = operators.get_rollout(pb::GetRolloutRequest { rollout: begun.id }).await.unwrap().into_inner();
    let shown: usize = got.rollout.unwrap().batches.iter().map(|batch| batch.hosts.len()).sum();
    assert_eq!(shown, HOSTS);
    let listed = operators.list_rollouts(pb::ListRolloutsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.rollouts.len(), 1);
    let unknown = pb::ListRolloutsRequest { page_token: "r-none".to_owned(), ..Default::default() };
    assert!(operators.list_rollouts(unknown).await.is_err());
}
