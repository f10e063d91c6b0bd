//! Two programs of Supervisor, a slot each, and nginx before them.

use std::path::Path;
use std::time::Duration;

use landfall_proto::v1::OutcomeKind;

use crate::host::{By, Host, Plan, ask, free_ports};
use crate::load::Counts;
use crate::nginx::{Nginx, load, more};
use crate::world::supervisor;

/// What an administrator writes into Supervisor's configuration.
pub fn programs(root: &Path) -> String {
    let slots = root.join("srv/shop/slots");
    let program = |slot: &str| {
        format!(
            "[program:shop-{slot}]\ndirectory={slots}/{slot}\n\
             command=/bin/sh -c 'set -a; . {slots}/{slot}.env; exec sh run'\n\
             autostart=false\nautorestart=true\nstartsecs=0\nstartretries=0\nstopwaitsecs=20\n",
            slots = slots.display()
        )
    };
    ["blue", "green"].map(program).concat()
}

fn plan(name: &'static str) -> Plan {
    Plan { by: By::Supervisor, ..Plan::new(name) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_in_slots_are_switched_under_load_and_an_agent_that_is_killed_finishes_it() {
    let directory = tempfile::tempdir().unwrap();
    let [port, answer, blue, green] = free_ports();
    let nginx = Nginx::start(directory.path(), port);
    let root = directory.path().to_owned();
    supervisor::start(&root, &programs(&root)).await;
    let mut host = Host::new(directory, &nginx.settings(answer), blue, green).await;
    // Its files are in the host's directory, which is to go after it.
    let _nginx = nginx;
    let v1 = host.publish(&plan("v1"), 1);
    host.activate(&v1).await;
    let first = ask(port);
    assert_eq!(first.0, "v1");

    let mut all = Counts::default();
    let load = load(port);
    more(&load, &mut all, 200).await;
    let v2 = host.publish(&plan("v2"), 2);
    host.activate(&v2).await;
    let second = ask(port);
    assert_eq!(second.0, "v2");
    more(&load, &mut all, 100).await;
    // The way back starts nothing, and neither does the way there again.
    for (release, process) in [(&v1, &first), (&v2, &second)] {
        host.activate(release).await;
        assert_eq!(ask(port), *process);
        more(&load, &mut all, 100).await;
    }
    // Those that follow take the place of one that has served its time, and the agent does not live through it.
    for (at, name) in ["v3", "v4", "v5", "v6"].into_iter().enumerate() {
        let release = host.publish(&plan(name), at as u64 + 3);
        let generation = host.order(&release);
        // Wherever that finds it; each time a little later.
        tokio::time::sleep(Duration::from_millis(80 * (at as u64 + 1))).await;
        host.kill().await;
        host.start();
        host.ends(generation, OutcomeKind::Committed).await;
        assert_eq!(ask(port).0, name);
        more(&load, &mut all, 100).await;
    }
    // One that answers badly never gets a request, and what serves is not touched.
    let before = ask(port);
    let bad = host.publish(&Plan { arguments: vec!["status=500"], ..plan("v7") }, 7);
    let generation = host.order(&bad);
    let report = host.ends(generation, OutcomeKind::Reverted).await;
    let failure = report.outcome.unwrap().failure.unwrap();
    assert!(failure.reason.contains("GET / was answered with 500"), "{failure:?}");
    assert_eq!(ask(port), before);
    more(&load, &mut all, 100).await;
    all.add(&load.stop());
    assert_eq!((all.failed, &all.failures[..]), (0, &[][..]), "{} sent, {} repeated", all.sent, all.repeated);
}
