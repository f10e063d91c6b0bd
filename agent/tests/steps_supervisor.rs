//! The supervisor: a step whose end is known although the agent was killed.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

#[path = "support/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_agent::steps::supervisor::{self, Recovered, Supervision};
use landfall_agent::steps::{Cause, StepContext};
use landfall_common::manifest::Step;
use world::site::Site;

fn step(script: &str, timeout_ms: u64) -> Step {
    Step {
        name: "migrate".parse().unwrap(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        environment: [("MARK".to_owned(), "{release}".to_owned())].into(),
        timeout: Duration::from_millis(timeout_ms),
        network: None,
    }
}

fn supervision(site: &Site) -> Supervision {
    Supervision {
        program: std::env::current_exe().unwrap(),
        arguments: world::roles::arguments("step-runner"),
        note: site.root.join("note.json"),
    }
}

async fn appears(path: &Path) -> String {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

fn recovered(site: &Site) -> Recovered {
    supervisor::recover(&supervision(site).note, &"migrate".parse().unwrap())
}

/// Begins a step and then forgets it, as an agent does that is killed: the future is dropped.
async fn begin_and_forget(site: &Site, script: &str, timeout_ms: u64) -> String {
    let pid: PathBuf = site.root.join("pid");
    let script = format!("echo $$ > {}; {script}", pid.display());
    let (step, context, supervision) = (step(&script, timeout_ms), site.context("v1"), supervision(site));
    tokio::select! {
        ended = supervisor::run(&step, &context, &supervision) => panic!("{ended:?}"),
        pid = appears(&pid) => pid.trim().to_owned(),
    }
}

fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

#[tokio::test]
async fn a_step_below_a_supervisor_ends_like_any_other() {
    let site = Site::new();
    assert_eq!(recovered(&site), Recovered::NeverBegun);
    let output =
        supervisor::run(&step("echo done", 10_000), &site.context("v1"), &supervision(&site)).await.unwrap();
    assert_eq!(output.output.first, "done\n");
    assert_eq!(recovered(&site), Recovered::Ended(Ok(output)));
    let again = supervisor::run(&step("echo done", 10_000), &site.context("v1"), &supervision(&site)).await;
    assert!(again.unwrap_err().to_string().contains("it is not run twice"));
}

#[tokio::test]
async fn a_failure_keeps_its_code() {
    let site = Site::new();
    let failed =
        supervisor::run(&step("echo no; exit 4", 10_000), &site.context("v1"), &supervision(&site)).await;
    let failure = failed.unwrap_err();
    assert_eq!(
        (failure.cause.clone(), failure.output.last_lines()),
        (Cause::Exited { code: 4 }, vec!["no".to_owned()])
    );
}

#[tokio::test]
async fn an_agent_that_was_killed_learns_afterwards_how_the_step_ended() {
    let site = Site::new();
    begin_and_forget(&site, "sleep 0.3; echo migrated", 20_000).await;
    assert_eq!(recovered(&site), Recovered::Running);
    let note = supervision(&site).note;
    let output = supervisor::wait(&note, &"migrate".parse().unwrap(), &Default::default()).await.unwrap();
    assert_eq!(output.output.first, "migrated\n");
}

#[tokio::test]
async fn the_deadline_is_kept_without_the_agent() {
    let site = Site::new();
    let pid = begin_and_forget(&site, "exec sleep 600", 400).await;
    let note = supervision(&site).note;
    let failure =
        supervisor::wait(&note, &"migrate".parse().unwrap(), &Default::default()).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::TimedOut { .. }), "{failure:?}");
    assert!(!runs(&pid));
}

#[tokio::test]
async fn a_supervisor_that_was_killed_takes_the_step_with_it_and_the_end_is_unknown() {
    let site = Site::new();
    let pid = begin_and_forget(&site, "exec sleep 600", 60_000).await;
    let note = std::fs::read_to_string(supervision(&site).note).unwrap();
    let note: serde_json::Value = serde_json::from_str(&note).unwrap();
    let supervisor = i32::try_from(note["pid"].as_i64().unwrap()).unwrap();
    let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    while runs(&pid) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let known = async {
        loop {
            match recovered(&site) {
                Recovered::Running => tokio::time::sleep(Duration::from_millis(5)).await,
                other => return other,
            }
        }
    };
    let known = tokio::time::timeout(Duration::from_secs(10), known).await.unwrap();
    assert_eq!(known, Recovered::Lost { reason: "its supervisor was killed".to_owned() });
}

#[tokio::test]
async fn what_a_migration_has_started_ends_too_when_its_supervisor_is_killed() {
    let site = Site::new();
    let child = site.root.join("child");
    let script = format!("sleep 600 & echo $! > {}; wait", child.display());
    begin_and_forget(&site, &script, 60_000).await;
    let left = appears(&child).await.trim().to_owned();
    let path = supervision(&site).note;
    let note: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let supervisor = i32::try_from(note["pid"].as_i64().unwrap()).unwrap();
    let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    let failure =
        supervisor::wait(&path, &"migrate".parse().unwrap(), &Default::default()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Lost { reason: "its supervisor was killed".to_owned() });
    assert!(!runs(&left), "it outlives its lease");
}

#[tokio::test]
async fn a_note_from_before_the_hosts_last_start_is_of_an_unknown_end() {
    let site = Site::new();
    begin_and_forget(&site, "sleep 600", 60_000).await;
    let path = supervision(&site).note;
    let text = std::fs::read_to_string(&path).unwrap();
    let mut note: serde_json::Value = serde_json::from_str(&text).unwrap();
    // Whoever still lives would note how the step ends, in place of what follows.
    let supervisor = note["pid"].as_i64().unwrap();
    let killed = rustix::process::Pid::from_raw(i32::try_from(supervisor).unwrap()).unwrap();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
    while runs(&supervisor.to_string()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    note["boot_id"] = "another".into();
    std::fs::write(&path, note.to_string()).unwrap();
    assert!(matches!(recovered(&site), Recovered::Lost { reason } if reason.contains("went down")));
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert!(matches!(recovered(&site), Recovered::Lost { .. }), "a torn note was taken for something");
}

#[tokio::test]
async fn cancelling_ends_the_step_below_its_supervisor() {
    let site = Site::new();
    let (work, context) = (step("sleep 600", 60_000), site.context("v1"));
    let supervision = supervision(&site);
    let (ended, ()) = tokio::join!(supervisor::run(&work, &context, &supervision), async {
        while !matches!(recovered(&site), Recovered::Running) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        context.cancel.cancel();
    });
    assert_eq!(ended.unwrap_err().cause, Cause::Cancelled);
}

#[tokio::test]
async fn cancelling_ends_a_step_that_an_earlier_agent_has_begun() {
    let site = Site::new();
    let pid = begin_and_forget(&site, "exec sleep 600", 60_000).await;
    let cancel = tokio_util::sync::CancellationToken::new();
    cancel.cancel();
    let ended = supervisor::wait(&supervision(&site).note, &"migrate".parse().unwrap(), &cancel).await;
    assert_eq!(ended.unwrap_err().cause, Cause::Cancelled);
    assert!(!runs(&pid));
}

#[tokio::test]
async fn a_lease_that_has_run_out_begins_nothing() {
    let site = Site::new();
    let context = StepContext { deadline: Some(landfall_agent::clock::mono()), ..site.context("v1") };
    let failure = supervisor::run(&step("echo x", 1000), &context, &supervision(&site)).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::NotStarted { .. }), "{failure:?}");
    assert_eq!(recovered(&site), Recovered::NeverBegun);
}
