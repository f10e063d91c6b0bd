//! `ctl hosts add` on real servers, with a real sshd: as the README has it, and where something is in the way.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use landfall_e2e::stage::Said;
use landfall_hosts::host::Host;
use landfall_hosts::installed::{Installed, VERSION};
use landfall_hosts::packages;

/// A fleet with a controller, and servers with nothing but an sshd that knows the operator's key.
fn fleet(servers: &[&str]) -> Installed {
    let mut landfall = Installed::with_others(&[], servers).unwrap();
    let home = landfall.home().to_owned();
    let key = home.join("id");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    // ssh finds its files in the home directory of the account, not in $HOME.
    let mut config = format!(
        "Host *\nIdentityFile {0}/id\nIdentitiesOnly yes\nUserKnownHostsFile {0}/known_hosts\n",
        home.display()
    );
    for name in servers {
        let address = landfall.fleet.host(name).address();
        config.push_str(&format!("Host {name}\nHostName {address}\n"));
        let public = fs::read(home.join("id.pub")).unwrap();
        landfall.fleet.host(name).put("/root/.ssh/authorized_keys", &public, 0o600).unwrap();
    }
    fs::write(home.join("ssh_config"), config).unwrap();
    let wrapper = home.join("bin/ssh");
    fs::create_dir_all(home.join("bin")).unwrap();
    let script = format!("#!/bin/sh\nexec /usr/bin/ssh -F {}/ssh_config \"$@\"\n", home.display());
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}:{}",
        home.join("bin").display(),
        packages::programs().display(),
        std::env::var("PATH").unwrap()
    );
    landfall.environment.insert("PATH".to_owned(), path);
    for entry in fs::read_dir(packages::ensure(VERSION).unwrap()).unwrap().flatten() {
        fs::copy(entry.path(), home.join(entry.file_name())).unwrap();
    }
    landfall
}

fn accept_logins(host: &Host) {
    host.sh("systemctl start ssh").unwrap();
}

/// Runs `ctl hosts add` with the options that all of these tests need.
fn add(landfall: &Installed, arguments: &str) -> Said {
    let line = format!("ctl hosts add {arguments} --env production; echo $?");
    let said = landfall.shell(&format!("set +e; {line}")).unwrap();
    let (out, code) = said.out.trim_end().rsplit_once('\n').unwrap_or(("", said.out.trim_end()));
    Said { out: out.to_owned(), code: code.parse().unwrap(), err: said.err }
}

/// Which hosts the controller knows, and whether it sees them.
fn seen(landfall: &Installed) -> BTreeMap<String, bool> {
    let hosts = landfall.json(&["hosts"]).unwrap();
    let hosts = hosts["hosts"].as_array().unwrap();
    let of = |host: &serde_json::Value| {
        (host["id"].as_str().unwrap().to_owned(), host["connected"].as_bool().unwrap())
    };
    hosts.iter().map(of).collect()
}

fn agent_id(host: &Host) -> String {
    host.property("landfall-agent", "MainPID").unwrap()
}

#[test]
fn one_line_of_the_readme_makes_three_servers() {
    let servers = ["web-1", "web-2", "web-3"];
    let mut landfall = fleet(&servers);
    for name in servers {
        accept_logins(landfall.fleet.host(name));
    }
    let web = landfall.fleet.host("web-1");
    // Whoever looks at the processes there for the whole time sees no token.
    web.sh(
        "setsid sh -c 'while [ ! -e /run/enough ]; do for id in /proc/[0-9]*; do tr \"\\0\" \" \" <$id/cmdline; echo; \
         done; done 2>/dev/null | grep -a --line-buffered \"lf[t]1_\" >/run/seen' >/dev/null 2>&1 </dev/null &",
    )
    .unwrap();
    let line = Installed::adding().unwrap();
    let said = landfall.shell(&format!("{line} --dry-run")).unwrap();
    for told in
        ["$ ssh -T -o BatchMode=yes", "landfall-agent join -", "TOKEN", "apt-get install", "port = \"8101\""]
    {
        assert!(said.out.contains(told), "{told}: {said:?}");
    }
    assert!(!said.out.contains("lft1_") && !said.err.contains("lft1_"), "{said:?}");
    assert_eq!(seen(&landfall), BTreeMap::new());
    assert_ne!(web.exec(&["test", "-e", "/usr/bin/landfall-agent"]).unwrap().code, 0);

    // Nobody is asked whether a key is the right one.
    let said = landfall.shell(&format!("! {line}")).unwrap();
    assert!(
        said.err.contains("web-1: login failed: ssh does not get there")
            && said.err.contains("next: ssh root@web-1 once by hand, to compare and take its key"),
        "{said:?}"
    );
    let said = landfall.shell(&format!("{line} --ssh-option StrictHostKeyChecking=accept-new")).unwrap();
    assert!(said.out.contains("3 hosts: joined, and seen by the controller"), "{said:?}");
    assert!(!said.err.contains("lft1_"), "{said:?}");
    let all: BTreeMap<_, _> = servers.iter().map(|&name| (name.to_owned(), true)).collect();
    assert_eq!(seen(&landfall), all);
    for name in servers {
        let host = landfall.fleet.host(name);
        let settings = host.sh("grep -A 1 '^.variables' /etc/landfall/agent.toml").unwrap();
        assert_eq!(settings, "[variables]\nport = \"8101\"\n");
        assert_eq!(host.sh("find /tmp -maxdepth 1 -name 'tmp.*'").unwrap(), "", "nothing is left there");
    }

    // The look at the processes is proven to see such things, and saw none but this.
    web.sh("setsid sh -c 'sleep 300; : lft1_control' >/dev/null 2>&1 </dev/null &").unwrap();
    web.wait_until("the look sees it", |host| Ok(host.sh("cat /run/seen")?.contains("lft1_control")))
        .unwrap();
    web.sh("touch /run/enough").unwrap();
    let lines = web.sh("grep -av lft1_control /run/seen || true").unwrap();
    assert_eq!(lines, "");
    let written = web.sh("grep -rl 'lf[t]1_' /var/log /var/lib/landfall /tmp /var/tmp || true").unwrap();
    assert_eq!(written, "", "a token is kept nowhere");

    // Typed again, it leaves them alone.
    let before = agent_id(web);
    let said = landfall.shell(&line).unwrap();
    assert_eq!(said.err.matches("has joined already, and is left alone").count(), 3, "{said:?}");
    assert_eq!(agent_id(web), before);

    // Their updaters join as well, once the agent is an application; the agents are left alone.
    let line = format!("{line} --updater");
    let said = landfall.shell(&format!("! {line}")).unwrap();
    assert!(said.err.contains("no application of this controller yet"), "{said:?}");
    let agent = landfall.fleet.path("agent");
    fs::create_dir(&agent).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/agent/landfall.toml");
    fs::copy(example, agent.join("landfall.toml")).unwrap();
    landfall.ctl_in(&agent, &["init"]).unwrap().expect_code(0).unwrap();
    web.sh("sed -i '/^program/d' /etc/landfall/agent.toml").unwrap();
    let updaters = |outcome: &str| servers.map(|name| format!("{name}-agent has joined {outcome}"));
    for outcome in ["landfall-agent in production", "already, and is left alone"] {
        let said = landfall.shell(&line).unwrap();
        for told in updaters(outcome) {
            assert!(said.err.contains(&told), "{told}: {said:?}");
        }
        assert!(!said.err.contains("lft1_"), "{said:?}");
    }
    assert_eq!(agent_id(web), before);
    let settings =
        web.sh("grep -c '^program = \"/var/lib/landfall-released/' /etc/landfall/agent.toml").unwrap();
    assert_eq!(settings.trim(), "1");
    for name in servers {
        let host = landfall.fleet.host(name);
        assert_eq!(host.sh("systemctl is-enabled landfall-updater").unwrap().trim(), "enabled");
        assert_eq!(host.property("landfall-updater", "ActiveState").unwrap(), "active");
    }

    // They are servers as any.
    landfall.servers = servers.map(str::to_owned).to_vec();
    let said = landfall.release("v1").unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", landfall.fleet.last_words());
    for name in servers {
        assert_eq!(landfall.current(name).unwrap(), "v1");
    }
}

#[test]
fn what_is_in_the_way_is_told_and_the_same_command_goes_on_after_it() {
    let landfall = fleet(&["web-1", "web-2", "web-3"]);
    let [first, second, third] = ["web-1", "web-2", "web-3"].map(|name| landfall.fleet.host(name));
    let trust = "--ssh-option StrictHostKeyChecking=accept-new";
    let package = format!("--package ~/landfall-agent_{VERSION}-1_amd64.deb {trust}");
    let package = &package.replace(&format!("{VERSION}-1"), "*");

    // What is wrong with the command itself is said before any host is touched.
    for (arguments, told) in [
        ("web-1 other@web-1", "web-1 is named twice"),
        ("web-1 --package ~/landfall-0*.tar.gz", "is no Debian package"),
        ("web-1 --controller localhost:7443", "\"localhost:7443\" is each host itself"),
        ("web-1 --controller deploy", "\"deploy\" is not HOST:PORT"),
    ] {
        let said = add(&landfall, arguments);
        assert!(said.code == 2 && said.err.contains(told), "{arguments}: {said:?}");
    }

    // One that nobody answers on, one where sudo asks for a password, and one without dpkg.
    accept_logins(second);
    accept_logins(third);
    second
        .sh("useradd --create-home --shell /bin/bash admin; install -d -o admin -m 700 /home/admin/.ssh\n\
             install -o admin -m 600 /root/.ssh/authorized_keys /home/admin/.ssh/authorized_keys")
        .unwrap();
    third.sh("chmod -x /usr/bin/dpkg").unwrap();
    let all = format!("root@web-1 web-2=admin@{} root@web-3 {package}", second.address());
    let said = add(&landfall, &all);
    assert_eq!(said.code, 1, "{said:?}");
    for told in [
        "web-1: login failed: ssh does not get there",
        "Connection refused",
        "next: ssh root@web-1 true, until that ends without a word; then the same command again",
        "web-2: login failed: admin may not become root there without a password: sudo: a password is required",
        "web-3: install failed: the agent is not installed there, and there is no dpkg",
        "next: the same command with --tarball PATH",
    ] {
        assert!(said.err.contains(told), "{told}: {said:?}");
    }
    assert_eq!(said.out, "0 of 3 hosts are there; not there: web-1, web-2, web-3");
    assert_eq!(seen(&landfall), BTreeMap::new());

    // The next ones stop later on: where the package does not go on, and where the controller is not found.
    accept_logins(first);
    second.sh("echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin").unwrap();
    first.sh("mv /usr/bin/apt-get /usr/bin/apt-get.away").unwrap();
    let all = format!("{all} --label zone=a --tarball ~/landfall-{VERSION}-*-linux.tar.gz");
    let said = add(&landfall, &format!("{all} --controller {}:1", landfall.controller().address()));
    assert_eq!(said.code, 1, "{said:?}");
    for told in [
        "web-1: install failed: it ended with exit code 127",
        "apt-get: not found",
        "next: correct it there (ssh root@web-1), then the same command again",
        "web-2: join failed: it ended with exit code 1",
        "web-3: join failed: it ended with exit code 1",
        "Connection refused",
        ":1 (firewalls, names; --controller says another address), then the same command again",
    ] {
        assert!(said.err.contains(told), "{told}: {said:?}");
    }
    assert!(!said.err.contains("lft1_"), "{said:?}");

    // What was in the way is gone: it goes on. What it then lacks is an agent that starts.
    first.sh("mv /usr/bin/apt-get.away /usr/bin/apt-get").unwrap();
    let broken = "/etc/systemd/system/landfall-agent.service.d/broken.conf";
    first.put(broken, b"[Service]\nExecStartPre=/bin/false\n", 0o644).unwrap();
    let said = add(&landfall, &all);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("web-1: start failed:") && said.err.contains("landfall-agent.service failed"),
        "{said:?}"
    );
    assert!(said.err.contains("web-2 has joined") && said.err.contains("web-3 has joined"), "{said:?}");
    assert_eq!(said.out, "2 of 3 hosts are there; not there: web-1");
    first.sh(&format!("systemctl stop landfall-agent; rm {broken}; systemctl daemon-reload")).unwrap();
    let said = add(&landfall, &all);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("web-1 had joined already; its agent is started"), "{said:?}");
    assert_eq!(said.err.matches("left alone").count(), 2, "{said:?}");
    assert_eq!(seen(&landfall).values().filter(|&&connected| connected).count(), 3);
    let hosts = landfall.json(&["hosts"]).unwrap();
    assert_eq!(hosts["hosts"][0]["labels"]["zone"], "a", "{hosts}");
    assert!(third.sh("command -v landfall-agent").unwrap().starts_with("/usr/local/bin/"));

    // A machine that is another host stays that; a name that another machine has stays its own.
    let said = add(&landfall, &format!("web-9=root@{} {package}", first.address()));
    assert!(
        said.code == 1 && said.err.contains("it has joined as web-1 of tenants in production, for good"),
        "{said:?}"
    );
    landfall.ctl(&["hosts", "remove", "web-2", "--yes"]).unwrap().expect_code(0).unwrap();
    let said = add(&landfall, &format!("web-2=admin@{} {package}", second.address()));
    assert!(
        said.code == 1 && said.err.contains("this one does not know it") && said.err.contains("--again"),
        "{said:?}"
    );
    second.sh("systemctl stop landfall-agent; rm -r /var/lib/landfall/*").unwrap();
    let said = add(&landfall, &format!("web-1=admin@{} {package}", second.address()));
    assert!(said.code == 1 && said.err.contains("and it is not this machine"), "{said:?}");
    let said = add(&landfall, &format!("-o json web-2=admin@{} {package}", second.address()));
    let lines: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, lines["hosts"][0]["outcome"].as_str()), (0, Some("joined")), "{said:?}");
}
