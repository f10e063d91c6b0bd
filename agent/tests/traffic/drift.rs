//! What runs beside the files of a release, changed by hand on a host: two programs of Supervisor in slots, and HAProxy
//! before them. The agent sees each, and puts right on an operator's word what interrupts nothing.

use std::os::unix::fs::symlink;
use std::time::Duration;

use landfall_common::manifest::traffic::{Proxy, Switch};
use landfall_proto::v1::Drift;

use crate::haproxy::{Haproxy, admin};
use crate::host::{By, Host, Plan, ask, free_ports, slots};
use crate::supervisor::programs;
use crate::world::supervisor;

/// Waits until the host says this of its drift.
async fn saw(host: &Host, what: &str, fits: impl Fn(&Drift) -> bool) -> Drift {
    for _ in 0..6_000 {
        let last = host.controller.shared.lock().unwrap().drift.clone();
        if let Some(drift) = last.filter(|drift| fits(drift)) {
            return drift;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no look ever saw {what}: {:#?}", host.controller.shared.lock().unwrap().drift);
}

/// Kind, path and detail, in the order of their paths, with the host's directory left out.
fn told(host: &Host, drift: &Drift) -> Vec<String> {
    let root = format!("{}/", host.directory.path().display());
    let line = |finding: &landfall_proto::v1::DriftFinding| {
        format!("{} {}: {}", finding.kind, finding.path, finding.detail).replace(&root, "")
    };
    let mut lines: Vec<String> = drift.findings.iter().map(line).collect();
    lines.sort_by(|one, two| one.split(' ').skip(1).cmp(two.split(' ').skip(1)));
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_by_hand_beside_the_files_is_seen_and_put_right_where_that_interrupts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let [port, blue, green, elsewhere] = free_ports();
    let root = directory.path().to_owned();
    let servers =
        format!("    server blue 127.0.0.1:{blue} disabled\n    server green 127.0.0.1:{green} disabled\n");
    let haproxy = Haproxy::start(&root, port, &servers);
    haproxy.until("answers", |state| state.contains("green")).await;
    supervisor::start(&root, &programs(&root)).await;
    let settings = format!("{}[drift]\nevery = \"1s\"\n", haproxy.settings());
    let mut host = Host::new(directory, &settings, blue, green).await;
    let plan = |name| Plan {
        by: By::Supervisor,
        proxy: Some(Proxy::Slots {
            slots: slots(Duration::from_secs(3600)),
            switch: Switch::Haproxy { backend: "shop".into() },
        }),
        ..Plan::new(name)
    };
    let v1 = host.publish(&plan("v1"), 1);
    host.activate(&v1).await;
    let v2 = host.publish(&plan("v2"), 2);
    host.activate(&v2).await;
    let serves = ask(port);
    assert_eq!(serves.0, "v2");
    let is_of_v2 = |drift: &Drift| drift.release.as_ref().is_some_and(|release| release.name == "v2");
    let drift = saw(&host, "v2", is_of_v2).await;
    assert_eq!(
        (told(&host, &drift), &drift.notes[..]),
        (vec![], &[][..]),
        "what was applied is no difference"
    );

    // The way back would start the wrong release; and the slot of the way back does not run.
    let at = |path: &str| root.join("srv/shop").join(path);
    std::fs::remove_file(at("slots/green")).unwrap();
    symlink("../releases/v1", at("slots/green")).unwrap();
    std::fs::remove_file(at("slots/blue.env")).unwrap();
    supervisor::control(&root, &["stop", "shop-blue"]);
    // Supervisor has read another configuration of the one that serves.
    let file = root.join("supervisord.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, after) = text.split_once("[program:shop-green]").unwrap();
    let after = after.replace("stopwaitsecs=20", "stopwaitsecs=2");
    std::fs::write(&file, format!("{before}[program:shop-green]{after}")).unwrap();
    let said = supervisor::control(&root, &["reread"]);
    assert!(said.contains("shop-green: changed"), "{said}");
    // HAProxy is told otherwise, its state file would tell it otherwise, and so would its configuration.
    for command in ["set server shop/green weight 10", "set server shop/blue state ready"] {
        let said = haproxy.ask(command).unwrap();
        assert_eq!(said.trim(), "", "{command}");
    }
    let configuration = root.join("haproxy.cfg");
    let text = std::fs::read_to_string(&configuration).unwrap();
    let text = text.replace(&format!("blue 127.0.0.1:{blue}"), &format!("blue 127.0.0.1:{elsewhere}"));
    std::fs::write(&configuration, text).unwrap();
    std::fs::write(root.join("servers.state"), "1\n").unwrap();

    let by_hand = [
        "changed haproxy shop/green: its weight is 10 instead of 1".to_owned(),
        format!(
            "changed haproxy.cfg: its server shop/blue is at 127.0.0.1:{elsewhere} instead of 127.0.0.1:{blue}"
        ),
        "changed supervisor shop-green:shop-green: stopwaitsecs is 2 instead of 20".to_owned(),
    ];
    let mut all = [
        "changed haproxy shop/blue: it takes requests, and only green is to",
        "changed servers.state: it does not name shop/blue",
        "link slots/green: leads to ../releases/v1 instead of ../releases/v2",
        "missing slots/blue.env: v1 runs in this slot",
        "missing supervisor shop-blue:shop-blue: it does not run: STOPPED",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(by_hand.clone())
    .collect::<Vec<_>>();
    all.sort_by(|one, two| one.split(' ').skip(1).cmp(two.split(' ').skip(1)));
    let drift = saw(&host, "all of it", |drift| drift.findings.len() == all.len()).await;
    assert_eq!(told(&host, &drift), all);
    assert!(drift.notes.is_empty(), "{:?}", drift.notes);
    let commands = drift.findings.iter().filter(|finding| !finding.by_hand.is_empty());
    assert!(commands.clone().all(|finding| finding.by_hand.contains('`')), "the next command: {commands:?}");

    host.controller.repair.send_replace(Some("repair-1".to_owned()));
    let drift = saw(&host, "a repair", |drift| drift.repair.is_some()).await;
    let repair = drift.repair.clone().unwrap();
    assert_eq!((repair.restored, &repair.failed[..]), (5, &[][..]));
    assert_eq!(told(&host, &drift), by_hand);
    assert_eq!(std::fs::read_link(at("slots/green")).unwrap().to_str(), Some("../releases/v2"));
    let text = std::fs::read_to_string(at("slots/blue.env")).unwrap();
    assert!(text.contains("LANDFALL_RELEASE=v1\n"), "{text}");
    assert!(supervisor::control(&root, &["status", "shop-blue"]).contains("RUNNING"));
    let state = haproxy.ask("show servers state").unwrap();
    assert_ne!(admin(&state, "blue").as_deref(), Some("0"), "{state}");
    let kept = std::fs::read_to_string(root.join("servers.state")).unwrap();
    assert_eq!(admin(&kept, "green").as_deref(), Some("4"), "{kept}");
    assert_eq!(ask(port), serves, "what served was not touched");
}
