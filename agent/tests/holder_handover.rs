//! A handover in good and bad cases, without anybody being killed.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

#[path = "support/world.rs"]
mod world;

use std::time::{Duration, Instant};

use landfall_agent::drivers::DriverState;
use landfall_agent::holder::spec::Life;
use landfall_common::manifest::{Driver, Ready, Service};
use world::load::Load;
use world::site::{Site, free_address, http_ready, notify_ready, release_digest, service, stopping_within};

fn running(release: &str, restarts: u32) -> DriverState {
    DriverState::Running { release: Some(release_digest(release)), restarts, roots: None }
}

/// Which processes run is not known beforehand.
fn without_roots(state: DriverState) -> DriverState {
    match state {
        DriverState::Running { release, restarts, .. } => {
            DriverState::Running { release, restarts, roots: None }
        }
        other => other,
    }
}

fn shell(script: &str, ready: Ready) -> Service {
    let mut service = service("", &[], ready);
    if let Driver::Process { command, .. } = &mut service.driver {
        *command = ["sh", "-c", script].map(str::to_owned).to_vec();
    }
    service
}

fn alive(ms: u64) -> Ready {
    Ready::Alive { period: Duration::from_millis(ms) }
}

#[tokio::test]
async fn a_new_one_that_is_never_ready_is_ended_and_its_last_words_are_told() {
    let site = Site::new();
    let address = free_address();
    site.activate(&service(&address, &[], http_ready(20_000)), "v1", "1").await.unwrap();
    for (bad, why) in [
        (
            service(&address, &["status=500", "say=bad settings"], http_ready(600)),
            "it answered with status 500: v2 ",
        ),
        (service(&address, &["accept=no", "say=bad settings"], notify_ready(300)), "READY=1"),
    ] {
        let failure = site.activate(&bad, "v2", why).await.unwrap_err();
        assert!(failure.reason.contains(why), "{failure:?}");
        assert_eq!(failure.tail, ["bad settings"]);
        assert_eq!(without_roots(site.state(&bad).await), running("v1", 0));
    }
    site.until("nothing is left", |status| status.ending.is_empty()).await;
}

#[tokio::test]
async fn a_new_one_that_ends_at_its_start_is_told_with_its_code_and_last_lines() {
    let site = Site::new();
    let address = free_address();
    let bad = service(&address, &["exit=3"], http_ready(20_000));
    let failure = site.activate(&bad, "v1", "1").await.unwrap_err();
    assert_eq!((failure.exit_code, failure.tail), (Some(3), vec!["the database is not there".to_owned()]));
    assert_eq!(site.state(&bad).await, DriverState::Stopped, "nothing ran before");
    let mut missing = service(&address, &[], http_ready(20_000));
    if let Driver::Process { command, .. } = &mut missing.driver {
        *command = vec!["no-such-program".to_owned()];
    }
    let failure = site.activate(&missing, "v1", "2").await.unwrap_err();
    assert!(failure.reason.contains("no program \"no-such-program\""), "{failure:?}");
}

#[tokio::test]
async fn an_old_one_that_ignores_the_request_to_end_is_killed_after_its_time() {
    let site = Site::new();
    let address = free_address();
    let deaf = service(&address, &["ignore_term=yes"], http_ready(20_000));
    let deaf = stopping_within(deaf, Duration::from_millis(400));
    site.activate(&deaf, "v1", "1").await.unwrap();
    let Life::Running { pid, .. } = site.status().await.unwrap().serving.unwrap().life else { panic!() };
    let begun = Instant::now();
    site.activate(&deaf, "v2", "1").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(without_roots(site.state(&deaf).await), running("v2", 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handovers_at_once_are_done_one_after_the_other_without_a_failed_request() {
    let site = Site::new();
    let address = free_address();
    let web = service(&address, &["start_ms=100"], http_ready(20_000));
    site.activate(&web, "v1", "1").await.unwrap();
    let load = Load::start(&address);
    load.more(20).await;
    let first = tokio::time::timeout(Duration::from_secs(20), site.activate(&web, "v2", "1"));
    let second = async {
        site.until("v2 starts", |status| status.starting.is_some()).await;
        site.activate(&web, "v3", "1").await
    };
    let (first, second) = tokio::join!(first, second);
    second.unwrap();
    // Its own was done, whether or not it saw that before the next one had taken its place.
    if let Err(failure) = first.unwrap() {
        assert!(failure.reason.contains("it was ready, and then v3 took its place"), "{failure:?}");
    }
    assert_eq!(without_roots(site.state(&web).await), running("v3", 0));
    let told = load.stop().await;
    assert_eq!(told.failed, Vec::<String>::new());
}

#[tokio::test]
async fn a_handover_to_what_runs_changes_nothing() {
    let site = Site::new();
    let web = service(&free_address(), &[], http_ready(20_000));
    site.activate(&web, "v1", "1").await.unwrap();
    let before = site.status().await.unwrap().serving.unwrap();
    for attempt in ["1", "2", "3"] {
        site.activate(&web, "v1", attempt).await.unwrap();
    }
    let after = site.status().await.unwrap().serving.unwrap();
    let pid = |life: &Life| match life {
        Life::Running { pid, .. } => *pid,
        life => panic!("{life:?}"),
    };
    assert_eq!((pid(&before.life), before.restarts), (pid(&after.life), after.restarts));
}

#[tokio::test]
async fn what_crashes_is_started_again_and_counted() {
    let site = Site::new();
    let web = service(&free_address(), &["crash_after_ms=150"], http_ready(20_000));
    site.activate(&web, "v1", "1").await.unwrap();
    let status = site
        .until("two restarts", |status| status.serving.as_ref().is_some_and(|serving| serving.restarts >= 2))
        .await;
    let note = status.serving.unwrap().last_end.unwrap();
    assert!(note.reason.contains("killed by signal 6"), "{note:?}");
    let good = service(&free_address(), &[], http_ready(20_000));
    site.activate(&good, "v2", "1").await.unwrap();
    assert_eq!(without_roots(site.state(&good).await), running("v2", 0));
}

#[tokio::test]
async fn a_flood_of_output_neither_blocks_the_service_nor_fills_the_disk() {
    let site = Site::new();
    let address = free_address();
    let web = service(&address, &["flood=yes"], http_ready(20_000));
    site.activate(&web, "v1", "1").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let load = Load::start(&address);
    load.more(50).await;
    assert_eq!(load.stop().await.failed, Vec::<String>::new());
    site.activate(&service(&address, &[], http_ready(20_000)), "v2", "1").await.unwrap();
    // Only now: while it writes, the one file becomes the other.
    for name in ["tenants.web.log", "tenants.web.log.1"] {
        let bytes = std::fs::metadata(site.host.places.logs.join(name)).unwrap().len();
        assert!(bytes <= site.host.places.log_bytes, "{name} has {bytes} bytes");
    }
}

#[tokio::test]
async fn what_a_service_leaves_behind_in_its_group_is_ended() {
    let site = Site::new();
    let pids = site.root.join("pids");
    let script = format!("sleep 600 & echo $! > {}; trap 'exit 0' TERM; sleep 600 & wait", pids.display());
    site.activate(&shell(&script, alive(200)), "v1", "1").await.unwrap();
    let left: u32 = std::fs::read_to_string(&pids).unwrap().trim().parse().unwrap();
    site.activate(&shell("exec sleep 600", alive(50)), "v2", "1").await.unwrap();
    let gone = async {
        while std::fs::read_to_string(format!("/proc/{left}/stat")).is_ok_and(|stat| !stat.contains(") Z")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it still runs");
}

#[tokio::test]
async fn a_service_on_a_socket_in_the_file_system_is_handed_over_too() {
    let site = Site::new();
    let address = format!("unix:{}/web.sock", site.root.display());
    let web = service(&address, &[], http_ready(20_000));
    site.activate(&web, "v1", "1").await.unwrap();
    site.activate(&web, "v2", "1").await.unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect(site.root.join("web.sock")).unwrap();
    use std::io::{Read as _, Write as _};
    stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("v2 "), "{answer}");
    site.deactivate(&web).await.unwrap();
    assert!(!site.root.join("web.sock").exists());
    assert!(!site.control().exists());
}

#[tokio::test]
async fn a_release_may_listen_elsewhere_and_a_failed_one_leaves_the_address_alone() {
    let site = Site::new();
    let (old, new) = (free_address(), free_address());
    site.activate(&service(&old, &[], http_ready(20_000)), "v1", "1").await.unwrap();
    let bad = service(&new, &["exit=1"], http_ready(20_000));
    site.activate(&bad, "v2", "1").await.unwrap_err();
    assert!(std::net::TcpStream::connect(&old).is_ok());
    assert!(std::net::TcpStream::connect(&new).is_err(), "the failed release's address is still bound");
    site.activate(&service(&new, &[], http_ready(20_000)), "v3", "1").await.unwrap();
    assert!(std::net::TcpStream::connect(&new).is_ok());
    assert!(std::net::TcpStream::connect(&old).is_err(), "the old address is still bound");
}

#[tokio::test]
async fn a_port_that_somebody_else_has_fails_the_handover_with_its_address() {
    let site = Site::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let web = service(&address, &[], http_ready(20_000));
    let failure = site.activate(&web, "v1", "1").await.unwrap_err();
    assert!(failure.reason.contains(&format!("cannot listen on {address}")), "{failure:?}");
}

#[tokio::test]
async fn readiness_may_be_told_by_a_child_of_the_process() {
    let site = Site::new();
    let script = "sleep 0.1; python3 -c 'import os,socket; \
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b\"READY=1\", os.environ[\"NOTIFY_SOCKET\"])'; \
        exec sleep 600";
    site.activate(&shell(script, notify_ready(20_000)), "v1", "1").await.unwrap();
}

#[tokio::test]
async fn a_holder_told_to_end_by_a_signal_ends_its_service_and_remembers_it() {
    let site = Site::new();
    let address = free_address();
    let web = service(&address, &[], http_ready(20_000));
    site.activate(&web, "v1", "1").await.unwrap();
    let holder = i32::try_from(site.holder_pid().await).unwrap();
    let pid = rustix::process::Pid::from_raw(holder).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    while site.control().exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(std::net::TcpStream::connect(&address).is_err());
    assert_eq!(site.state(&web).await, DriverState::HolderGone { orphan: None });
    // As after the next start of the host: the holder alone brings back what ran.
    let spec = site.host.places.spec(&"tenants".parse().unwrap(), &web.name);
    site.host.launcher.launch(&site.host.places, &spec).await.unwrap();
    site.until("v1 again", |status| {
        status.serving.as_ref().is_some_and(|serving| matches!(serving.life, Life::Running { .. }))
    })
    .await;
}
