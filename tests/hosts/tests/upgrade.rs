//! Releases of the agent itself, on real servers: the next one takes over under load, and one that crashes, is
//! silent, or is no program at all goes back by itself.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::stage::{Said, token_in};
use landfall_hosts::host::Host;
use landfall_hosts::installed::{DEPLOY, Installed};
use landfall_hosts::packages;

const PATIENCE: Duration = Duration::from_secs(60);
const SERVERS: [&str; 2] = ["web-1", "web-2"];
const HOLDER: &str = "landfall-holder@tenants.web.service";
const RELEASED: &str = "/var/lib/landfall-released/landfall-agent";

/// It can say its version, and that is all.
const CRASHES: &str = "#!/bin/sh
[ \"$1\" = --version ] && exec echo landfall-agent 9.9.9
exit 1
";

/// It says that it is ready, and never talks to the controller.
const SILENT: &str = r#"#!/usr/bin/env python3
import os, socket, sys, time
if "--version" in sys.argv:
    sys.exit(print("landfall-agent 9.9.9"))
path = os.environ["NOTIFY_SOCKET"]
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
status = f"version=9.9.9 session=none program={os.path.realpath(__file__)}"
notify.sendto(f"READY=1\nSTATUS={status}".encode(), "\0" + path[1:] if path[0] == "@" else path)
while True:
    time.sleep(5)
    notify.sendto(b"WATCHDOG=1", "\0" + path[1:] if path[0] == "@" else path)
"#;

/// The fleet, and the directory from which its agents are released.
struct World {
    landfall: Installed,
    artifact: PathBuf,
}

impl World {
    fn new() -> Self {
        let landfall = Installed::new(&SERVERS).unwrap();
        let artifact = landfall.fleet.path("agent");
        fs::create_dir(&artifact).unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/agent/landfall.toml");
        let definition = fs::read_to_string(example).unwrap();
        let quick = definition.replace("\"1m\"", "\"3s\"").replace("\"5m\"", "\"15s\"");
        assert!(quick.contains("\"3s\"") && quick.contains("\"15s\""), "{quick}");
        fs::write(artifact.join("landfall.toml"), quick).unwrap();
        let world = Self { landfall, artifact };
        world.ctl(&["init"], 0);
        for name in SERVERS {
            let updater = format!("{name}-agent");
            let said = world.ctl(&["hosts", "token", "--env", "production", "--name", &updater], 0);
            let token = token_in(&said).unwrap();
            let join = format!(
                "runuser -u landfall-updater -- landfall-agent --config /etc/landfall/updater.toml \
                 join {token} --controller {DEPLOY}:7443\nsystemctl start landfall-updater"
            );
            world.host(name).sh(&join).unwrap();
        }
        world
    }

    fn host(&self, name: &str) -> &Host {
        self.landfall.fleet.host(name)
    }

    #[track_caller]
    fn ctl(&self, arguments: &[&str], code: i32) -> Said {
        let said = self.landfall.ctl_in(&self.artifact, arguments).unwrap();
        assert_eq!(said.code, code, "{arguments:?}: {said:?}\n{}", self.last_words());
        said
    }

    fn last_words(&self) -> String {
        let journal = |name: &str| {
            let units = "journalctl --no-pager -n 30 -u landfall-agent -u landfall-updater";
            format!("--- {name}\n{}", self.host(name).sh(units).unwrap_or_default())
        };
        format!("{}\n{}", self.landfall.fleet.last_words(), SERVERS.map(journal).join("\n"))
    }

    /// Releases this program.
    #[track_caller]
    fn release(&self, name: &str, program: &[u8], code: i32) -> Said {
        let path = self.artifact.join("landfall-agent");
        fs::write(&path, program).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self.ctl(&["release", name, "--yes", "--artifact", self.artifact.to_str().unwrap()], code)
    }

    /// The program that the agent of a host runs, and the process of its service's holder.
    fn runs(&self, name: &str) -> (String, String) {
        let host = self.host(name);
        let pid = host.property("landfall-agent", "MainPID").unwrap();
        let program = host.sh(&format!("readlink /proc/{}/exe || true", pid.trim())).unwrap();
        (program.trim().to_owned(), host.property(HOLDER, "MainPID").unwrap())
    }

    #[track_caller]
    fn released(&self, release: &str) {
        let said = self.landfall.release(release).unwrap();
        assert_eq!(said.code, 0, "{said:?}\n{}", self.last_words());
    }
}

#[test]
fn the_agent_is_released_by_an_agent_and_a_bad_one_goes_back_by_itself() {
    let world = World::new();
    let host = world.host(SERVERS[0]);
    world.released("v1");
    let (of_package, holder) = world.runs(SERVERS[0]);
    assert_eq!(of_package, "/usr/bin/landfall-agent");
    let load = world.landfall.load(&SERVERS, 40).unwrap();

    // The first one has none to go back to: the package's is the agent again, by itself.
    world.release("agent-0", CRASHES.as_bytes(), 1);
    wait_until("the host has an agent", PATIENCE, || world.runs(SERVERS[0]).0 == of_package).unwrap();
    world.released("v1.1");

    // The same program, and then one that is another by a byte that nobody loads.
    let own = fs::read(packages::programs().join("landfall-agent")).unwrap();
    let next = [own.as_slice(), b"\n"].concat();
    for (release, program) in [("agent-1", &own), ("agent-2", &next)] {
        world.release(release, program, 0);
        for name in SERVERS {
            let (runs, _) = world.runs(name);
            assert_eq!(runs, format!("{RELEASED}/releases/{release}/landfall-agent"), "{name}");
        }
    }
    assert_eq!(world.runs(SERVERS[0]).1, holder, "its services were not touched");
    world.released("v2");

    for (release, program, why) in [
        ("agent-3", CRASHES.as_bytes(), "landfall-agent.service exited with code 1"),
        ("agent-4", SILENT.as_bytes(), "has no session with its controller"),
        ("agent-5", b"\x7fELF for another machine", "runs /usr/bin/landfall-agent and not"),
    ] {
        let said = world.release(release, program, 3);
        let told = format!("{}{}", said.out, said.err);
        assert!(told.contains(why), "{release}: no {why:?} in {told}");
        let (runs, _) = world.runs(SERVERS[0]);
        assert_eq!(runs, format!("{RELEASED}/releases/agent-2/landfall-agent"));
        assert_eq!(world.runs(SERVERS[1]).0, runs, "the second host never came to it");
    }
    world.released("v3");
    let counts = load.stop();
    assert_eq!(counts.failed, 0, "of {}: {:?}", counts.sent, counts.failures);
    assert_eq!(counts.by_release.len(), 4, "{counts:?}");

    // By hand, and without the updater once it is removed from the host: the package's own program is back.
    world.ctl(&["rollback", "--yes"], 0);
    assert_eq!(world.runs(SERVERS[1]).0, format!("{RELEASED}/releases/agent-1/landfall-agent"));
    refused_by_the_host(host);
    host.sh(&format!(
        "systemctl stop landfall-updater && rm {RELEASED}/current && systemctl restart landfall-agent"
    ))
    .unwrap();
    assert_eq!(world.runs(SERVERS[0]).0, of_package);
}

/// An agent that was taken over can neither replace what it runs nor end what watches it, and the updater can act on
/// nothing but the agent.
#[track_caller]
fn refused_by_the_host(host: &Host) {
    let updater = host.property("landfall-updater", "MainPID").unwrap();
    for (user, what) in [
        ("landfall", format!("touch {RELEASED}/releases/x")),
        ("landfall", format!("ln -sfn /tmp {RELEASED}/current")),
        ("landfall", format!("cp /bin/true {RELEASED}/current/landfall-agent")),
        ("landfall", "systemctl --no-ask-password stop landfall-updater".to_owned()),
        ("landfall", "systemctl --no-ask-password kill landfall-updater".to_owned()),
        ("landfall-updater", "systemctl --no-ask-password restart systemd-journald".to_owned()),
        ("landfall-updater", format!("systemctl --no-ask-password stop {HOLDER}")),
        ("landfall-updater", "systemctl --no-ask-password kill landfall-agent".to_owned()),
        ("landfall-updater", "systemd-run --no-ask-password true".to_owned()),
    ] {
        let said = host.exec(&["runuser", "-u", user, "--", "sh", "-c", &what]).unwrap();
        let words = ["denied", "authentication required", "not permitted"];
        let refused = words.iter().any(|word| said.err.contains(word));
        assert!(said.code != 0 && refused, "{user}: {what}: {said:?}");
    }
    assert_eq!(host.property("landfall-updater", "MainPID").unwrap(), updater);
    let exposure = ["systemd-analyze", "security", "--threshold=15", "landfall-updater.service"];
    let said = host.exec(&exposure).unwrap();
    assert_eq!(said.code, 0, "{}", said.out);
}
