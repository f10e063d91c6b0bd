//! The step runner against real processes.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

#[path = "support/world.rs"]
mod world;

use std::path::Path;
use std::time::{Duration, Instant};

use landfall_agent::steps::{self, Cause, StepContext, StepFailure, StepOutput};
use landfall_common::manifest::Step;
use landfall_common::report::TAIL_LINES;
use world::site::Site;

fn step(script: &str, timeout_ms: u64) -> Step {
    Step {
        name: "migrate".parse().unwrap(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        environment: [("OWN".to_owned(), "{release}/x".to_owned())].into(),
        timeout: Duration::from_millis(timeout_ms),
        network: None,
    }
}

async fn run(site: &Site, script: &str, timeout_ms: u64) -> Result<StepOutput, StepFailure> {
    let context = site.context("v1");
    let work = async { steps::run(&step(script, timeout_ms), &context).await };
    tokio::time::timeout(Duration::from_secs(50), work).await.expect("the runner hangs")
}

fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z"))
}

#[tokio::test]
async fn a_step_has_a_clean_environment_and_nothing_to_read() {
    let site = Site::new();
    let output = run(&site, "env; cat; pwd", 10_000).await.unwrap().output.first;
    let mut names: Vec<&str> =
        output.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.sort_unstable();
    let expected = [
        "HOME",
        "LANDFALL_APPLICATION",
        "LANDFALL_ENVIRONMENT",
        "LANDFALL_RELEASE",
        "LANG",
        "OWN",
        "PATH",
        "PWD",
    ];
    assert_eq!(names, expected);
    assert!(output.contains(&format!("OWN={}/x", site.root.display())), "{output}");
    assert!(output.ends_with(&format!("{}\n", site.root.canonicalize().unwrap().display())), "{output}");
}

#[tokio::test]
async fn a_migration_knows_the_number_of_its_lease() {
    let site = Site::new();
    let context = StepContext { fence: Some(7), ..site.context("v1") };
    let output = steps::run(&step("echo $LANDFALL_FENCE", 10_000), &context).await.unwrap();
    assert_eq!(output.output.first, "7\n");
}

#[tokio::test]
async fn a_failure_has_its_code_and_its_last_lines() {
    let site = Site::new();
    let failure = run(&site, "seq 1 100; echo broken >&2; exit 7", 10_000).await.unwrap_err();
    let failure = failure.to_failure();
    assert_eq!((failure.exit_code, failure.tail.len()), (Some(7), TAIL_LINES));
    let first = (102 - TAIL_LINES).to_string();
    assert_eq!((failure.tail.first(), failure.tail.last()), (Some(&first), Some(&"broken".to_owned())));
    assert_eq!(failure.reason, "step migrate exited with code 7");
}

#[tokio::test]
async fn a_step_that_backgrounds_without_redirecting_does_not_hang_and_leaves_nothing() {
    let site = Site::new();
    let begun = Instant::now();
    let output = run(&site, "sleep 600 & echo $!", 30_000).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "it waited for {:?}", begun.elapsed());
    assert!(!runs(&output.output.first), "it was left behind");
    // One that leaves the group as well is not ended, but nobody waits for it either.
    let output = run(&site, "setsid sleep 3 & echo $!", 30_000).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(output);
}

#[tokio::test]
async fn a_step_that_ignores_the_request_to_end_is_killed_with_its_group() {
    let site = Site::new();
    let begun = Instant::now();
    let script = "trap '' TERM; sh -c \"trap '' TERM; while true; do sleep 1; done\" & echo $!; while true; do sleep 1; done";
    let failure = run(&site, script, 300).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::TimedOut { .. }), "{failure:?}");
    assert!(begun.elapsed() >= steps::GRACE, "it was not given its grace");
    assert!(!runs(&failure.output.first), "it was left behind");
    assert!(!failure.is_conclusive());
}

#[tokio::test]
async fn a_step_that_ends_gracefully_at_its_timeout_has_timed_out_all_the_same() {
    let site = Site::new();
    let failure =
        run(&site, "trap 'echo rolled back; exit 0' TERM; sleep 600 & wait", 300).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::TimedOut { .. }), "{failure:?}");
    assert_eq!(failure.output.last_lines(), ["rolled back"]);
}

#[tokio::test]
async fn the_contexts_deadline_counts_if_it_comes_first() {
    let site = Site::new();
    let deadline = Some(landfall_agent::clock::mono() + Duration::from_millis(300));
    let context = StepContext { deadline, ..site.context("v1") };
    let failure = steps::run(&step("sleep 600", 60_000), &context).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::TimedOut { .. }), "{failure:?}");
    let failure = steps::run(&step("echo ran", 60_000), &context).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::NotStarted { .. }), "{failure:?}");
}

#[tokio::test]
async fn cancelling_and_dropping_both_end_the_group() {
    let site = Site::new();
    let pid_file = site.root.join("pid");
    let script = format!("echo $$ > {}; exec sleep 600", pid_file.display());
    let pid = async || loop {
        match std::fs::read_to_string(&pid_file) {
            Ok(pid) if pid.ends_with('\n') => return pid,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let context = site.context("v1");
    let work = step(&script, 60_000);
    let (ended, seen) = tokio::join!(steps::run(&work, &context), async {
        let seen = pid().await;
        context.cancel.cancel();
        seen
    });
    assert!(matches!(ended.unwrap_err().cause, Cause::Cancelled));
    assert!(!runs(&seen));

    std::fs::remove_file(&pid_file).unwrap();
    let context = site.context("v1");
    let seen = {
        let running = steps::run(&work, &context);
        tokio::select! { ended = running => panic!("{ended:?}"), seen = pid() => seen }
    };
    while runs(&seen) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_flood_is_read_in_bounded_memory_and_its_log_is_bounded_too() {
    let site = Site::new();
    let log = site.root.join("logs/step.log");
    let context = StepContext { log: Some(log.clone()), ..site.context("v1") };
    let script = "echo begin; head -c 30000000 /dev/zero | tr '\\0' x; echo; echo end";
    let output = steps::run(&step(script, 30_000), &context).await.unwrap().output;
    assert!(output.first.starts_with("begin\n") && output.last.ends_with("\nend\n"));
    assert_eq!(output.first.len() + output.last.len(), 2 * 64 * 1024);
    assert_eq!(output.omitted_bytes, 6 + 30_000_000 + 1 + 4 - 2 * 64 * 1024);
    assert!(std::fs::metadata(&log).unwrap().len() <= 4 * 1024 * 1024);
    assert!(std::fs::read_to_string(&log).unwrap().ends_with("end\n"));
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let site = Site::new();
    let mut missing = step("", 1000);
    for (command, why) in [
        (vec!["no-such-program"], "there is no program \"no-such-program\""),
        (vec!["./bin/no"], "bin/no does not exist"),
        (vec![], "the command is empty"),
        (vec!["echo", "{nope}"], "{nope} in \"{nope}\" stands for nothing"),
        (vec!["/etc/passwd"], "Permission denied"),
    ] {
        missing.command = command.into_iter().map(str::to_owned).collect();
        let failure = steps::run(&missing, &site.context("v1")).await.unwrap_err();
        assert!(matches!(failure.cause, Cause::NotStarted { .. }), "{failure:?}");
        assert!(failure.to_string().contains(why), "{failure}");
    }
    let context = StepContext { directory: Path::new("/nonexistent").to_owned(), ..site.context("v1") };
    let failure = steps::run(&step("true", 1000), &context).await.unwrap_err();
    assert!(failure.to_string().contains("the directory /nonexistent does not exist"), "{failure}");
}

#[tokio::test]
async fn a_signal_that_nobody_here_sent_is_told() {
    let site = Site::new();
    let failure = run(&site, "kill -9 $$", 10_000).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Signalled { signal: 9 });
    assert!(!failure.is_conclusive());
}

#[tokio::test]
async fn what_a_killed_agents_step_has_left_running_ends_before_a_step_is_run_again() {
    let site = Site::new();
    let pid_file = site.root.join("pid");
    // As `sh prepare.sh` does that runs pip: the shell dies with the agent, what it has started does not.
    let script = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
    let mut agent = std::process::Command::new(std::env::current_exe().unwrap())
        .args(world::roles::arguments("step"))
        .arg(&site.root)
        .arg(script)
        .spawn()
        .unwrap();
    let left = loop {
        match std::fs::read_to_string(&pid_file) {
            Ok(pid) if pid.ends_with('\n') => break pid.trim().to_owned(),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(runs(&left), "nothing was left, so that nothing is tested");
    let look = format!(
        "if [ -d /proc/{left} ] && ! grep -q ') Z' /proc/{left}/stat; then echo two write; else echo alone; fi"
    );
    let output = steps::run(&step(&look, 10_000), &site.noted("v1")).await.unwrap().output;
    assert_eq!(output.first, "alone\n");
    assert!(!site.root.join("run/steps/note").exists(), "the note of a step that has ended stays");
}

#[tokio::test]
async fn a_step_that_cannot_be_noted_runs_all_the_same() {
    let site = Site::new();
    std::fs::write(site.root.join("run"), "no directory").unwrap();
    let output = steps::run(&step("echo ran", 10_000), &site.noted("v1")).await.unwrap().output;
    assert_eq!(output.first, "ran\n");
}

#[tokio::test]
async fn a_log_says_which_run_of_which_release_wrote_what() {
    let site = Site::new();
    let log = site.root.join("logs/step.log");
    for release in ["v1", "v2"] {
        let context = StepContext { log: Some(log.clone()), ..site.context(release) };
        steps::run(&step("echo $LANDFALL_RELEASE was here", 30_000), &context).await.unwrap();
    }
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("--- v1 migrate 20") && lines[2].starts_with("--- v2 migrate 20"), "{text}");
    assert_eq!((lines[1], lines[3], lines.len()), ("v1 was here", "v2 was here", 4));
}
