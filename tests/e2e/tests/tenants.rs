//! The example on PostgreSQL and under load: each strategy, and each of its releases that go wrong with what catches it.
//! `cargo nextest run -p landfall-e2e --test tenants --no-capture` prints the figures (benches/README.md).
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]
#![allow(clippy::print_stdout, reason = "the figures")]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use landfall_common::Timestamp;
use landfall_e2e::load::{Counts, Load};
use landfall_e2e::process::wait_until;
use landfall_e2e::stage::Said;
use landfall_e2e::tenants::Tenants;

const HOSTS: [(&str, &[&str]); 4] = [
    ("web-1", &["zone=a"]),
    ("web-2", &["zone=a"]),
    ("web-3", &["zone=b"]),
    ("web-4", &["zone=b", "role=canary"]),
];

/// Of all hosts: v1.7 takes 0.4 s for each, and a host has four threads for them.
const REQUESTS_PER_S: u32 = 20;

/// Windows as short as may be, and as little certainty: how often a verdict is wrong is the simulation's to test.
const ANALYSIS: &str = r#"auto_rollback = true

[environment.production.analysis]
window = "10s"
alpha = "50%"
beta = "50%"
latency = { slack = "150ms" }
failures = { floor = "40%" }
"#;

const PATIENCE: Duration = Duration::from_secs(120);

struct World {
    // Ended before the hosts that it asks.
    load: Load,
    tenants: Tenants,
}

impl World {
    /// All hosts run v1.3, and are asked all the time.
    fn new() -> Self {
        let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
        let tenants = Tenants::new(bin, &HOSTS).unwrap();
        let said = tenants.ctl(&["release", "v1.3", "--yes"]).unwrap();
        assert_eq!(said.code, 0, "{said:?}\n{}", tenants.last_words());
        let load = tenants.load(REQUESTS_PER_S).unwrap();
        Self { load, tenants }
    }

    /// Releases a tag with these arguments, this exit code and these words, and tells how it went.
    #[track_caller]
    fn release(&self, arguments: &[&str], code: i32, words: &[&str]) -> Counts {
        let said = self.tenants.ctl(&[&["release", "--yes"], arguments].concat()).unwrap();
        self.told(&said, code, words);
        self.figures(arguments[0], &arguments[1..].join(" "))
    }

    #[track_caller]
    fn told(&self, said: &Said, code: i32, words: &[&str]) {
        assert_eq!(said.code, code, "{}\n{}\n{}", said.out, said.err, self.tenants.last_words());
        let all = format!("{}{}", said.out, said.err);
        let missing: Vec<_> = words.iter().filter(|word| !all.contains(**word)).collect();
        assert!(missing.is_empty(), "no {missing:?} in\n{all}");
    }

    /// What came back since it was last asked: none of it a failure.
    #[track_caller]
    fn figures(&self, release: &str, how: &str) -> Counts {
        let counts = self.load.take();
        assert_eq!(counts.failed, 0, "{release}: of {}: {:?}", counts.sent, counts.failures);
        let end = Instant::now();
        let served = counts.spans.get(release).map_or_else(
            || "served nobody".to_owned(),
            |(first, last)| {
                let (all, span) = (end.duration_since(*first), last.duration_since(*first));
                let answers = counts.by_release[release];
                format!("{answers} answers of it in {span:.1?}, {all:.1?} from the first to the end")
            },
        );
        let p99 = counts.latency(0.99);
        println!("{release} {how}: {served}; {} requests, 0 failed, p99 {p99:.0?}", counts.sent);
        counts
    }

    /// How long a release that went back took, by the log: from when the first host was let activate until all hosts were
    /// proven on the one before.
    fn tells_when_it_was_back(&self, release: &str) {
        let said = self.tenants.ctl(&["-o", "json", "log", "--all", "--limit", "1000"]).unwrap();
        let log: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let entries: Vec<&serde_json::Value> = log["log"].as_array().unwrap().iter().collect();
        let of = |kind: &str, is: &dyn Fn(&serde_json::Value) -> bool| {
            let found = entries.iter().find(|entry| entry["kind"] == kind && is(&entry["body"]["event"]));
            (*found.unwrap_or_else(|| panic!("no {kind} of {release} in {log}"))).clone()
        };
        let rollout = of("rollout_started", &|event| event["release"]["name"] == release);
        let rollout = rollout["body"]["event"]["rollout"].clone();
        let [began, ended] = ["batch_started", "rollout_finished"].map(|kind| {
            let at = of(kind, &|event| event["rollout"] == rollout)["at"].clone();
            serde_json::from_value::<Timestamp>(at).unwrap()
        });
        println!("{release}: back on all hosts {:.1?} after the first was let activate", ended.since(began));
    }

    /// The migrations that the database has taken.
    fn migrations(&self) -> Vec<String> {
        let query = "SELECT name FROM django_migrations WHERE app = 'housing' ORDER BY id";
        self.tenants.database.query(query).unwrap()
    }

    /// What of the words is not in what a command prints.
    #[track_caller]
    fn says(&self, arguments: &[&str], words: &[&str]) {
        self.told(&self.tenants.ctl(arguments).unwrap(), 0, words);
    }
}

#[test]
fn no_strategy_loses_a_request_and_each_release_that_goes_wrong_is_caught() {
    let world = World::new();

    // A canary, and half of the hosts at a time.
    world.release(&["v1.4"], 0, &["succeeded: v1.4 runs on all 4 hosts"]);
    assert_eq!(world.migrations(), ["0001_initial", "0002_charge_paid_on"]);
    for way in ["one-at-a-time", "at-once", "held", "by-zone"] {
        // Another commit with the same files: what is not there to be run is no part of a release.
        world.tenants.tag(way, "v1.4", "NOTES.md", |text| text + way).unwrap();
    }
    world.release(
        &["one-at-a-time", "--strategy", "one_at_a_time", "--min-healthy", "2s"],
        0,
        &["runs on all 4 hosts"],
    );
    let all = ["at-once", "--strategy", "all_at_once", "--max-unavailable", "100%", "--min-healthy", "2s"];
    world.release(&all, 0, &["runs on all 4 hosts"]);
    world.release_held();
    let by_zone = [
        "by-zone",
        "--window",
        "sliding",
        "--batch",
        "2",
        "--spread",
        "zone",
        "--stagger",
        "1s",
        "--min-healthy",
        "2s",
    ];
    world.release(&by_zone, 0, &["runs on all 4 hosts"]);

    // v1.5 lacks a setting, and says so where its check asks: it goes back.
    let words = ["TENANTS_STATEMENT_SENDER is not set", "rolled back: v1.5 failed"];
    world.release(&["v1.5"], 3, &words);
    world.tells_when_it_was_back("v1.5");
    world.says(&["status"], &["by-zone on 4"]);

    // v1.6: the first of its migrations is taken, the second one fails on a file that was never committed.
    let words = [
        "web-1 failed: step migrate, exit code 1",
        "FileNotFoundError",
        "accounts.csv",
        "failed: v1.6 runs on 0 of 4 hosts of tenants in production",
        "the migration failed on web-1: step migrate exited with code 1; nothing was activated",
        "next: ctl status r",
        "then ctl release v1.6 again; or correct it and release it under a new name",
    ];
    let said = world.tenants.ctl(&["release", "v1.6", "--yes"]).unwrap();
    world.told(&said, 1, &words);
    // It would take the release away that runs, and well.
    assert!(!said.out.contains("ctl rollback"), "{}", said.out);
    assert_eq!(world.migrations().len(), 3, "{:?}", world.migrations());
    world.says(&["status"], &["by-zone on 4", "v1.6 failed", "the migration failed on web-1"]);
    let names = ["housing.0003_charge_account", "housing.0004_fill_accounts", "and by-zone did not"];
    world.says(&["plan", "v1.6"], &names);
    let plan = world.tenants.ctl(&["plan", "v1.6"]).unwrap();
    assert!(!plan.out.contains("0002_charge_paid_on"), "{}", plan.out);
    let counts = world.figures("v1.6", "");
    let by: Vec<_> = counts.by_release.keys().collect();
    assert_eq!(by, ["by-zone"], "the old release on the schema of the new one: {counts:?}");

    // v1.7 starts and answers slowly: its checks pass, and its analysis does not.
    let compared = |text: String| text.replace("auto_rollback = true\n", ANALYSIS);
    world.tenants.tag("compared", "v1.7", "landfall.toml", compared).unwrap();
    let words = [
        "rolled back: tenants in production is back on by-zone",
        "the canary is worse than the hosts on by-zone: latency of healthz: 4",
    ];
    let counts = world.release(&["compared"], 3, &words);
    assert!(counts.by_release.contains_key("compared"), "{counts:?}");
    world.tells_when_it_was_back("compared");
    assert_eq!(world.migrations().len(), 4, "{:?}", world.migrations());
    world.says(&["status"], &["by-zone on 4"]);

    // Without one it is released, and serves on the new schema.
    let counts = world.release(&["v1.7"], 0, &["by-zone -> v1.7", "succeeded: v1.7 runs on all 4 hosts"]);
    assert!(counts.by_release.contains_key("v1.7"), "{counts:?}");
    let unbooked = "SELECT count(*) FROM housing_charge WHERE account = ''";
    assert_eq!(world.tenants.database.query(unbooked).unwrap(), ["0"]);
    world.says(&["status"], &["v1.7 on 4", "v1.7 succeeded"]);
    world.says(&["log"], &["by-zone -> v1.6", "failed", "by-zone -> v1.7", "succeeded"]);
    world.says(&["log", "--all"], &["web-1: the migration of v1.6 failed: step migrate exited with code 1"]);
}

impl World {
    /// A canary of a label, which is held for two seconds and then until somebody types `ctl promote`.
    fn release_held(&self) {
        let mut command = self.tenants.stage.ctl();
        command.current_dir(&self.tenants.repository).args(["release", "--yes", "held"]);
        command.args(["--canary", "role=canary", "--canary-hold", "2s", "--no-auto-promote"]);
        let release = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("the canary is proven", PATIENCE, || {
            self.tenants.ctl(&["status"]).unwrap().out.contains("the canary is proven; `ctl promote")
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.tenants.last_words()));
        let runs = HOSTS.map(|(host, _)| self.tenants.stage.current(host));
        assert_eq!(runs, ["at-once", "at-once", "at-once", "held"]);
        self.says(&["promote"], &[]);
        let said = Said::from(release.wait_with_output().unwrap());
        self.told(&said, 0, &["runs on all 4 hosts"]);
        self.figures("held", "--canary role=canary --canary-hold 2s --no-auto-promote");
    }
}

/// With what is default, for the figures: `cargo nextest run -p landfall-e2e --test tenants --run-ignored only`.
#[test]
#[ignore = "it takes ten minutes: fifteen windows of half a minute before the verdict"]
fn a_slow_release_is_caught_by_the_analysis_as_it_is_by_default() {
    let world = World::new();
    world.release(&["v1.4"], 0, &["succeeded: v1.4 runs on all 4 hosts"]);
    let compared = |text: String| text + "\n[environment.production.analysis]\n";
    world.tenants.tag("compared", "v1.7", "landfall.toml", compared).unwrap();
    let words = ["the canary is worse than the hosts on v1.4: latency of healthz: 4"];
    world.release(&["compared"], 3, &words);
    world.tells_when_it_was_back("compared");
    println!("{}", world.tenants.ctl(&["log", "--all"]).unwrap().out);
}
