//! The agent is killed with SIGKILL at every step of a handover, under load, and started again: the handover
//! completes or is undone, and not one request fails.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

#[path = "support/world.rs"]
mod world;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use landfall_agent::holder::spec::Life;
use landfall_agent::holder::{ChildSpec, Request, Status};
use landfall_common::manifest::Driver;
use world::agent::Agent;
use world::load::Load;
use world::site::{Site, free_address, http_ready, release_digest, service};

/// When the agent is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after its start, wherever that finds it.
    After(u64),
    /// The new process has been started and is not ready.
    Starting,
    /// The new process serves and the old one finishes its requests.
    Ending,
    /// Everything is done.
    Done,
}

fn serves(status: &Status, release: &str) -> bool {
    status.serving.as_ref().is_some_and(|serving| {
        serving.release_name.as_str() == release && matches!(serving.life, Life::Running { .. })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_step_the_handover_completes_without_a_failed_request() {
    let site = Site::new();
    let address = free_address();
    let web = service(&address, &["start_ms=150"], http_ready(20_000));
    assert_eq!(Agent::start(&site.root, &web, "v0", "1").result().await, "ok");
    let holder = site.holder_pid().await;
    let load = Load::start(&address);
    load.more(20).await;

    let mut moments: Vec<Moment> = [0, 1, 3, 6, 10, 20, 40, 80, 160, 320].map(Moment::After).to_vec();
    moments.extend([Moment::Starting, Moment::Ending, Moment::Done]);
    let mut early = 0;
    for (index, moment) in moments.into_iter().enumerate() {
        let release = format!("v{}", index + 1);
        let mut agent = Agent::start(&site.root, &web, &release, "1");
        let starting = |status: &Status| {
            status.starting.as_ref().is_some_and(|starting| starting.release_name.as_str() == release)
        };
        match moment {
            Moment::After(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Moment::Starting => drop(site.until("starting", starting).await),
            Moment::Ending => {
                let ending = |status: &Status| serves(status, &release) && !status.ending.is_empty();
                drop(site.until("ending", ending).await);
            }
            Moment::Done => {
                let done = |status: &Status| serves(status, &release) && status.ending.is_empty();
                drop(site.until("done", done).await);
            }
        }
        early += u32::from(agent.kill());
        load.more(5).await;
        assert_eq!(
            Agent::start(&site.root, &web, &release, "1").result().await,
            "ok",
            "after a kill at {moment:?}"
        );
        let status = site.status().await.unwrap();
        assert!(serves(&status, &release), "after a kill at {moment:?}: {status:#?}");
        assert!(status.ending.is_empty() && status.starting.is_none(), "{status:#?}");
    }
    load.more(20).await;
    let told = load.stop().await;
    assert_eq!(told.failed, Vec::<String>::new(), "of {:?}", told.answered);
    assert!(early >= 8, "the agent was killed too late {early} times");
    assert_eq!(site.holder_pid().await, holder, "the holder did not survive");
    assert!(told.answered.len() >= 10, "too few releases answered: {:?}", told.answered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_the_new_one_fails_the_handover_is_undone_without_a_failed_request() {
    let site = Site::new();
    let address = free_address();
    let good = service(&address, &[], http_ready(20_000));
    assert_eq!(Agent::start(&site.root, &good, "v1", "1").result().await, "ok");
    let load = Load::start(&address);
    load.more(20).await;

    // One that accepts nothing: it does not take requests from the one that serves, and is never ready.
    let bad = service(&address, &["accept=no", "say=waiting for the database"], http_ready(700));
    for (attempt, ms) in [5u64, 50, 300, 690, 720].into_iter().enumerate() {
        let attempt = attempt.to_string();
        let mut agent = Agent::start(&site.root, &bad, "v2", &attempt);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        agent.kill();
        let result = Agent::start(&site.root, &bad, "v2", &attempt).result().await;
        assert!(result.contains("did not answer GET /healthz"), "{result}");
        assert!(result.contains("waiting for the database"), "{result}");
        let status = site.status().await.unwrap();
        assert!(serves(&status, "v1"), "{status:#?}");
    }
    let told = load.stop().await;
    assert_eq!(told.failed, Vec::<String>::new());
    assert_eq!(told.answered.keys().collect::<Vec<_>>(), ["v1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_request_to_the_holder_nothing_is_lost() {
    let site = Site::new();
    let address = free_address();
    let web = service(&address, &["start_ms=50"], http_ready(20_000));
    site.activate(&web, "v1", "1").await.unwrap();
    let load = Load::start(&address);
    load.more(20).await;

    let Driver::Process { command, ready, stop_timeout, .. } = &web.driver else { unreachable!() };
    let context = site.context("v2");
    let child = ChildSpec {
        release: release_digest("v2"),
        release_name: "v2".parse().unwrap(),
        argv: command.clone(),
        environment: context
            .words
            .environment(&context.identity, &context.home, &Default::default())
            .unwrap(),
        directory: site.root.clone(),
        listen: Some(address.clone()),
        ready: ready.clone(),
        stop_timeout: *stop_timeout,
        hold: None,
        renewal: None,
    };
    let request = Request::Handover { key: child.key(), child: Box::new(child), attempt: "raw".to_owned() };
    let mut line = serde_json::to_vec(&request).unwrap();
    line.push(b'\n');
    // Connected and gone; half a request; nothing but a line that is none.
    drop(UnixStream::connect(site.control()).unwrap());
    UnixStream::connect(site.control()).unwrap().write_all(&line[..line.len() / 2]).unwrap();
    UnixStream::connect(site.control()).unwrap().write_all(b"{}\n").unwrap();
    let status = site.until("v1 undisturbed", |status| serves(status, "v1")).await;
    assert!(status.starting.is_none() && status.recent.len() == 1, "{status:#?}");
    // A whole request, and the reply is never read.
    UnixStream::connect(site.control()).unwrap().write_all(&line).unwrap();
    site.until("v2 alone", |status| serves(status, "v2") && status.ending.is_empty()).await;

    load.more(5).await;
    let told = load.stop().await;
    assert_eq!(told.failed, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_the_first_holder_starts_there_is_one_holder_in_the_end() {
    for ms in [0u64, 1, 2, 5, 10, 20, 40, 80] {
        let site = Site::new();
        let web = service(&free_address(), &[], http_ready(20_000));
        let mut agent = Agent::start(&site.root, &web, "v1", "1");
        tokio::time::sleep(Duration::from_millis(ms)).await;
        agent.kill();
        assert_eq!(Agent::start(&site.root, &web, "v1", "1").result().await, "ok", "after {ms} ms");
        let status = site.status().await.unwrap();
        assert!(serves(&status, "v1") && status.ending.is_empty(), "after {ms} ms: {status:#?}");
    }
}
