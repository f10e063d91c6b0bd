//! Two containers side by side, and nginx before them.

use std::time::Duration;

use crate::host::{By, Host, Plan, ask, free_ports};
use crate::load::{Counts, Load};
use crate::nginx::{Nginx, more};
use crate::world::docker::{self, Dockerd};

#[test]
fn on_a_host_containers_side_by_side_are_switched_under_load_without_a_failed_request() {
    docker::run_inside("docker::inside_side_by_side");
}

/// In its namespaces; anywhere else it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_side_by_side() {
    if !docker::is_inside() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let dockerd = Dockerd::start(place.path());
    let directory = tempfile::tempdir().unwrap();
    let [port, answer, blue, green] = free_ports();
    let nginx = Nginx::start(directory.path(), port);
    let settings = format!(
        "{}[docker]\nsocket = {:?}\nmounts = [\"/usr\", {:?}]\n",
        nginx.settings(answer),
        dockerd.socket,
        std::env::current_exe().unwrap(),
    );
    let mut host = Host::new(directory, &settings, blue, green).await;
    // Its files are in the host's directory, which is to go after it.
    let _nginx = nginx;
    let plan = |name| Plan { by: By::Docker, ..Plan::new(name) };
    let v1 = host.publish(&plan("v1"), 1);
    host.activate(&v1).await;
    assert_eq!(ask(port).0, "v1");

    let mut all = Counts::default();
    // Each request goes through Docker's own proxy as well: a busy machine has to keep up with them.
    let load = Load::start(vec![format!("127.0.0.1:{port}")], "/", 40).unwrap();
    more(&load, &mut all, 200).await;
    let v2 = host.publish(&plan("v2"), 2);
    host.activate(&v2).await;
    assert_eq!(ask(port).0, "v2");
    more(&load, &mut all, 100).await;
    // The way back, to the container that still runs, and forth again.
    for (name, release) in [("v1", &v1), ("v2", &v2)] {
        host.activate(release).await;
        assert_eq!(ask(port).0, name);
        more(&load, &mut all, 100).await;
    }
    // Those that follow take the place of one that has served its time, and the agent does not live through it.
    for (at, name) in ["v3", "v4", "v5"].into_iter().enumerate() {
        let release = host.publish(&plan(name), at as u64 + 3);
        let generation = host.order(&release);
        // Wherever that finds it; each time a little later.
        tokio::time::sleep(Duration::from_millis(400 * (at as u64 + 1))).await;
        host.kill().await;
        host.start();
        host.ends(generation, landfall_proto::v1::OutcomeKind::Committed).await;
        assert_eq!(ask(port).0, name);
        more(&load, &mut all, 100).await;
    }
    // One that answers badly never gets a request.
    let bad = host.publish(&Plan { arguments: vec!["status=500"], ..plan("v6") }, 6);
    let generation = host.order(&bad);
    host.ends(generation, landfall_proto::v1::OutcomeKind::Reverted).await;
    assert_eq!(ask(port).0, "v5");
    more(&load, &mut all, 100).await;
    all.add(&load.stop());
    println!("{} requests, {} repeated on a new connection, {} failed", all.sent, all.repeated, all.failed);
    assert_eq!((all.failed, &all.failures[..]), (0, &[][..]), "{} sent", all.sent);
}
