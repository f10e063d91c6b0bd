//! Blue-green across two groups of hosts with real processes, behind one HAProxy and under load: a release gets no request
//! before somebody lets it, the way back is to lead requests back, and not a request is lost.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this file is tests")]

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use landfall_e2e::load::{Counts, Load};
use landfall_e2e::process::wait_until;
use landfall_e2e::proxy::Proxy;
use landfall_e2e::scene::{SERVER, Scene};
use landfall_e2e::stage::{Said, token_in, told};

const BLUE: [&str; 2] = ["web-1", "web-2"];
const GREEN: [&str; 2] = ["web-3", "web-4"];
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked where requests go, while that is measured.
const POLL: Duration = Duration::from_millis(2);

/// While one group gets requests, the other one gets none.
fn leads_to(proxy: &Proxy, group: [&str; 2], not: [&str; 2], while_it: impl FnOnce()) {
    let before = proxy.led_to(&not);
    while_it();
    proxy.until_led_to(&group, 60);
    assert_eq!(proxy.led_to(&not), before, "requests came to {not:?}");
}

/// Four hosts of two colours behind one HAProxy.
struct Fleet {
    scene: Scene,
    proxy: Proxy,
}

/// What the definition has of groups and of how requests are led.
const BY_COLOR: &str = "strategy = \"blue_green\"\nspread = \"color\"\nauto_promote = false\nwatch = \"10m\"";
const GATE: &str =
    "\n[traffic]\nproxy = \"haproxy\"\nbackend = \"site\"\nserver = \"{server}\"\ndrain = \"10s\"\n";

fn by_color(text: &str) -> String {
    let budget = "max_unavailable = \"50%\"";
    let text = text.replace("canary = 1\nbatch = 1", BY_COLOR).replace("max_unavailable = 1", budget);
    text.replace("healthy_deadline = \"30s\"", "healthy_deadline = \"10s\"") + GATE
}

impl Fleet {
    fn new() -> Self {
        let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
        let mut scene = Scene::new(bin, &[]).unwrap();
        let hosts = || BLUE.into_iter().chain(GREEN);
        let homes: Vec<PathBuf> = hosts().map(|name| scene.prepare(name).unwrap()).collect();
        let servers: Vec<(&str, u16)> = hosts().map(|name| (name, scene.stage.hosts[name].port)).collect();
        let proxy = Proxy::start(&scene.path("proxy"), &servers);
        for (name, home) in hosts().zip(homes) {
            let mut config = OpenOptions::new().append(true).open(home.join("agent.toml")).unwrap();
            writeln!(config, "server = \"{name}\"\n\n[traffic.haproxy]\nsocket = {:?}", proxy.socket)
                .unwrap();
            let color = if BLUE.contains(&name) { "color=blue" } else { "color=green" };
            let token = ["hosts", "token", "--env", "production", "--name", name, "--label", color];
            let said = scene.ctl(&token).unwrap().expect_code(0).unwrap();
            scene.stage.join(name, &token_in(&said).unwrap()).unwrap();
        }
        Self { scene, proxy }
    }

    fn ctl(&self, arguments: &[&str]) -> Said {
        let said = self.scene.ctl(arguments).unwrap();
        println!("$ ctl {}\n{}{}", arguments.join(" "), said.out, said.err);
        said
    }

    fn says(&self, arguments: &[&str]) -> String {
        self.ctl(arguments).expect_code(0).unwrap().out
    }

    fn artifact(&self, release: &str) -> PathBuf {
        self.scene.artifact(release, |text| by_color(&text)).unwrap()
    }

    fn release(&self, release: &str, artifact: &Path, more: &[&str]) -> Said {
        let said: Said = self.scene.release_command(release, artifact, more).output().unwrap().into();
        println!("$ ctl release {release} {}\n{}{}", more.join(" "), said.out, said.err);
        said
    }

    /// What the hosts of a group run.
    fn runs(&self, group: [&str; 2]) -> BTreeSet<String> {
        group.into_iter().map(|host| self.scene.stage.current(host)).collect()
    }

    fn all_run(&self, release: &str) -> bool {
        [BLUE, GREEN].into_iter().all(|group| self.runs(group) == BTreeSet::from([release.to_owned()]))
    }

    /// Waits until `ctl status` says so; what it says then.
    fn until_said(&self, words: &str) -> String {
        let said = wait_until(words, PATIENCE, || self.scene.ctl(&["status"]).unwrap().out.contains(words));
        said.unwrap_or_else(|error| {
            let last = self.scene.ctl(&["status"]);
            panic!("{error}\n{last:?}\n{}", self.scene.last_words())
        });
        self.says(&["status"])
    }

    /// Goes back; how long after the command the first request came to the green hosts.
    fn goes_back(&self) -> Duration {
        let before = self.proxy.led_to(&GREEN);
        let mut command = self.scene.stage.ctl();
        command.current_dir(self.scene.stage.root.join("operator")).stdin(Stdio::null());
        command.args(["--app", "site", "rollback", "--yes", "--detach"]).stdout(Stdio::piped());
        let asked = Instant::now();
        let asking = command.stderr(Stdio::piped()).spawn().unwrap();
        while self.proxy.led_to(&GREEN) == before {
            assert!(asked.elapsed() < PATIENCE, "no request came back\n{}", self.scene.last_words());
            std::thread::sleep(POLL);
        }
        let took = asked.elapsed();
        let said: Said = asking.wait_with_output().unwrap().into();
        println!("$ ctl rollback\n{}{}", said.out, said.err);
        told(&said, 0, &[]);
        took
    }

    /// Waits until everybody gets requests.
    fn until_all_serve(&self) {
        let is_led = || {
            let told = self.scene.json(&["hosts"]).unwrap();
            told["hosts"].as_array().unwrap().iter().all(|host| host["traffic"] == "led")
        };
        wait_until("all get requests", PATIENCE, is_led)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.scene.last_words()));
        self.proxy.until_led_to(&BLUE, 10);
        self.proxy.until_led_to(&GREEN, 10);
    }
}

/// Requests that go on all the time, and all that came of them.
struct Loaded {
    load: Load,
    all: Counts,
}

impl Loaded {
    fn start(proxy: &Proxy) -> Self {
        let load = Load::start(vec![format!("127.0.0.1:{}", proxy.port)], "/", 80).unwrap();
        Self { load, all: Counts::default() }
    }

    /// Not a request was lost since this was last asked; which releases have answered.
    fn answered_by(&mut self) -> Vec<String> {
        let counts = self.load.take();
        assert!(counts.sent > 0 && counts.failed == 0, "{} {:?}", counts.failed, counts.failures);
        self.all.add(&counts);
        counts.by_release.into_keys().collect()
    }

    /// All of it.
    fn stop(self) {
        let Self { load, mut all } = self;
        all.add(&load.stop());
        assert!(all.failed == 0, "{} {:?}", all.failed, all.failures);
        println!(
            "{} requests, {} failed, {} repeated; {:?}",
            all.sent, all.failed, all.repeated, all.by_release
        );
    }
}

#[test]
fn one_group_takes_the_release_while_the_other_serves_and_requests_come_back_at_once() {
    let mut fleet = Fleet::new();
    let first = fleet.artifact("v1.0");
    let said = fleet.release("v1.0", &first, &["--auto-promote", "--watch", "0s"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", fleet.scene.last_words());
    let mut load = Loaded::start(&fleet.proxy);
    fleet.until_all_serve();

    let artifact = fleet.artifact("v1.1");
    told(&fleet.release("v1.1", &artifact, &["--publish-only"]), 0, &[]);
    let plan = fleet.says(&["plan", "v1.1"]);
    for words in ["web-1, web-2 (color=blue)", "web-3, web-4 (color=green)", "somebody types `ctl promote`"] {
        assert!(plan.contains(words), "no {words:?} in:\n{plan}");
    }
    let note = "color=green keeps v1.0 for 10m";
    assert!(plan.contains(note), "{plan}");
    told(&fleet.ctl(&["plan", "v1.1", "--canary", "1"]), 2, &["canary has no meaning"]);

    // While it is held, no request reaches it: over a restart of the controller and of its agents as well.
    told(&fleet.release("v1.1", &artifact, &["--detach"]), 0, &[]);
    fleet.until_said("color=blue is proven, without requests");
    assert_eq!((fleet.runs(BLUE), fleet.runs(GREEN)), (["v1.1".into()].into(), ["v1.0".into()].into()));
    leads_to(&fleet.proxy, GREEN, BLUE, || {});
    fleet.scene.stage.kill_controller().unwrap();
    fleet.scene.stage.kill_agent("web-1").unwrap();
    fleet.scene.stage.start_agent("web-1").unwrap();
    fleet.scene.stage.start_controller().unwrap();
    leads_to(&fleet.proxy, GREEN, BLUE, || {
        fleet.until_said("color=blue is proven, without requests");
    });
    assert_eq!(load.answered_by(), ["v1.0"]);
    fleet.says(&["hosts"]);
    fleet.says(&["why"]);
    fleet.says(&["why", "web-1"]);
    fleet.says(&["why", "web-3"]);
    told(&fleet.ctl(&["hosts", "undrain", "web-1"]), 1, &["led to the other group of hosts"]);
    told(&fleet.ctl(&["hosts", "label", "web-1", "color=green"]), 1, &["stays in its own"]);

    // It is let, and all requests go there; back they come at once.
    let promoted = Instant::now();
    fleet.says(&["promote"]);
    fleet.until_said("requests go to color=blue");
    println!("promoted: changed over and watched {:.0?} after the command", promoted.elapsed());
    load.answered_by();
    leads_to(&fleet.proxy, BLUE, GREEN, || {});
    assert_eq!(load.answered_by(), ["v1.1"]);
    fleet.says(&["hosts"]);
    fleet.says(&["why"]);
    fleet.says(&["why", "web-3"]);
    told(&fleet.ctl(&["hosts", "undrain", "web-3"]), 1, &["led to the other group of hosts"]);
    let back = fleet.goes_back();
    println!("rollback in the watch: the first request to color=green {back:.0?} after the command");
    let ended = fleet.ctl(&["status", "--watch"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(fleet.all_run("v1.0"), "{}", fleet.scene.last_words());
    fleet.until_all_serve();
    load.answered_by();
    fleet.until_all_serve();
    assert_eq!(load.answered_by(), ["v1.0"]);
    let log = fleet.says(&["log", "--all"]);
    for words in ["was promoted", "requests go to color=blue alone", "rolled back"] {
        assert!(log.contains(words), "no {words:?} in:\n{log}");
    }

    // Once more, and to its end.
    told(&fleet.release("v1.1", &artifact, &["--detach"]), 0, &[]);
    fleet.until_said("color=blue is proven, without requests");
    fleet.says(&["promote"]);
    fleet.until_said("requests go to color=blue");
    fleet.says(&["promote"]);
    let ended = fleet.ctl(&["status", "--watch"]);
    assert_eq!(ended.code, 0, "{ended:?}\n{}", fleet.scene.last_words());
    assert!(fleet.all_run("v1.1"), "{}", fleet.scene.last_words());
    fleet.until_all_serve();
    load.answered_by();
    fleet.until_all_serve();
    assert_eq!(load.answered_by(), ["v1.1"]);
    load.stop();
    fleet.says(&["status"]);
    fleet.says(&["log", "--all"]);
}

/// What fails before anybody has promoted it never gets a request; what fails with requests gives them back by itself; and
/// what was ended half way keeps none until somebody says what is to run.
#[test]
fn what_fails_goes_back_and_what_is_aborted_gets_no_request() {
    let fleet = Fleet::new();
    let first = fleet.artifact("v1.0");
    let said = fleet.release("v1.0", &first, &["--auto-promote", "--watch", "0s"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", fleet.scene.last_words());
    let mut load = Loaded::start(&fleet.proxy);
    fleet.until_all_serve();

    let (well, trouble) = ("return 200, \"ok\\n\"", fleet.scene.path("trouble"));
    let ill = fleet.artifact("v1.1");
    let server = SERVER.replacen(well, "return 500, \"no\\n\"", 1);
    assert_ne!(server, SERVER);
    fs::write(ill.join("server.py"), server).unwrap();
    let said = fleet.release("v1.1", &ill, &[]);
    assert_eq!(said.code, 3, "{said:?}\n{}", fleet.scene.last_words());
    fleet.until_all_serve();
    assert_eq!(load.answered_by(), ["v1.0"]);

    let sours = fleet.artifact("v1.2");
    let soured = format!("return (500 if os.path.exists('{}') else 200), \"ok\\n\"", trouble.display());
    fs::write(sours.join("server.py"), SERVER.replacen(well, &soured, 1)).unwrap();
    told(&fleet.release("v1.2", &sours, &["--auto-promote", "--detach"]), 0, &[]);
    fleet.until_said("requests go to color=blue");
    leads_to(&fleet.proxy, BLUE, GREEN, || {});
    load.answered_by();
    fs::write(&trouble, "").unwrap();
    let ended = fleet.ctl(&["status", "--watch"]);
    assert_eq!(ended.code, 3, "{ended:?}\n{}", fleet.scene.last_words());
    assert!(fleet.all_run("v1.0"), "{}", fleet.scene.last_words());
    fleet.until_all_serve();
    load.answered_by();

    let next = fleet.artifact("v1.3");
    told(&fleet.release("v1.3", &next, &["--detach"]), 0, &[]);
    fleet.until_said("color=blue is proven, without requests");
    fleet.says(&["abort"]);
    leads_to(&fleet.proxy, GREEN, BLUE, || {
        fleet.says(&["status"]);
        fleet.says(&["hosts"]);
        fleet.says(&["why", "web-1"]);
    });
    assert_eq!(load.answered_by(), ["v1.0"]);
    let said = fleet.ctl(&["rollback", "--yes"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", fleet.scene.last_words());
    assert!(fleet.all_run("v1.0"), "{}", fleet.scene.last_words());
    fleet.until_all_serve();
    assert_eq!(load.answered_by(), ["v1.0"]);

    // What has no gate could not be led back to, and goes back before anything of it has started.
    let plain = fleet.scene.artifact("v1.4", |text| text).unwrap();
    let by_hand = ["--strategy", "blue_green", "--spread", "color"];
    let words = ["v1.4 has nothing that could lead them back", "back on v1.0"];
    told(&fleet.release("v1.4", &plain, &by_hand), 3, &words);
    fleet.until_all_serve();
    assert_eq!(load.answered_by(), ["v1.0"]);
    load.stop();
}
