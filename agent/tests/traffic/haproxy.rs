//! HAProxy before two slots, and before a host that is taken out.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use landfall_common::assignment::Order;
use landfall_common::manifest::traffic::{Gate, Proxy, Switch};
use landfall_proto::v1::{HostTraffic, OutcomeKind};

use crate::host::{Host, Plan, ask, free_ports, needed, slots};
use crate::load::{Counts, Load};

/// An HAProxy of the test's own, in master-worker mode as Debian runs it.
pub struct Haproxy {
    program: PathBuf,
    root: PathBuf,
    master: Child,
}

impl Haproxy {
    pub fn start(root: &Path, port: u16, servers: &str) -> Self {
        let program = needed("haproxy", "haproxy");
        let at = root.display();
        let config = format!(
            "global\n    stats socket {at}/admin.sock mode 600 level admin expose-fd listeners\n    \
             server-state-file {at}/servers.state\n    hard-stop-after 10s\ndefaults\n    mode http\n    \
             timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n    \
             load-server-state-from-file global\nfrontend front\n    bind 127.0.0.1:{port}\n    \
             default_backend shop\nbackend shop\n{servers}"
        );
        std::fs::write(root.join("haproxy.cfg"), config).unwrap();
        std::fs::write(root.join("servers.state"), "1\n").unwrap();
        let log = std::fs::File::create(root.join("haproxy.log")).unwrap();
        let master = Command::new(&program)
            .arg("-Ws")
            .arg("-f")
            .arg(root.join("haproxy.cfg"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { program, root: root.to_owned(), master }
    }

    pub fn settings(&self) -> String {
        let path = |name: &str| self.root.join(name);
        format!(
            "[traffic.haproxy]\nsocket = {:?}\nstate_file = {:?}\n",
            path("admin.sock"),
            path("servers.state")
        )
    }

    /// What an answer to a command of the runtime API says.
    pub fn ask(&self, command: &str) -> Option<String> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::os::unix::net::UnixStream::connect(self.root.join("admin.sock")).ok()?;
        stream.write_all(format!("{command}\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    pub async fn until(&self, what: &str, fits: impl Fn(&str) -> bool) {
        for _ in 0..1_200 {
            if self.ask("show servers state").is_some_and(|state| fits(&state)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("HAProxy never {what}: {:?}", self.ask("show servers state"));
    }

    /// As its administrator does it, who knows nothing of the agent. A new worker starts.
    async fn reload(&self) {
        let pid = || {
            self.ask("show info")
                .and_then(|info| Some(info.split_once("\nPid: ")?.1.lines().next()?.to_owned()))
        };
        let before = pid();
        let master = i32::try_from(self.master.id()).unwrap();
        let master = rustix::process::Pid::from_raw(master).unwrap();
        rustix::process::kill_process(master, rustix::process::Signal::USR2).unwrap();
        for _ in 0..1_200 {
            let now = pid();
            if now.is_some() && now != before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{} was not reloaded", self.program.display());
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

/// The administrative state of a server in the answer to `show servers state`.
pub fn admin(state: &str, server: &str) -> Option<String> {
    let row = state.lines().find(|line| line.split(' ').nth(3) == Some(server))?;
    row.split(' ').nth(6).map(str::to_owned)
}

async fn more(load: &Load, all: &mut Counts, count: u64) {
    let until = all.sent + count;
    for _ in 0..2_400 {
        all.add(&load.take());
        if all.sent >= until {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the load got {} of {until} answers", all.sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_switched_under_load_and_a_reload_of_haproxy_does_not_undo_it() {
    let [port, blue, green] = free_ports();
    let directory = tempfile::tempdir().unwrap();
    let servers =
        format!("    server blue 127.0.0.1:{blue} disabled\n    server green 127.0.0.1:{green} disabled\n");
    let haproxy = Haproxy::start(directory.path(), port, &servers);
    haproxy.until("answers", |state| state.contains("green")).await;
    let mut host = Host::new(directory, &haproxy.settings(), blue, green).await;
    let plan = |name| Plan {
        arguments: vec!["notify=yes"],
        proxy: Some(Proxy::Slots {
            slots: slots(Duration::from_secs(600)),
            switch: Switch::Haproxy { backend: "shop".into() },
        }),
        ..Plan::new(name)
    };
    let v1 = host.publish(&plan("v1"), 1);
    host.activate(&v1).await;
    let first = ask(port);
    assert_eq!(first.0, "v1");
    let mut all = Counts::default();
    let load = Load::start(vec![format!("127.0.0.1:{port}")], "/", 200).unwrap();
    more(&load, &mut all, 100).await;
    let v2 = host.publish(&plan("v2"), 2);
    host.activate(&v2).await;
    assert_eq!(ask(port).0, "v2");
    more(&load, &mut all, 100).await;
    haproxy.reload().await;
    assert_eq!(ask(port).0, "v2", "the reload has led requests back");
    haproxy.until("kept blue out", |state| admin(state, "blue").is_some_and(|state| state != "0")).await;
    more(&load, &mut all, 100).await;
    host.activate(&v1).await;
    assert_eq!(ask(port), first, "the way back has started something");
    more(&load, &mut all, 100).await;
    all.add(&load.stop());
    assert_eq!(all.failed, 0, "{:?}, {} sent, {} repeated", all.failures, all.sent, all.repeated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_taken_out_while_it_changes_and_in_again() {
    let [port, blue, other] = free_ports();
    let directory = tempfile::tempdir().unwrap();
    let servers = format!("    server web-1 127.0.0.1:{blue}\n    server web-2 127.0.0.1:{other} disabled\n");
    let haproxy = Haproxy::start(directory.path(), port, &servers);
    haproxy.until("answers", |state| state.contains("web-1")).await;
    let mut host = Host::new(directory, &haproxy.settings(), blue, other).await;
    let plan = |name| Plan {
        arguments: vec!["notify=yes"],
        drain: Duration::from_secs(5),
        proxy: Some(Proxy::Gate { gate: Gate::Haproxy { backend: "shop".into(), server: "web-1".into() } }),
        ..Plan::new(name)
    };
    let v1 = host.publish(&plan("v1"), 1);
    host.activate(&v1).await;
    assert_eq!(ask(port).0, "v1");
    haproxy.until("took web-1 in", |state| admin(state, "web-1").as_deref() == Some("0")).await;
    // It is out as long as the new one does not answer.
    let slow = Plan { arguments: vec!["notify=yes", "start_ms=1500"], ..plan("v2") };
    let v2 = host.publish(&slow, 2);
    host.order(&v2);
    haproxy.until("took web-1 out", |state| admin(state, "web-1").is_some_and(|state| state != "0")).await;
    haproxy.until("took web-1 in again", |state| admin(state, "web-1").as_deref() == Some("0")).await;
    assert_eq!(ask(port).0, "v2");
}

/// Nobody brings requests to a host on which somebody works: not a restart of its agent, a reload of HAProxy, a release that a
/// controller sends there all the same, one that fails and goes back, or a reboot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_host_stays_out_whatever_happens_and_none_is_lost() {
    let [port, blue, other] = free_ports();
    let directory = tempfile::tempdir().unwrap();
    // Of each request web-1 is the first choice.
    let servers = format!("    server web-1 127.0.0.1:{blue}\n    server web-2 127.0.0.1:{other} backup\n");
    let haproxy = Haproxy::start(directory.path(), port, &servers);
    haproxy.until("answers", |state| state.contains("web-1")).await;
    let mut host = Host::new(directory, &haproxy.settings(), blue, other).await;
    let plan = |name| Plan {
        arguments: vec!["notify=yes"],
        drain: Duration::from_secs(5),
        proxy: Some(Proxy::Gate { gate: Gate::Haproxy { backend: "shop".into(), server: "web-1".into() } }),
        ..Plan::new(name)
    };
    let out = |state: &str| admin(state, "web-1").is_some_and(|state| state != "0");
    let is_out = |haproxy: &Haproxy| haproxy.ask("show servers state").is_some_and(|state| out(&state));
    let v1 = host.publish(&plan("v1"), 1);
    host.activate(&v1).await;
    host.says(HostTraffic::Led).await;
    assert_eq!(ask(port).0, "v1");

    let generation = host.ask(&v1, Order::Drain { away: true });
    host.ends(generation, OutcomeKind::Committed).await;
    host.says(HostTraffic::Drained).await;
    assert!(is_out(&haproxy) && ask(blue).0 == "v1", "what runs there goes on");

    host.kill().await;
    haproxy.reload().await;
    host.start();
    haproxy.until("kept web-1 out", out).await;
    host.says(HostTraffic::Drained).await;
    // By the hand of somebody who does not know.
    haproxy.ask("set server shop/web-1 state ready");
    haproxy.until("kept web-1 out", out).await;

    let v2 = host.publish(&plan("v2"), 2);
    host.activate(&v2).await;
    assert_eq!(ask(blue).0, "v2");
    host.says(HostTraffic::Drained).await;
    assert!(is_out(&haproxy));
    let bad = Plan { arguments: vec!["notify=yes", "exit=3"], ..plan("v3") };
    let v3 = host.publish(&bad, 3);
    let generation = host.order(&v3);
    host.ends(generation, OutcomeKind::Reverted).await;
    assert_eq!(ask(blue).0, "v2");
    host.says(HostTraffic::Drained).await;
    assert!(is_out(&haproxy));

    let generation = host.ask(&v2, Order::Drain { away: false });
    host.ends(generation, OutcomeKind::Committed).await;
    host.says(HostTraffic::Led).await;
    haproxy.until("took web-1 in", |state| admin(state, "web-1").as_deref() == Some("0")).await;
    assert_eq!(ask(port).0, "v2");
}
