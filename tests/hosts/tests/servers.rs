//! Three servers as the README puts Landfall on them: what they are allowed, and what they survive.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use landfall_e2e::load::Counts;
use landfall_e2e::stage::Said;
use landfall_hosts::host::Host;
use landfall_hosts::installed::{DEPLOY, Installed, PORT, as_user};

const UNITS: [&str; 4] = [
    "landfall-controller.service",
    "landfall-agent.service",
    "landfall-holder@x.service",
    "landfall-tmp.service",
];

/// The unit of the application's one service.
const HOLDER: &str = "landfall-holder@tenants.web.service";

#[track_caller]
fn succeeded(landfall: &Installed, said: &Said, release: &str) {
    assert_eq!(said.code, 0, "{said:?}\n{}", landfall.fleet.last_words());
    for server in &landfall.servers {
        assert_eq!(landfall.current(server).unwrap(), release, "{server}");
    }
}

#[track_caller]
fn nothing_lost(counts: &Counts) {
    assert_eq!(counts.failed, 0, "of {}: {:?}", counts.sent, counts.failures);
    assert!(counts.sent > 50, "{counts:?}");
}

fn agent_id(host: &Host) -> String {
    host.property("landfall-agent", "MainPID").unwrap()
}

#[test]
fn the_commands_of_the_readme_make_servers_that_drop_nothing() {
    let landfall = Installed::new(&["web-1", "web-2"]).unwrap();
    let fleet = &landfall.fleet;
    let (web, controller) = (fleet.host("web-1"), fleet.host(DEPLOY));

    // The units are sound, and closed.
    let said = web.exec(&[&["systemd-analyze", "verify"], &UNITS[1..]].concat()).unwrap();
    assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
    let said = controller.exec(&["systemd-analyze", "verify", UNITS[0]]).unwrap();
    assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
    // In tenths. What is left to a holder is what its service may need.
    for (host, unit, exposure) in [(controller, UNITS[0], 12), (web, UNITS[1], 15), (web, UNITS[2], 17)] {
        let threshold = format!("--threshold={exposure}");
        let said = host.exec(&["systemd-analyze", "security", &threshold, unit]).unwrap();
        assert_eq!(said.code, 0, "{unit}: {threshold}, in tenths\n{}", said.out);
    }

    // Nobody is root.
    let said = landfall.release("v1").unwrap();
    succeeded(&landfall, &said, "v1");
    let owners = web.sh("ps -o user= -C landfall-agent,python3 | sort | uniq -c").unwrap();
    let owners: Vec<_> = owners.split_whitespace().collect();
    assert_eq!(owners, ["3", "landfall"], "agent, holder and service");
    let owner = controller.sh("ps -o user:20= -C landfall-controller").unwrap();
    assert_eq!(owner.trim(), "landfall-controller");

    // The agent's user may do to its own units what the agent needs, and nothing else.
    for (allowed, words) in [
        (true, ["systemctl", "restart", "landfall-holder@other.service"]),
        (false, ["systemctl", "start", "nginx.service"]),
        (false, ["systemctl", "stop", "landfall-agent.service"]),
        (false, ["systemctl", "kill", HOLDER]),
        (false, ["systemctl", "mask", HOLDER]),
        (false, ["systemctl", "daemon-reload", "--no-ask-password"]),
        (false, ["systemd-run", "--no-ask-password", "true"]),
    ] {
        let said = as_user(web, "landfall", &words).unwrap();
        assert_eq!(said.code == 0, allowed, "{words:?}: {said:?}");
    }

    // A release, an agent that is restarted, one that is killed, one that is stopped: no request is dropped.
    let load = landfall.load(&["web-1", "web-2"], 60).unwrap();
    let said = landfall.release("v2").unwrap();
    succeeded(&landfall, &said, "v2");
    let counts = load.take();
    nothing_lost(&counts);
    assert!(counts.by_release.contains_key("v1") && counts.by_release.contains_key("v2"), "{counts:?}");
    let holder = web.property(HOLDER, "MainPID").unwrap();
    for verb in ["restart", "kill --signal=KILL"] {
        let before = agent_id(web);
        web.sh(&format!("systemctl {verb} landfall-agent")).unwrap();
        web.wait_until("another agent is ready", |host| {
            Ok(agent_id(host) != before && host.property("landfall-agent", "ActiveState")? == "active")
        })
        .unwrap();
    }
    web.sh("systemctl stop landfall-agent; systemctl start landfall-agent").unwrap();
    assert_eq!(web.property(HOLDER, "MainPID").unwrap(), holder, "nobody has touched the holder");
    web.sh(&format!("systemctl kill --signal=KILL --kill-who=main {HOLDER}")).unwrap();
    web.wait_until("another holder has taken the service over", |host| {
        Ok(host.property(HOLDER, "MainPID")? != holder && host.property(HOLDER, "ActiveState")? == "active")
    })
    .unwrap();
    let said = landfall.release("v3").unwrap();
    succeeded(&landfall, &said, "v3");
    nothing_lost(&load.stop());

    // A server that boots serves what it served, with nobody to ask.
    controller.cut_power().unwrap();
    web.reboot().unwrap();
    let release = format!("curl -sS --max-time 5 -D - -o /dev/null http://web-1:{PORT}/ | tr -d '\\r'");
    let serves = |host: &Host| Ok(host.exec(&["sh", "-c", &release])?.out.contains("X-Release: v3"));
    fleet.host("web-2").wait_until("web-1 serves v3", serves).unwrap();

    // The controller comes back from its power cut and goes on.
    controller.power_on().unwrap();
    let said = landfall.release("v4").unwrap();
    succeeded(&landfall, &said, "v4");
}
