//! The example on PostgreSQL, blue-green between two groups of hosts behind one HAProxy, under load: a release with a
//! migration is proven without requests, gets all of them, gives them back, and takes them once more; none is lost.
//! `cargo nextest run -p landfall-e2e --test tenants_blue_green --no-capture` prints the figures (benches/README.md).
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]
#![allow(clippy::print_stdout, reason = "the figures")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use landfall_e2e::load::Load;
use landfall_e2e::process::wait_until;
use landfall_e2e::proxy::Proxy;
use landfall_e2e::stage::told;
use landfall_e2e::tenants::Tenants;

const BLUE: [&str; 2] = ["web-1", "web-2"];
const GREEN: [&str; 2] = ["web-3", "web-4"];
const REQUESTS_PER_S: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(120);

/// What the definition has of groups and of how requests are led.
fn by_color(text: &str) -> String {
    let strategy = "strategy = \"blue_green\"\nspread = \"color\"\nauto_promote = false\nwatch = \"10m\"";
    let text = text.replace("strategy = \"rolling\"\ncanary = 1\nbatch = \"50%\"", strategy);
    let text = text.replace("max_unavailable = 1\n", "max_unavailable = \"50%\"\n");
    text + "\n[traffic]\nproxy = \"haproxy\"\nbackend = \"site\"\nserver = \"{server}\"\ndrain = \"10s\"\n"
}

struct Fleet {
    // Ended before the hosts that it asks.
    load: Option<Load>,
    proxy: Proxy,
    tenants: Tenants,
}

impl Fleet {
    /// All hosts run v1.3 behind the proxy, and are asked all the time.
    fn new() -> Self {
        let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
        let mut tenants = Tenants::without_hosts(bin).unwrap();
        let hosts = || BLUE.into_iter().chain(GREEN);
        let configs: Vec<_> = hosts().map(|name| tenants.prepare(name).unwrap()).collect();
        let servers: Vec<(&str, u16)> = hosts().map(|name| (name, tenants.stage.hosts[name].port)).collect();
        let proxy = Proxy::start(&tenants.stage.root.join("proxy"), &servers);
        for (name, config) in hosts().zip(configs) {
            let mut config = OpenOptions::new().append(true).open(config).unwrap();
            writeln!(config, "server = \"{name}\"\n\n[traffic.haproxy]\nsocket = {:?}", proxy.socket)
                .unwrap();
            let color = if BLUE.contains(&name) { "color=blue" } else { "color=green" };
            tenants.join(name, &[color]).unwrap();
        }
        for version in ["1.3", "1.4"] {
            let (tag, on) = (format!("by-color-{version}"), format!("v{version}"));
            tenants.tag(&tag, &on, "landfall.toml", |text| by_color(&text)).unwrap();
        }
        let mut fleet = Self { load: None, proxy, tenants };
        fleet.ctl(&["release", "by-color-1.3", "--yes", "--auto-promote", "--watch", "0s"], 0, &[]);
        fleet.until_all_serve();
        let target = vec![format!("127.0.0.1:{}", fleet.proxy.port)];
        fleet.load = Some(Load::start(target, "/", REQUESTS_PER_S).unwrap());
        fleet.proxy.until_led_to(&BLUE, 20);
        fleet
    }

    #[track_caller]
    fn ctl(&self, arguments: &[&str], code: i32, words: &[&str]) -> String {
        let said = self.tenants.ctl(arguments).unwrap();
        println!("$ ctl {}\n{}{}", arguments.join(" "), said.out, said.err);
        assert_eq!(said.code, code, "{said:?}\n{}", self.tenants.last_words());
        told(&said, code, words);
        said.out
    }

    fn until_said(&self, words: &str) {
        let is_said = || self.tenants.ctl(&["status"]).unwrap().out.contains(words);
        wait_until(words, PATIENCE, is_said).unwrap_or_else(|error| {
            panic!("{error}\n{:?}\n{}", self.tenants.ctl(&["status"]), self.tenants.last_words())
        });
    }

    /// Waits until requests come to everybody.
    fn until_all_serve(&self) {
        let is_led = || {
            let told: serde_json::Value =
                serde_json::from_str(&self.tenants.ctl(&["-o", "json", "hosts"]).unwrap().out).unwrap();
            told["hosts"].as_array().unwrap().iter().all(|host| host["traffic"] == "led")
        };
        wait_until("all get requests", PATIENCE, is_led)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.tenants.last_words()));
    }

    fn runs(&self, group: [&str; 2]) -> [String; 2] {
        group.map(|host| self.tenants.stage.current(host))
    }

    /// Not a request was lost since this was last asked; which releases have answered.
    #[track_caller]
    fn answered_by(&self, what: &str) -> Vec<String> {
        let counts = self.load.as_ref().unwrap().take();
        assert!(counts.sent > 0 && counts.failed == 0, "{what}: {} {:?}", counts.failed, counts.failures);
        println!("{what}: {} requests, 0 failed, {:?}", counts.sent, counts.by_release);
        counts.by_release.into_keys().collect()
    }

    /// Releases v1.4 and waits until the blue hosts are proven on it; no request has come to them.
    fn release_to_blue(&self) {
        self.ctl(&["release", "by-color-1.4", "--yes", "--detach"], 0, &[]);
        self.until_said("color=blue is proven, without requests");
        assert_eq!(self.runs(BLUE), ["by-color-1.4"; 2]);
        assert_eq!(self.runs(GREEN), ["by-color-1.3"; 2]);
    }
}

#[test]
fn the_example_changes_over_between_two_groups_and_back_without_losing_a_request() {
    let fleet = Fleet::new();
    let before = fleet.tenants.database.query("SELECT count(*) FROM django_migrations").unwrap();

    // The schema moves, and the blue hosts take the release while the others serve on it.
    fleet.release_to_blue();
    let after = fleet.tenants.database.query("SELECT count(*) FROM django_migrations").unwrap();
    assert_ne!(before, after, "the migration of v1.4 ran");
    let led = fleet.proxy.led_to(&BLUE);
    fleet.proxy.until_led_to(&GREEN, 20);
    assert_eq!(fleet.proxy.led_to(&BLUE), led, "requests came to what nobody has let get them");
    assert_eq!(fleet.answered_by("proven without requests"), ["by-color-1.3"]);

    // Somebody lets it.
    let promoted = Instant::now();
    fleet.ctl(&["promote"], 0, &[]);
    fleet.until_said("requests go to color=blue");
    println!("changed over {:.0?} after `ctl promote`", promoted.elapsed());
    fleet.answered_by("changing over");
    fleet.proxy.until_led_to(&BLUE, 20);
    assert_eq!(fleet.answered_by("watched"), ["by-color-1.4"]);

    // And takes it back: the requests come back, and nothing is started for that.
    let led = fleet.proxy.led_to(&GREEN);
    let asked = Instant::now();
    fleet.ctl(&["rollback", "--yes", "--detach"], 0, &[]);
    wait_until("requests come back", PATIENCE, || fleet.proxy.led_to(&GREEN) > led).unwrap();
    println!("the first request to color=green came {:.0?} after `ctl rollback`", asked.elapsed());
    fleet.ctl(&["status", "--watch"], 3, &[]);
    fleet.until_all_serve();
    assert_eq!([fleet.runs(BLUE), fleet.runs(GREEN)], [["by-color-1.3"; 2]; 2]);
    fleet.answered_by("going back");

    // Once more, and to its end: the schema is there already.
    fleet.release_to_blue();
    assert_eq!(fleet.tenants.database.query("SELECT count(*) FROM django_migrations").unwrap(), after);
    fleet.ctl(&["promote"], 0, &[]);
    fleet.until_said("requests go to color=blue");
    fleet.ctl(&["promote"], 0, &[]);
    fleet.ctl(&["status", "--watch"], 0, &[]);
    fleet.until_all_serve();
    assert_eq!([fleet.runs(BLUE), fleet.runs(GREEN)], [["by-color-1.4"; 2]; 2]);
    fleet.answered_by("to its end");
    fleet.proxy.until_led_to(&GREEN, 20);
    assert_eq!(fleet.answered_by("at rest"), ["by-color-1.4"]);
}
