//! A canary that is compared with the hosts on the release before: by real agents, whose checks ask a real server.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::Path;
use std::time::Duration;

use landfall_e2e::load::Load;
use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;

const PATIENCE: Duration = Duration::from_secs(240);

/// Short windows, and as little certainty as may be asked for: what is tested is the way of the figures, and the
/// simulation tests how often a verdict is wrong. A machine that has much to do is slower by less than the slack.
const ANALYSIS: &str = r#"
[environment.production.analysis]
window = "10s"
deadline = "10m"
alpha = "50%"
beta = "50%"
latency = { slack = "150ms" }
failures = { floor = "40%" }
"#;

fn runs(scene: &Scene) -> [String; 3] {
    ["web-1", "web-2", "web-3"].map(|host| scene.stage.current(host))
}

#[test]
fn a_release_that_answers_slowly_goes_back_by_itself_and_one_that_does_not_goes_on() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &["web-1", "web-2", "web-3"]).unwrap();
    let said = scene.release("v1").unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());

    // Its checks pass: each answer takes 0.4 s, of the two that it may take.
    let slow = scene.artifact("v2", |text| text + ANALYSIS).unwrap();
    std::fs::write(slow.join("delay.txt"), "0.4").unwrap();
    let said = scene.release_command("v2", &slow, &["--publish-only"]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let plan = scene.ctl(&["plan", "v2"]).unwrap().expect_code(0).unwrap().out;
    let then = "the next batch follows when its analysis beside the hosts on v1 has passed";
    assert!(plan.contains(then) && plan.contains("the canary is compared in windows of 10s"), "{plan}");
    let plan = scene.ctl(&["plan", "v2", "--no-analysis"]).unwrap().expect_code(0).unwrap().out;
    assert!(!plan.contains("its analysis") && !plan.contains("is compared"), "{plan}");

    let said = scene.release_command("v2", &slow, &[]).output().unwrap();
    let all = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert_eq!(said.status.code(), Some(3), "{all}\n{}", scene.last_words());
    assert!(all.contains("the canary is worse than the hosts on v1: latency of healthz: 4"), "{all}");
    assert!(all.contains("beyond its tolerance of 1.5 times (at least 150 ms) in "), "{all}");
    assert_eq!(runs(&scene), ["v1", "v1", "v1"]);
    let log = scene.ctl(&["log", "--all"]).unwrap().expect_code(0).unwrap().out;
    assert!(log.contains("failed its analysis after ") && !log.contains("web-2 v2"), "{log}");

    // Another one that is as fast as v1; the controller dies while it is compared.
    let good = scene.artifact("v3", |text| text + ANALYSIS).unwrap();
    let said = scene.release_command("v3", &good, &["--detach"]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let analysis = |scene: &Scene| {
        let said = scene.ctl(&["-o", "json", "status"]).unwrap();
        let status: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_default();
        find(&status, "analysis").cloned()
    };
    let some_windows =
        |scene: &Scene| analysis(scene).is_some_and(|found| found["windows"].as_u64() >= Some(1));
    wait_until("a window", PATIENCE, || some_windows(&scene))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    assert_eq!(runs(&scene), ["v3", "v1", "v1"]);
    scene.stage.kill_controller().unwrap();
    scene.stage.start_controller().unwrap();
    wait_until("a window, again", PATIENCE, || some_windows(&scene))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    let found = analysis(&scene).unwrap();
    assert_eq!(found["findings"][0]["metric"], "latency of healthz", "{found}");
    assert!(found["findings"][0]["canary"].as_f64() > Some(0.0), "{found}");

    let said = scene.ctl(&["status", "--watch"]).unwrap();
    assert_eq!(runs(&scene), ["v3", "v3", "v3"], "{said:?}\n{}", scene.last_words());
    let log = scene.ctl(&["log", "--all"]).unwrap().expect_code(0).unwrap().out;
    assert!(log.contains("passed its analysis after "), "{log}");
}

/// As above, in the watch: against what is given, since nothing else runs the release before.
const LIMITS: &str = r#"
[environment.production.limits]
window = "10s"
deadline = "10m"
alpha = "50%"
beta = "50%"
latency = "250ms"
"#;

#[test]
fn a_release_that_is_beyond_its_limits_in_the_watch_goes_back_by_itself() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let scene = Scene::new(bin, &["web-1", "web-2", "web-3"]).unwrap();
    let said = scene.release("v1").unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    let watched = |watch: &str| format!("watch = \"{watch}\"\n{LIMITS}");

    // Its checks pass on all hosts, and each answer takes 0.4 s.
    let slow = scene.artifact("v2", |text| text + &watched("10m")).unwrap();
    std::fs::write(slow.join("delay.txt"), "0.4").unwrap();
    let said = scene.release_command("v2", &slow, &["--publish-only"]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let plan = scene.ctl(&["plan", "v2"]).unwrap().expect_code(0).unwrap().out;
    assert!(plan.contains("one of its limits: latency of healthz at most 250 ms"), "{plan}");
    let said = scene.release_command("v2", &slow, &[]).output().unwrap();
    let all = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert_eq!(said.status.code(), Some(3), "{all}\n{}", scene.last_words());
    assert!(all.contains("v2 is beyond its limits: latency of healthz: 4"), "{all}");
    assert!(all.contains("and at most 250 ms may be: beyond that in "), "{all}");
    assert_eq!(runs(&scene), ["v1", "v1", "v1"]);
    let log = scene.ctl(&["log", "--all"]).unwrap().expect_code(0).unwrap().out;
    assert!(
        log.contains("web-3: v2 is active and healthy") && log.contains("is beyond its limits after "),
        "{log}"
    );

    // One that keeps within them; the watch lasts until that is known.
    let good = scene.artifact("v3", |text| text + &watched("1s")).unwrap();
    let said = scene.release_command("v3", &good, &[]).output().unwrap();
    assert!(said.status.success(), "{said:?}\n{}", scene.last_words());
    assert_eq!(runs(&scene), ["v3", "v3", "v3"]);
}

/// As above, of what the services use: memory decides, and a restart now and then does not.
const OF_SERVICES: &str = r#"
[environment.production.analysis]
window = "10s"
deadline = "10m"
alpha = "50%"
beta = "50%"
latency = { critical = false }
failures = { floor = "40%" }
memory = { tolerance = "50%", missing = "pause" }
restarts = { floor = 360, missing = "pause" }
"#;

#[test]
fn a_release_that_holds_far_more_memory_goes_back_by_itself_and_restarts_are_counted() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let scene = Scene::new(bin, &["web-1", "web-2", "web-3"]).unwrap();
    let said = scene.release("v1").unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    let hosts = || {
        let said = scene.ctl(&["-o", "json", "hosts"]).unwrap().expect_code(0).unwrap().out;
        serde_json::from_str::<serde_json::Value>(&said).unwrap()
    };
    wait_until("what the service uses", PATIENCE, || {
        find(&hosts(), "services")
            .is_some_and(|services| services[0]["memory_bytes"].as_u64() > Some(1 << 20))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", hosts()));

    // It answers as fast, and its checks pass.
    let hoards = scene.artifact("v2", |text| text + OF_SERVICES).unwrap();
    std::fs::write(hoards.join("hoard.txt"), "150").unwrap();
    let said = scene.release_command("v2", &hoards, &[]).output().unwrap();
    let all = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert_eq!(said.status.code(), Some(3), "{all}\n{}", scene.last_words());
    assert!(all.contains("the canary is worse than the hosts on v1: memory of web: 1"), "{all}");
    assert!(all.contains(" MiB on the canary against ") && all.contains("(at least 32 MiB) in "), "{all}");
    assert_eq!(runs(&scene), ["v1", "v1", "v1"]);

    // Another one that holds no more; its process on the canary is killed once, and started again by its holder.
    let held = |text: String| text + "auto_promote = false\n" + OF_SERVICES;
    let good = scene.artifact("v3", held).unwrap();
    let said = scene.release_command("v3", &good, &["--detach"]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let finding = |metric: &str| {
        let said = scene.ctl(&["-o", "json", "status"]).unwrap();
        let status: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_default();
        let findings = find(&status, "findings")?.as_array()?.clone();
        findings.into_iter().find(|finding| finding["metric"] == metric)
    };
    let compared = || finding("restarts of web").is_some_and(|found| found["paired"].as_u64() >= Some(1));
    wait_until("a window", PATIENCE, compared)
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    assert_eq!(runs(&scene), ["v3", "v1", "v1"]);
    let memory = finding("memory of web").unwrap();
    assert_eq!(
        (memory["unit"].as_str(), memory["critical"].as_bool()),
        (Some("bytes"), Some(true)),
        "{memory}"
    );
    assert!(memory["canary"].as_f64() > Some(1e6) && memory["baseline"].as_f64() > Some(1e6), "{memory}");
    let cpu = finding("cpu of web").unwrap();
    assert_eq!((cpu["unit"].as_str(), cpu["critical"].as_bool()), (Some("cores"), Some(false)), "{cpu}");
    kill_what_works_in(&scene.path("hosts").join("web-1"));
    wait_until("a restart that was counted", PATIENCE, || {
        finding("restarts of web").is_some_and(|found| found["canary"].as_f64() > Some(0.0))
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", finding("restarts of web"), scene.last_words()));
    let status = scene.ctl(&["status"]).unwrap().expect_code(0).unwrap().out;
    assert!(status.contains("  aside    cpu of web: "), "{status}");
    scene.ctl(&["promote"]).unwrap().expect_code(0).unwrap();
    let said = scene.ctl(&["status", "--watch"]).unwrap();
    assert_eq!(runs(&scene), ["v3", "v3", "v3"], "{said:?}\n{}", scene.last_words());
}

/// What the application shows of itself: requests that fail decide, its backlog is shown.
const METRICS: &str = r#"
[[metric]]
name = "errors"
url = "http://127.0.0.1:{port}/metrics"
ratio = { events = { series = "http_requests_total", labels = { code = "5*" } }, of = "http_requests_total" }

[[metric]]
name = "backlog"
url = "http://127.0.0.1:{port}/metrics"
gauge = "app_backlog"
worse = "higher"
"#;

#[test]
fn a_release_whose_requests_fail_goes_back_by_itself_though_its_checks_are_green() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let scene = Scene::new(bin, &["web-1", "web-2", "web-3"]).unwrap();
    let v1 = scene.artifact("v1", |text| text + METRICS).unwrap();
    let said = scene.release_command("v1", &v1, &[]).output().unwrap();
    assert!(said.status.success(), "{said:?}\n{}", scene.last_words());
    let targets = scene.stage.hosts.values().map(|host| format!("127.0.0.1:{}", host.port)).collect();
    let load = Load::start(targets, "/", 60).unwrap();
    let hosts = || scene.json(&["hosts"]).unwrap();
    wait_until("what the application shows", PATIENCE, || {
        let hosts = hosts();
        let shown = find(&hosts, "metrics").and_then(|metrics| metrics.as_array());
        let errors = shown.and_then(|shown| shown.iter().find(|metric| metric["metric"] == "errors"));
        errors.is_some_and(|errors| errors["of"].as_u64() > Some(0) && errors["events"] == 0)
    })
    .unwrap_or_else(|error| panic!("{error}: {}\n{}", hosts(), scene.last_words()));

    // One request in five fails, and no check sees it.
    let with = |deadline: &str| {
        let analysis = ANALYSIS.replace("10m", deadline);
        move |text: String| text + &analysis + METRICS
    };
    let fails = scene.artifact("v2", with("10m")).unwrap();
    std::fs::write(fails.join("fail.txt"), "5").unwrap();
    let said = scene.release_command("v2", &fails, &["--publish-only"]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let plan = scene.ctl(&["plan", "v2"]).unwrap().expect_code(0).unwrap().out;
    let named = "compared are latency of healthz, failures of healthz, restarts of web, errors";
    assert!(plan.contains(named), "{plan}");
    assert!(plan.contains("deciding nothing, are cpu of web, memory of web, backlog"), "{plan}");
    let said = scene.release_command("v2", &fails, &[]).output().unwrap();
    let all = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert_eq!(said.status.code(), Some(3), "{all}\n{}", scene.last_words());
    assert!(all.contains("the canary is worse than the hosts on v1: errors: 2"), "{all}");
    assert!(all.contains(" % on the canary against 0 % ("), "{all}");
    assert_eq!(runs(&scene), ["v1", "v1", "v1"]);
    let counts = load.take();
    assert!(counts.failed > 0 && counts.by_release["v2"] > counts.failed, "{counts:?}");

    // One that shows nothing is not healthy for that: somebody has to say whether it is.
    let mute = scene.artifact("v3", with("2m")).unwrap();
    std::fs::write(mute.join("mute.txt"), "").unwrap();
    let said = scene.release_command("v3", &mute, &["--detach"]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let status = || scene.ctl(&["status"]).unwrap().out;
    wait_until("a pause", PATIENCE, || status().contains("could not tell in "))
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", status(), scene.last_words()));
    let told = status();
    assert!(told.contains("errors: no figures of the canary in "), "{told}");
    assert!(told.contains("/metrics answered 404, expected 200)"), "{told}");
    assert_eq!(runs(&scene), ["v3", "v1", "v1"]);
    assert!(load.stop().sent > 0);
}

/// Kills every process that works in a release below this directory: those of the service.
fn kill_what_works_in(host: &Path) {
    let works_there = |pid: &u32| {
        let directory = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        directory.starts_with(host) && directory.components().any(|part| part.as_os_str() == "releases")
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let killed: Vec<String> = pids.filter(works_there).map(|pid| pid.to_string()).collect();
    assert!(!killed.is_empty(), "nothing works in {}", host.display());
    let status = std::process::Command::new("kill").arg("-9").args(&killed).status().unwrap();
    assert!(status.success(), "{killed:?}");
}

/// The first value under this key that is not null.
fn find<'v>(value: &'v serde_json::Value, key: &str) -> Option<&'v serde_json::Value> {
    match value {
        serde_json::Value::Object(map) => {
            let here = map.get(key).filter(|value| !value.is_null());
            here.or_else(|| map.values().find_map(|value| find(value, key)))
        }
        serde_json::Value::Array(items) => items.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}
