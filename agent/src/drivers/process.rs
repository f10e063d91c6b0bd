//! The driver for services that a holder keeps.
//!
//! The new process is started beside the old one: when it fails, the old one still runs. With `hold` the old one is
//! ended first, connections wait for the new one meanwhile, and when it fails, the old one is started again. Every wait for a
//! process to end has an end of its own: not even SIGKILL ends one that the kernel holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use landfall_common::manifest::Ready;
use landfall_common::report::Failure;
use landfall_common::time::human;
use landfall_common::{ServiceName, Sha256};
use tokio::time::Instant;

use super::{Driver, DriverHost, DriverState, step_name};
use crate::holder::spec::{EndNote, Life, UNREADABLE};
use crate::holder::{ChildKey, ChildSpec, Client, ClientError, HolderSpec, Reply, Request, Status};
use crate::steps::{StepContext, UnknownWord};
use crate::usage::Roots;

/// How often a holder is asked how a handover goes.
const POLL: Duration = Duration::from_millis(25);

/// A holder listens within milliseconds; on a host that swaps it may take seconds.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(10);

/// A holder that gives no proper answer for this long is stuck.
const BROKEN_TIMEOUT: Duration = Duration::from_secs(15);

/// Beyond the process's own stop timeout: its group is killed then and has to go.
const STOP_SLACK: Duration = Duration::from_secs(20);

/// What a holder is to run, as the manifest says it.
#[derive(Clone, Copy)]
pub(super) struct Program<'a> {
    pub command: &'a [String],
    pub environment: &'a BTreeMap<String, String>,
    pub listen: Option<&'a str>,
    pub ready: &'a Ready,
    pub stop_timeout: Duration,
    pub hold: Option<Duration>,
}

/// A service and where its holder is.
pub(super) struct Process<'a> {
    pub host: &'a DriverHost,
    pub name: &'a ServiceName,
    pub context: &'a StepContext,
    pub program: Program<'a>,
}

#[async_trait]
impl Driver for Process<'_> {
    async fn activate(&self, release: Sha256, attempt: &str) -> Result<(), Failure> {
        self.run(release, None, attempt).await
    }

    /// For the holder it is another child, which takes over as that of a new release does.
    async fn restart(&self, release: Sha256, attempt: &str) -> Result<(), Failure> {
        self.run(release, Some(attempt), attempt).await
    }

    async fn deactivate(&self) -> Result<(), Failure> {
        let spec = self.spec();
        let client = Client::new(&spec.control());
        if let DriverState::HolderGone { orphan: Some(_) } = self.status().await {
            // Only a holder can end what a holder started: the next one takes it over first.
            self.launch(&spec, &client).await?;
        }
        let mut until: Option<Instant> = None;
        loop {
            match client.ask(&Request::Stop).await {
                Err(ClientError::Gone { .. }) => break,
                Ok(Reply::Status(status)) => {
                    let slack = STOP_SLACK + status.longest_end();
                    let until = *until.get_or_insert_with(|| Instant::now() + slack);
                    if Instant::now() >= until {
                        return Err(self.failure(unkillable(status.ending.iter().map(|ending| ending.pid))));
                    }
                }
                Ok(Reply::Busy { .. }) => {}
                Ok(Reply::Refused { reason }) => return Err(self.fail(reason)),
                // It closed the connection because it has just ended.
                Err(ClientError::Broken { .. }) if until.is_some() => {}
                Err(error) => return Err(self.fail(error.to_string())),
            }
            tokio::time::sleep(POLL).await;
        }
        // A holder that was ended by a signal has kept its record, to come back with its service.
        for file in [self.host.places.spec_file(&spec), spec.record()] {
            let _ = std::fs::remove_file(file);
        }
        Ok(())
    }

    async fn status(&self) -> DriverState {
        let spec = self.spec();
        match Client::new(&spec.control()).ask(&Request::Status).await {
            Ok(Reply::Status(status)) => state(&status),
            Ok(Reply::Busy { .. }) => DriverState::Starting,
            Ok(Reply::Refused { reason }) => DriverState::Unknown { reason },
            Err(ClientError::Gone { .. }) => match crate::holder::client::orphan(&spec) {
                None => DriverState::Stopped,
                Some(orphan) => DriverState::HolderGone { orphan },
            },
            Err(error) => DriverState::Unknown { reason: error.to_string() },
        }
    }
}

impl Process<'_> {
    fn spec(&self) -> HolderSpec {
        self.host.places.spec(&self.context.identity.application, self.name)
    }

    fn fail(&self, reason: impl Into<String>) -> Failure {
        Failure::new(step_name(self.name), reason)
    }

    fn failure(&self, note: EndNote) -> Failure {
        Failure {
            step: step_name(self.name),
            reason: format!("service {}: {}", self.name, note.reason),
            exit_code: note.exit_code,
            tail: note.tail,
        }
    }

    async fn run(&self, release: Sha256, renewal: Option<&str>, attempt: &str) -> Result<(), Failure> {
        let mut child = self.child(release).map_err(|error| self.fail(error.to_string()))?;
        child.renewal = renewal.map(str::to_owned);
        tokio::select! {
            ended = self.hand_over(child, attempt) => ended,
            () = self.context.cancel.cancelled() => {
                Err(self.fail("cancelled; the holder ends the handover by itself"))
            }
        }
    }

    async fn hand_over(&self, child: ChildSpec, attempt: &str) -> Result<(), Failure> {
        let key = child.key();
        let spec = self.spec();
        let client = Client::new(&spec.control());
        if child.hold.is_some()
            && let Ok(Reply::Status(status)) = client.ask(&Request::Status).await
            && !status.can_hold
        {
            let knows_not = "knows no `hold`, and would start the release beside what runs";
            return Err(self.fail(too_old(&spec, knows_not)));
        }
        let request = Request::Handover { child: Box::new(child), key, attempt: attempt.to_owned() };
        let mut launches = 0;
        let mut handover = Handover::default();
        let mut broken_since: Option<Instant> = None;
        loop {
            let answer = client.ask(&request).await;
            if !matches!(answer, Err(ClientError::Broken { .. })) {
                broken_since = None;
            }
            match answer {
                Ok(Reply::Status(status)) => match handover.judge(&status, key, attempt, Instant::now()) {
                    Verdict::Serving => return Ok(()),
                    Verdict::Failed(note) => return Err(self.failure(note)),
                    Verdict::UnderWay => {}
                },
                // Somebody's earlier handover: it ends by itself, one way or the other.
                Ok(Reply::Busy { .. }) => {}
                Ok(Reply::Refused { reason }) => {
                    return Err(self.fail(match reason.strip_prefix(UNREADABLE) {
                        Some(why) => {
                            too_old(&spec, &format!("does not know all that this release asks of it{why}"))
                        }
                        None => reason,
                    }));
                }
                // A holder that dies again and again is not a wait but a failure.
                Err(ClientError::Gone { .. }) if launches < 3 => {
                    launches += 1;
                    self.launch(&spec, &client).await?;
                    continue;
                }
                // It may just be dying: the next question tells.
                Err(ClientError::Broken { .. })
                    if broken_since.get_or_insert_with(Instant::now).elapsed() < BROKEN_TIMEOUT => {}
                Err(error) => return Err(self.fail(error.to_string())),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What the holder is to run: the driver's description with all words replaced.
    fn child(&self, release: Sha256) -> Result<ChildSpec, UnknownWord> {
        let (words, program) = (&self.context.words, self.program);
        let identity = &self.context.identity;
        Ok(ChildSpec {
            release,
            release_name: identity.release.clone(),
            argv: words.command(program.command)?,
            environment: words.environment(identity, &self.context.home, program.environment)?,
            directory: self.context.directory.clone(),
            listen: program.listen.map(|address| words.expand(address)).transpose()?,
            ready: program.ready.clone(),
            stop_timeout: program.stop_timeout,
            hold: program.hold,
            renewal: None,
        })
    }

    /// Starts a holder and waits until it answers.
    async fn launch(&self, spec: &HolderSpec, client: &Client) -> Result<(), Failure> {
        let (launcher, places) = (&self.host.launcher, &self.host.places);
        launcher.launch(places, spec).await.map_err(|reason| self.fail(reason))?;
        let until = Instant::now() + LAUNCH_TIMEOUT;
        loop {
            match client.ask(&Request::Status).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= until => {
                    let said = launcher.said(places, spec);
                    return Err(self.fail(format!("a holder was started but {error}; {said}")));
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}

/// What is to be kept in mind from one look at an attempt to hand over to the next.
#[derive(Default)]
struct Handover {
    /// What SIGKILL had not ended when the attempt began. It answers nobody any more, and whoever was to wait
    /// for it has failed: the way back from there must not fail for the same reason.
    given_up: Option<BTreeSet<u32>>,
    /// When all that is ending must have ended.
    alone_by: Option<Instant>,
}

/// What a status says about one attempt to hand over.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Serving,
    Failed(EndNote),
    UnderWay,
}

impl Handover {
    fn judge(&mut self, status: &Status, key: ChildKey, attempt: &str, now: Instant) -> Verdict {
        let killed = || status.ending.iter().filter(|ending| ending.killed_in.is_zero());
        let given_up = self.given_up.get_or_insert_with(|| killed().map(|ending| ending.pid).collect());
        match judge(status, key, attempt) {
            Verdict::Serving if !status.ending.is_empty() => {
                // The old process may still answer until it has gone; only then is the release alone.
                let alone_by = *self.alone_by.get_or_insert(now + STOP_SLACK + status.longest_end());
                let mut left = status.ending.iter().map(|ending| ending.pid).peekable();
                let mut held = left.clone().filter(|pid| !given_up.contains(pid)).peekable();
                if now < alone_by {
                    Verdict::UnderWay
                } else if held.peek().is_some() {
                    Verdict::Failed(unkillable(held))
                } else {
                    tracing::warn!(
                        pid = left.peek(),
                        "the release serves; SIGKILL has not ended an old process"
                    );
                    Verdict::Serving
                }
            }
            verdict => verdict,
        }
    }
}

/// A holder keeps the version of the agent that started it.
fn too_old(spec: &HolderSpec, knows_not: &str) -> String {
    format!(
        "the holder of this service is of a version that {knows_not}; `systemctl restart landfall-holder@{}` renews \
         it, and the service is out for a moment",
        spec.name()
    )
}

fn unkillable(pids: impl Iterator<Item = u32>) -> EndNote {
    let pids: Vec<String> = pids.map(|pid| pid.to_string()).collect();
    EndNote::of(format!(
        "process {} does not end by SIGKILL: the kernel holds it, as it does when a disk or file server does \
         not answer",
        pids.join(", ")
    ))
}

/// Whatever is still ending.
fn judge(status: &Status, key: ChildKey, attempt: &str) -> Verdict {
    let end = status.end_of(key, attempt);
    if let Some(note) = end.and_then(|end| end.failure.as_ref()) {
        return Verdict::Failed(note.clone());
    }
    let Some(serving) = &status.serving else { return Verdict::UnderWay };
    match &serving.life {
        _ if serving.key != key && end.is_some() => Verdict::Failed(EndNote::of(format!(
            "it was ready, and then {} took its place",
            serving.release_name
        ))),
        _ if serving.key != key => Verdict::UnderWay,
        Life::Running { .. } => Verdict::Serving,
        // It had become ready, and then ended by itself.
        Life::Waiting { .. } if end.is_some() => Verdict::Failed(
            serving.last_end.clone().unwrap_or_else(|| EndNote::of("it was ready and then ended by itself")),
        ),
        _ => Verdict::UnderWay,
    }
}

fn state(status: &Status) -> DriverState {
    if let Some(out) = &status.out {
        return match out.refusing {
            false => DriverState::Starting,
            true => {
                let period = human::format(Duration::from_secs(out.period.as_secs()));
                DriverState::Failing {
                    reason: format!("nothing serves for {period}, and connections are refused by now"),
                }
            }
        };
    }
    let Some(serving) = &status.serving else {
        return match &status.starting {
            Some(_) => DriverState::Starting,
            None => DriverState::Stopped,
        };
    };
    match &serving.life {
        Life::Running { pid, .. } => DriverState::Running {
            release: Some(serving.key.release),
            restarts: serving.restarts,
            roots: Some(Roots { processes: vec![*pid], ..Roots::default() }),
        },
        Life::Starting { .. } => DriverState::Starting,
        Life::Waiting { .. } => {
            let note = serving.last_end.as_ref();
            let reason = note.map_or_else(|| "it ended".to_owned(), |note| note.reason.clone());
            let said = note.and_then(|note| note.tail.last()).map(|line| format!(": {line}"));
            DriverState::Failing { reason: format!("{reason}{}", said.unwrap_or_default()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holder::spec::{Ending, HandoverEnd, Serving};

    fn key(release: &str) -> ChildKey {
        ChildKey { release: Sha256::of(release.as_bytes()), spec: Sha256::of(b"spec") }
    }

    fn spec() -> HolderSpec {
        HolderSpec {
            application: "tenants".parse().unwrap(),
            service: "web".parse().unwrap(),
            run: "/run".into(),
            state: "/state".into(),
            log: "/log".into(),
            log_bytes: 0,
        }
    }

    /// A holder where `release` serves, and these end, each killed in so many seconds.
    fn status(release: &str, ending: &[(u32, u64)]) -> Status {
        let ending = ending.iter().map(|(pid, killed_in_s)| Ending {
            key: key("old"),
            pid: *pid,
            killed_in: Duration::from_secs(*killed_in_s),
        });
        Status {
            holder_pid: 1,
            serving: Some(Serving {
                key: key(release),
                release_name: release.parse().unwrap(),
                life: Life::Running { pid: 7, period: Duration::ZERO },
                restarts: 0,
                last_end: None,
            }),
            starting: None,
            ending: ending.collect(),
            recent: vec![HandoverEnd { key: key(release), attempt: "g1".to_owned(), failure: None }],
            stopping: false,
            out: None,
            can_hold: true,
        }
    }

    #[test]
    fn a_holder_of_a_version_that_knows_no_hold_does_not_say_that_it_can() {
        let mut said = serde_json::to_value(status("v1", &[])).unwrap();
        said.as_object_mut().unwrap().remove("can_hold").unwrap();
        let read: Status = serde_json::from_value(said).unwrap();
        assert!(!read.can_hold && read.out.is_none());
        assert!(
            too_old(&spec(), "knows no `hold`").contains("systemctl restart landfall-holder@tenants.web")
        );
    }

    #[test]
    fn a_service_that_is_out_on_purpose_is_starting_until_its_connections_are_refused() {
        let out = |refusing| crate::holder::spec::Out { period: Duration::from_millis(12_400), refusing };
        let state_of = |out| state(&Status { out: Some(out), ..status("v1", &[]) });
        assert_eq!(state_of(out(false)), DriverState::Starting);
        let DriverState::Failing { reason } = state_of(out(true)) else { panic!() };
        assert_eq!(reason, "nothing serves for 12s, and connections are refused by now");
    }

    #[test]
    fn an_old_process_that_not_even_sigkill_ends_is_named_and_not_waited_for_for_ever() {
        let (mut handover, now) = (Handover::default(), Instant::now());
        let mut look = |ending: &[(u32, u64)], after_s: u64| {
            handover.judge(&status("v2", ending), key("v2"), "g1", now + Duration::from_secs(after_s))
        };
        // It may take the whole of its stop timeout, and then some time to die.
        assert_eq!(look(&[(42, 30)], 0), Verdict::UnderWay);
        assert_eq!(look(&[(42, 0)], 49), Verdict::UnderWay);
        let Verdict::Failed(note) = look(&[(42, 0)], 50) else { panic!("it is waited for") };
        assert!(note.reason.starts_with("process 42 does not end by SIGKILL"), "{}", note.reason);
        assert_eq!(look(&[], 50), Verdict::Serving);
    }

    #[test]
    fn the_way_back_is_not_held_up_by_what_could_not_be_ended_before_it() {
        let (mut handover, now) = (Handover::default(), Instant::now());
        let mut look = |release: &str, ending: &[(u32, u64)], after_s: u64| {
            handover.judge(&status(release, ending), key("v1"), "g1", now + Duration::from_secs(after_s))
        };
        // 42 could not be ended on the way there; what ends now is the release that failed.
        assert_eq!(look("v2", &[(42, 0)], 0), Verdict::UnderWay);
        assert_eq!(look("v1", &[(42, 0), (43, 10)], 60), Verdict::UnderWay);
        assert_eq!(look("v1", &[(42, 0)], 61), Verdict::UnderWay);
        assert_eq!(look("v1", &[(42, 0)], 90), Verdict::Serving);
        let Verdict::Failed(note) = look("v1", &[(42, 0), (43, 0)], 90) else { panic!("43 is new") };
        assert!(note.reason.starts_with("process 43 does"), "{}", note.reason);
    }
}
