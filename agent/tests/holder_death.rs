//! The holder itself dies: its service goes on serving, the agent sees it, and the next holder takes the
//! process and its listening socket over.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

#[path = "support/world.rs"]
mod world;

use std::time::Duration;

use landfall_agent::drivers::DriverState;
use landfall_agent::holder::spec::Life;
use rustix::process::{Pid, Signal, kill_process};
use world::load::Load;
use world::site::{Site, free_address, http_ready, notify_ready, service, stopping_within};

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// A zombie does not: in a container nobody may reap what lost its parent.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

async fn serving_pid(site: &Site) -> u32 {
    match site.status().await.unwrap().serving.unwrap().life {
        Life::Running { pid, .. } => pid,
        life => panic!("it does not serve: {life:?}"),
    }
}

/// Kills the holder and waits until it is gone.
async fn kill_holder(site: &Site) {
    kill(site.holder_pid().await);
    while site.status().await.is_some() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_a_holder_is_seen_and_costs_no_request_and_the_next_one_takes_over() {
    let site = Site::new();
    let address = free_address();
    let web = service(&address, &[], http_ready(20_000));
    site.activate(&web, "v1", "1").await.unwrap();
    let process = serving_pid(&site).await;
    let load = Load::start(&address);
    load.more(20).await;

    kill_holder(&site).await;
    assert_eq!(site.state(&web).await, DriverState::HolderGone { orphan: Some(process) });
    load.more(20).await;

    // The same release again: a new holder finds the process and keeps it.
    site.activate(&web, "v1", "2").await.unwrap();
    assert_eq!(serving_pid(&site).await, process);
    load.more(20).await;
    // And hands it over to the next release on the same socket.
    kill_holder(&site).await;
    site.activate(&web, "v2", "1").await.unwrap();
    assert_ne!(serving_pid(&site).await, process);
    load.more(20).await;

    let told = load.stop().await;
    assert_eq!(told.failed, Vec::<String>::new());
    assert_eq!(told.answered.keys().collect::<Vec<_>>(), ["v1", "v2"]);
    site.deactivate(&web).await.unwrap();
    assert_eq!(site.state(&web).await, DriverState::Stopped);
    assert!(!runs(process), "the first process is still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_dies_during_a_handover_leaves_the_old_one_serving() {
    let site = Site::new();
    let address = free_address();
    let web = service(&address, &[], http_ready(20_000));
    site.activate(&web, "v1", "1").await.unwrap();
    let load = Load::start(&address);
    load.more(20).await;

    let slow = service(&address, &["start_ms=60000"], http_ready(60_000));
    let slow = stopping_within(slow, Duration::from_millis(500));
    let agent = world::agent::Agent::start(&site.root, &slow, "v2", "1");
    let status = site.until("starting", |status| status.starting.is_some()).await;
    let candidate = status.starting.unwrap().pid.unwrap();
    kill(status.holder_pid);
    // The agent that waits for it starts the next holder, which ends the new process and reports.
    let result = agent.result().await;
    assert!(result.contains("the holder died while v2 was starting"), "{result}");
    site.until("the new process ended", |status| status.ending.is_empty()).await;
    assert!(!runs(candidate), "the new process still runs");
    load.more(20).await;
    let told = load.stop().await;
    assert_eq!(told.failed, Vec::<String>::new());
    assert_eq!(told.answered.keys().collect::<Vec<_>>(), ["v1"]);
}

#[tokio::test]
async fn a_holder_that_died_with_its_service_starts_it_again() {
    let site = Site::new();
    let web = service(&free_address(), &["notify=yes"], notify_ready(20_000));
    site.activate(&web, "v1", "1").await.unwrap();
    let process = serving_pid(&site).await;
    kill_holder(&site).await;
    kill(process);
    while runs(process) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(site.state(&web).await, DriverState::HolderGone { orphan: None });
    site.activate(&web, "v1", "2").await.unwrap();
    assert_ne!(serving_pid(&site).await, process);
}

#[tokio::test]
async fn what_a_service_writes_while_it_has_no_holder_is_in_the_log_afterwards() {
    let site = Site::new();
    let script = "i=0; while true; do i=$((i+1)); echo line $i; echo $i > count.new; mv count.new count; \
        sleep 0.02; done";
    let mut web =
        service("", &[], landfall_common::manifest::Ready::Alive { period: Duration::from_millis(50) });
    if let landfall_common::manifest::Driver::Process { command, .. } = &mut web.driver {
        *command = ["sh", "-c", script].map(str::to_owned).to_vec();
    }
    let written = || -> usize {
        let count = std::fs::read_to_string(site.root.join("count")).unwrap_or_default();
        count.trim().parse().unwrap_or(0)
    };
    let log = site.host.places.logs.join("tenants.web.log");
    let logged = || -> Vec<u32> {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect()
    };
    site.activate(&web, "v1", "1").await.unwrap();
    kill_holder(&site).await;
    let alone = written() + 10;
    while written() < alone {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(logged().len() < alone, "somebody else reads what the service writes");
    site.activate(&web, "v1", "2").await.unwrap();
    while logged().len() <= alone {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(site.status().await.unwrap().serving.unwrap().restarts, 0);
    let numbers = logged();
    let expected: Vec<u32> = (1..=u32::try_from(numbers.len()).unwrap()).collect();
    assert_eq!(numbers, expected, "lines were lost");
}
