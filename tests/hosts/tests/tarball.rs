//! The tarball on real servers: installed, released to, installed again under load, taken away.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs;

use landfall_common::Sha256;
use landfall_e2e::stage::{Said, token_in};
use landfall_hosts::host::Host;
use landfall_hosts::installed::{APPLICATION, DEPLOY, Installed, SOURCE, VERSION};
use landfall_hosts::packages;

const HOLDER: &str = "landfall-holder@tenants.web.service";

fn exists(host: &Host, path: &str) -> bool {
    host.exec(&["test", "-e", path]).unwrap().code == 0
}

/// Runs the tarball's script on a host, below what comes before it on its command line.
fn install(host: &Host, below: &str, arguments: &str) -> Said {
    let script = format!("{below} /opt/landfall-{VERSION}-*/install.sh {arguments}");
    host.exec(&["unshare", "--mount", "bash", "-c", &script]).unwrap()
}

#[test]
fn the_same_tree_gives_the_same_tarball_and_it_makes_a_server() {
    let landfall = Installed::with_others(&["web-1"], &["web-2"]).unwrap();
    let web = landfall.fleet.host("web-2");
    web.sh(&format!("tar -xzf {SOURCE}/landfall-{VERSION}-*-linux.tar.gz -C /opt")).unwrap();

    // Packed again, it is the same to the last bit.
    let [first, second] = ["first", "second"].map(|name| {
        let directory = landfall.fleet.path(name);
        Sha256::of(&fs::read(packages::tarball(VERSION, &directory).unwrap()).unwrap())
    });
    assert_eq!(first, second);

    // What does not fit is refused before anything is touched.
    for (below, arguments, told) in [
        (
            "mount -t tmpfs tmpfs /run/systemd;",
            "agent",
            "this machine does not run systemd, which starts the agent and its services",
        ),
        ("runuser -u nobody --", "agent", "the agent is installed by root"),
        ("", "--prefix /home/landfall agent", "the agent does not start from /home/landfall"),
        ("", "--prefix relative agent", "--prefix is an absolute path"),
        ("", "agents", "usage: ./install.sh"),
    ] {
        let said = install(web, below, arguments);
        assert!(said.code != 0 && said.err.contains(told), "{arguments}: {said:?}");
    }
    assert!(!exists(web, "/usr/local/bin/landfall-agent") && !exists(web, "/etc/landfall"));
    // Where the package is, it stays.
    let packaged = landfall.fleet.host("web-1");
    packaged.sh(&format!("tar -xzf {SOURCE}/landfall-{VERSION}-*-linux.tar.gz -C /opt")).unwrap();
    let said = install(packaged, "", "agent");
    assert!(said.code != 0 && said.err.contains("the package landfall-agent is installed here"), "{said:?}");

    // Installed, joined, released to, as one that came from the package.
    install(web, "", "agent ctl").expect_code(0).unwrap();
    web.sh("sed -i 's/^# port = .*/port = 8101/' /etc/landfall/agent.toml").unwrap();
    let said = landfall.ctl(&["hosts", "token", "--env", "production", "--name", "web-2"]).unwrap();
    let token = token_in(&said).unwrap();
    web.sh(&format!(
        "landfall-agent --version; man=/usr/local/share/man/man1/landfall-agent.1.gz; test -s $man\n\
         install -d -o landfall -g landfall /srv/tenants /srv/tenants/shared\n\
         runuser -u landfall -- landfall-agent join {token} --controller {DEPLOY}:7443\n\
         systemctl start landfall-agent"
    ))
    .unwrap();
    let release = |name: &str| {
        let said = landfall.release(name).unwrap();
        assert_eq!(said.code, 0, "{said:?}\n{}", landfall.fleet.last_words());
        assert_eq!(landfall.current("web-2").unwrap(), name);
    };
    release("v1");
    let verify = ["systemd-analyze", "verify", "landfall-agent.service", HOLDER, "landfall-tmp.service"];
    let said = web.exec(&verify).unwrap();
    assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
    let programs = web.sh("ls -l /proc/$(systemctl show --value -p MainPID landfall-agent)/exe").unwrap();
    assert!(programs.contains("/usr/local/bin/landfall-agent"), "{programs}");

    // Installed once more, as a newer version is: another agent, the same service, and no request is dropped.
    let load = landfall.load(&["web-2"], 60).unwrap();
    let ids = || ["landfall-agent", HOLDER].map(|unit| web.property(unit, "MainPID").unwrap());
    let before = ids();
    let said = install(web, "", "agent ctl").expect_code(0).unwrap();
    assert!(said.out.contains("kept /etc/landfall/agent.toml"), "{said:?}");
    assert!(web.sh("cat /etc/landfall/agent.toml").unwrap().contains("\nport = 8101"));
    let after = ids();
    assert!(before[0] != after[0] && before[1] == after[1], "{before:?} {after:?}");
    release("v2");

    // Taken away: its service goes on, and so do its state and settings; an agent that comes back takes it over.
    let said = install(web, "", "--uninstall agent ctl").expect_code(0).unwrap();
    assert!(said.out.contains(&format!("go on until they are stopped or the machine reboots: {HOLDER}")));
    for gone in [
        "/usr/local/bin/landfall-agent",
        "/usr/local/bin/ctl",
        "/usr/local/share/doc/landfall",
        "/etc/systemd/system/landfall-agent.service",
        "/etc/systemd/system/landfall-updater.service",
        "/etc/systemd/system/multi-user.target.wants/landfall-agent.service",
        "/etc/polkit-1/rules.d/50-landfall.rules",
    ] {
        assert!(!exists(web, gone), "{gone}");
    }
    assert_eq!(web.sh("find /usr/local /etc/sysusers.d /etc/tmpfiles.d -name '*landfall*'").unwrap(), "");
    for kept in ["/var/lib/landfall/identity", "/etc/landfall/agent.toml", "/srv/tenants/current"] {
        assert!(exists(web, kept), "{kept}");
    }
    install(web, "", "agent").expect_code(0).unwrap();
    release("v3");
    let counts = load.stop();
    assert_eq!(counts.failed, 0, "of {}: {:?}", counts.sent, counts.failures);

    // A controller comes out of it too, and `ctl` needs neither root nor systemd.
    install(web, "", "controller").expect_code(0).unwrap();
    let said = web
        .sh("runuser -u landfall-controller -- landfall-controller init\nsystemctl start landfall-controller")
        .unwrap();
    assert!(said.contains("lft1_"), "{said}");
    web.sh(&format!("cp -R /opt/landfall-{VERSION}-* /srv/unpacked; chmod -R go=rX /srv/unpacked")).unwrap();
    web.sh("install -d -o nobody /srv/own").unwrap();
    let script =
        "runuser -u nobody -- /srv/unpacked/install.sh --prefix /srv/own ctl; /srv/own/bin/ctl --version";
    assert!(web.sh(script).unwrap().starts_with("ctl "));
    assert!(exists(web, &format!("/srv/{APPLICATION}/current")));
}
