//! The packages on real servers: installed, upgraded under load, removed, purged.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use landfall_hosts::host::Host;
use landfall_hosts::installed::{APPLICATION, Installed, NEXT, PORT};

const HOLDER: &str = "landfall-holder@tenants.web.service";

fn version(host: &Host, package: &str) -> String {
    host.sh(&format!("dpkg-query --show --showformat '${{Version}}' {package}")).unwrap()
}

fn exists(host: &Host, path: &str) -> bool {
    host.exec(&["test", "-e", path]).unwrap().code == 0
}

#[track_caller]
fn released(landfall: &Installed, release: &str) {
    let said = landfall.release(release).unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", landfall.fleet.last_words());
}

#[test]
fn packages_are_upgraded_and_removed_without_a_dropped_request() {
    let landfall = Installed::with_next(&["web-1", "web-2"], Some("0.1.1")).unwrap();
    let (controller, first) = (landfall.controller(), landfall.fleet.host("web-1"));
    let second = landfall.fleet.host("web-2");
    released(&landfall, "v1");
    let load = landfall.load(&["web-1", "web-2"], 60).unwrap();

    // An upgrade restarts the agent and the controller, and keeps what the administrator has written.
    first.sh("echo '# kept' >>/etc/landfall/agent.toml").unwrap();
    let before =
        (first.property("landfall-agent", "MainPID").unwrap(), first.property(HOLDER, "MainPID").unwrap());
    for (host, package) in
        [(first, "agent"), (second, "agent"), (controller, "controller"), (controller, "ctl")]
    {
        host.sh(&format!("apt-get install --yes {NEXT}/landfall-{package}_*.deb")).unwrap();
        assert!(version(host, &format!("landfall-{package}")).starts_with("0.1.1"));
    }
    let after =
        (first.property("landfall-agent", "MainPID").unwrap(), first.property(HOLDER, "MainPID").unwrap());
    assert_ne!(before.0, after.0, "another agent");
    assert_eq!(before.1, after.1, "the same holder");
    assert!(first.sh("tail -n 1 /etc/landfall/agent.toml").unwrap().contains("# kept"));
    released(&landfall, "v2");

    // What belongs to a package is there, whole, and no more than that.
    for (host, package, files) in [
        (first, "landfall-agent", ["/usr/share/man/man1/landfall-agent.1.gz", "/etc/landfall/agent.toml"]),
        (
            controller,
            "landfall-controller",
            ["/usr/share/man/man1/landfall-controller.1.gz", "/etc/landfall/controller.toml"],
        ),
        (
            controller,
            "landfall-ctl",
            ["/usr/share/man/man1/ctl-release.1.gz", "/usr/share/bash-completion/completions/ctl"],
        ),
    ] {
        let listed = host.sh(&format!("dpkg --listfiles {package}")).unwrap();
        for file in files {
            assert!(listed.lines().any(|line| line == file), "{file} is not in\n{listed}");
        }
        let verified = host.sh(&format!("dpkg --verify {package}")).unwrap();
        let kept = package == "landfall-agent";
        assert_eq!(verified.lines().count(), usize::from(kept), "only the edited file differs:\n{verified}");
    }
    assert!(controller.sh("ctl --version").unwrap().starts_with("ctl "));

    // Removed: the agent is gone, its service goes on, and an agent that comes back takes it over.
    let said = second.sh("dpkg --remove landfall-agent").unwrap();
    assert!(
        said.contains(&format!(
            "These services go on until they are stopped or the machine reboots: {HOLDER}"
        )),
        "{said}"
    );
    assert!(!exists(second, "/usr/bin/landfall-agent") && exists(second, "/var/lib/landfall/identity"));
    second.sh(&format!("apt-get install --yes {NEXT}/landfall-agent_*.deb")).unwrap();
    released(&landfall, "v3");
    let counts = load.stop();
    assert_eq!(counts.failed, 0, "of {}: {:?}", counts.sent, counts.failures);
    assert!(counts.by_release.len() == 3 && counts.sent > 200, "{counts:?}");

    // Purged: nothing of it runs or stands any more, but for what was released.
    second.sh("dpkg --purge landfall-agent").unwrap();
    assert!(std::net::TcpStream::connect((second.address(), PORT)).is_err(), "its services are stopped");
    for gone in ["/var/lib/landfall", "/var/log/landfall", "/run/landfall", "/etc/landfall"] {
        assert!(!exists(second, gone), "{gone}");
    }
    assert_eq!(second.sh("systemctl list-units --all --plain --no-legend 'landfall-*'").unwrap(), "");
    assert_eq!(second.sh("systemctl --failed --plain --no-legend").unwrap(), "");
    assert!(exists(second, &format!("/srv/{APPLICATION}/current")));

    // The controller's keys and log are too dear for a command that is typed in a hurry.
    let said = controller.sh("dpkg --purge landfall-controller").unwrap();
    assert!(said.contains("are still in /var/lib/landfall-controller"), "{said}");
    assert!(exists(controller, "/var/lib/landfall-controller/ca") && !exists(controller, "/etc/landfall"));
}
