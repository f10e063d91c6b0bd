//! The driver for programs of the host's Supervisor.
//!
//! A process is stopped and then started, a group's one after another, so that a group of two always serves.
//! With a signal, nothing is stopped. When the new one fails, the old process of that program has ended; those
//! of the group that were not reached yet run on. As the program of a slot it runs what the slot's own link names
//! ([`seat`]), and else what `current` does. Supervisor's own settings hold: a process has started when
//! it has run for `startsecs`, and is given up after `startretries`.

mod drift;
mod rpc;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use landfall_agent_core::drift::beside::Things;
use landfall_common::assignment::RestartKind;
use landfall_common::manifest::{ReloadSignal, Seat, Supervised};
use landfall_common::report::Failure;
use landfall_common::time::human;
use landfall_common::{ServiceName, Sha256};
use tokio::time::Instant;

use super::note::{End, Incarnations, Note, Notes, Trouble};
use super::{Driver, DriverHost, DriverState, Seen, evidence, last_lines, seat};
use crate::steps::StepContext;
use crate::usage::Roots;
use rpc::{Param, RpcError, Value, fault};

/// How often a process that changes is looked at.
const POLL: Duration = Duration::from_millis(50);

/// How much of a log is asked for, in bytes.
const TAIL_BYTES: i64 = 8 * 1024;

/// What Supervisor says of a process that ended before its `startsecs`, whose exit code it does not keep.
const TOO_QUICKLY: &str = "Exited too quickly";

/// A service of Supervisor's.
pub(super) struct Supervisor<'a> {
    pub host: &'a DriverHost,
    pub name: &'a ServiceName,
    pub context: &'a StepContext,
    pub target: &'a Supervised,
    pub server: &'a str,
    pub signal: Option<ReloadSignal>,
    pub settle: Duration,
    pub timeout: Duration,
    /// The slot whose program or group this is.
    pub seat: Option<&'a Seat>,
}

/// Supervisor's word for how a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Stopped,
    Starting,
    Running,
    Backoff,
    Stopping,
    Exited,
    Fatal,
    Unknown,
}

/// A process, as Supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    /// `group:name`.
    name: String,
    state: State,
    pid: u32,
    /// When it was started last, in seconds.
    start: i64,
    exit_code: Option<i32>,
    why: String,
}

impl Process {
    fn read(value: &Value) -> Option<Self> {
        let Value::Table(table) = value else { return None };
        let text = |key: &str| table.get(key).and_then(Value::text);
        let number = |key: &str| table.get(key).and_then(Value::number);
        let state = match text("statename")? {
            "STOPPED" => State::Stopped,
            "STARTING" => State::Starting,
            "RUNNING" => State::Running,
            "BACKOFF" => State::Backoff,
            "STOPPING" => State::Stopping,
            "EXITED" => State::Exited,
            "FATAL" => State::Fatal,
            _ => State::Unknown,
        };
        let code = number("exitstatus").and_then(|code| i32::try_from(code).ok());
        Some(Self {
            name: format!("{}:{}", text("group")?, text("name")?),
            state,
            pid: number("pid").and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
            start: number("start").unwrap_or(0),
            // It says 0 also where it does not know.
            exit_code: code.filter(|code| *code != 0 || state == State::Exited),
            why: text("spawnerr").unwrap_or_default().to_owned(),
        })
    }

    fn incarnation(&self) -> String {
        format!("{}.{}", self.start, self.pid)
    }

    /// Whether it was started since it had been that one. A process that has ended has no id any more.
    fn is_newer_than(&self, before: Option<&String>) -> bool {
        match before.and_then(|before| before.split_once('.')) {
            None => self.start != 0,
            Some((start, _)) if self.pid == 0 => self.start.to_string() != start,
            Some(_) => before != Some(&self.incarnation()),
        }
    }
}

#[async_trait]
impl Driver for Supervisor<'_> {
    async fn activate(&self, release: Sha256, attempt: &str) -> Result<(), Failure> {
        self.run(release, attempt, None).await
    }

    async fn restart(&self, release: Sha256, attempt: &str) -> Result<(), Failure> {
        self.run(release, attempt, Some(RestartKind::Restart)).await
    }

    async fn reload(&self, release: Sha256, attempt: &str) -> Result<(), Failure> {
        self.run(release, attempt, Some(RestartKind::Reload)).await
    }

    async fn deactivate(&self) -> Result<(), Failure> {
        let processes = match self.list().await {
            Ok(processes) => processes,
            Err(RpcError::Fault { code: fault::BAD_NAME, .. }) => Vec::new(),
            Err(error) => return Err(self.fail(error.to_string())),
        };
        for process in &processes {
            self.stop(process).await.map_err(Trouble::into_failure)?;
        }
        if let Some(seat) = self.seat {
            seat::leave(seat, self.context);
        }
        self.notes().remove();
        Ok(())
    }

    async fn differs(&self, _release: Sha256, applied: Option<&Things>) -> Result<Seen, String> {
        self.seen(applied).await
    }

    async fn status(&self) -> DriverState {
        let processes = match self.list().await {
            Ok(processes) if processes.is_empty() => {
                return DriverState::Unknown { reason: self.not_there() };
            }
            Ok(processes) => processes,
            Err(RpcError::Fault { code: fault::BAD_NAME, .. }) => {
                return DriverState::Unknown { reason: self.not_there() };
            }
            Err(error) => return DriverState::Unknown { reason: error.to_string() },
        };
        self.state(&processes).await
    }
}

impl Supervisor<'_> {
    /// What an activation does, or, with a `kind`, a restart or a reload of what runs.
    async fn run(&self, release: Sha256, attempt: &str, kind: Option<RestartKind>) -> Result<(), Failure> {
        let notes = self.notes();
        if let Some(seat) = self.seat {
            // Before anything is looked at: whatever is started after that, by whomever, runs this release.
            seat::take(seat, self.context).map_err(|reason| self.fail(reason))?;
        }
        let now = incarnations(&self.processes().await?);
        let fail = |reason: String| self.fail(reason);
        let note = match kind {
            None => notes.begin(release, attempt, now.clone(), now, fail)?,
            Some(_) => notes.begin_anew(release, attempt, now, fail)?,
        };
        let ended = tokio::select! {
            ended = self.renew_all(&note, kind) => ended,
            () = self.context.cancel.cancelled() => {
                return Err(self.fail("cancelled; Supervisor goes on with what it was told last"));
            }
        };
        notes.end(note, ended, fail)
    }

    fn notes(&self) -> Notes {
        self.host.notes(self.context, self.name)
    }

    fn fail(&self, reason: impl Into<String>) -> Failure {
        super::fail(self.name, reason)
    }

    fn not_there(&self) -> String {
        match self.target {
            Supervised::Program { name } => {
                format!("Supervisor knows no program {name:?}; see `supervisorctl status`")
            }
            Supervised::Group { name } => {
                format!("Supervisor knows no group {name:?}; see `supervisorctl status`")
            }
        }
    }

    async fn call(&self, method: &'static str, params: &[Param<'_>]) -> Result<Value, RpcError> {
        let server = self.context.words.expand(self.server).map_err(|error| RpcError::Broken {
            path: PathBuf::from(self.server),
            reason: error.to_string(),
        })?;
        rpc::call(Path::new(&server), method, params).await
    }

    async fn list(&self) -> Result<Vec<Process>, RpcError> {
        let answer = match self.target {
            Supervised::Program { name } => {
                self.call("supervisor.getProcessInfo", &[Param::Text(name)]).await.map(|one| vec![one])?
            }
            Supervised::Group { .. } => match self.call("supervisor.getAllProcessInfo", &[]).await? {
                Value::List(all) => all,
                other => vec![other],
            },
        };
        let mut processes: Vec<_> = answer.iter().filter_map(Process::read).collect();
        if let Supervised::Group { name } = self.target {
            processes.retain(|process| process.name.split_once(':').is_some_and(|(group, _)| group == name));
        }
        Ok(processes)
    }

    async fn processes(&self) -> Result<Vec<Process>, Failure> {
        match self.list().await {
            Ok(processes) if processes.is_empty() => Err(self.fail(self.not_there())),
            Err(RpcError::Fault { code: fault::BAD_NAME, .. }) => Err(self.fail(self.not_there())),
            Ok(processes) => Ok(processes),
            Err(error) => Err(self.fail(error.to_string())),
        }
    }

    async fn look(&self, process: &Process) -> Result<Process, Trouble> {
        let unclear = |reason: String| Trouble::Unclear(self.fail(reason));
        let answer = self.call("supervisor.getProcessInfo", &[Param::Text(&process.name)]).await;
        let answer = answer.map_err(|error| unclear(error.to_string()))?;
        Process::read(&answer).ok_or_else(|| unclear("Supervisor describes no process".to_owned()))
    }

    /// Makes each process run what `current` names, one after another, and tells what runs then.
    async fn renew_all(&self, note: &Note, kind: Option<RestartKind>) -> Result<Incarnations, Trouble> {
        let processes = self.processes().await.map_err(Trouble::Unclear)?;
        let mut running = Vec::new();
        for process in &processes {
            running.push(self.renew(process, note, kind).await?);
        }
        Ok(incarnations(&running))
    }

    async fn renew(
        &self,
        process: &Process,
        note: &Note,
        kind: Option<RestartKind>,
    ) -> Result<Process, Trouble> {
        use State::{Backoff, Exited, Fatal, Running, Starting, Stopped, Stopping, Unknown};
        let is_new = note.is_done() || process.is_newer_than(note.before.get(&process.name));
        match process.state {
            Running if note.has_proven(&process.name, &process.incarnation()) && self.signal.is_none() => {
                Ok(process.clone())
            }
            Running | Starting | Backoff if is_new => self.until_up(process).await,
            Exited | Fatal if is_new => Err(Trouble::Failed(self.failure(process).await)),
            Running if self.signal.is_some() && kind != Some(RestartKind::Restart) => {
                self.signalled(process).await
            }
            Running | Starting | Backoff | Stopping => {
                self.stop(process).await?;
                self.start(process).await
            }
            Stopped | Exited | Fatal | Unknown => self.start(process).await,
        }
    }

    async fn stop(&self, process: &Process) -> Result<(), Trouble> {
        let params = [Param::Text(&process.name), Param::Flag(false)];
        match self.call("supervisor.stopProcess", &params).await {
            Ok(_) | Err(RpcError::Fault { code: fault::NOT_RUNNING, .. }) => {}
            Err(error) => return Err(Trouble::Unclear(self.fail(error.to_string()))),
        }
        let until = Instant::now() + self.timeout;
        loop {
            let now = self.look(process).await?;
            if matches!(now.state, State::Stopped | State::Exited | State::Fatal) {
                return Ok(());
            }
            if Instant::now() >= until {
                let reason = format!("{} did not stop within {}", process.name, human::format(self.timeout));
                return Err(Trouble::Failed(self.fail(reason)));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn start(&self, process: &Process) -> Result<Process, Trouble> {
        let params = [Param::Text(&process.name), Param::Flag(false)];
        match self.call("supervisor.startProcess", &params).await {
            // One that ended at once is tried again by Supervisor itself, like any other.
            Ok(_) | Err(RpcError::Fault { code: fault::ALREADY_STARTED | fault::SPAWN_ERROR, .. }) => {}
            // It could not even be tried: no such program, no permission.
            Err(RpcError::Fault { text, .. }) => {
                let now = self.look(process).await?;
                let why = if now.why.is_empty() { text } else { now.why };
                return Err(Trouble::Failed(self.fail(format!("{} cannot be started: {why}", process.name))));
            }
            Err(error) => return Err(Trouble::Unclear(self.fail(error.to_string()))),
        }
        self.until_up(process).await
    }

    /// Waits until Supervisor says that a process which was started runs.
    async fn until_up(&self, process: &Process) -> Result<Process, Trouble> {
        let until = Instant::now() + self.timeout;
        loop {
            let now = self.look(process).await?;
            match now.state {
                State::Running => return self.check(now),
                State::Exited | State::Fatal => return Err(Trouble::Failed(self.failure(&now).await)),
                State::Stopped => {
                    let reason = format!("{} was stopped by somebody else", process.name);
                    return Err(Trouble::Failed(self.fail(reason)));
                }
                // Supervisor tries again by itself, so often as it was told.
                State::Starting | State::Backoff | State::Stopping | State::Unknown => {}
            }
            if Instant::now() >= until {
                let mut failure = self.failure(&now).await;
                failure.reason =
                    format!("{} does not run after {}", process.name, human::format(self.timeout));
                return Err(Trouble::Failed(failure));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Where the process shows which release it runs, it must be this one.
    fn check(&self, process: Process) -> Result<Process, Trouble> {
        match evidence::release_of(self.context, process.pid) {
            Some(shown) if shown != self.context.identity.release => {
                let wanted = match self.seat {
                    Some(seat) => seat::directory(seat, self.context).display().to_string(),
                    None => self.context.words.current.clone(),
                };
                let reason = format!(
                    "{} was started in the directory of {shown}: let its `directory` be {wanted}",
                    process.name
                );
                Err(Trouble::Failed(self.fail(reason)))
            }
            _ => Ok(process),
        }
    }

    async fn signalled(&self, process: &Process) -> Result<Process, Trouble> {
        let Some(signal) = self.signal else { return Ok(process.clone()) };
        let params = [Param::Text(&process.name), Param::Text(signal.name())];
        self.call("supervisor.signalProcess", &params)
            .await
            .map_err(|error| Trouble::Unclear(self.fail(error.to_string())))?;
        let until = Instant::now() + self.settle;
        loop {
            let now = self.look(process).await?;
            if now.state != State::Running || now.incarnation() != process.incarnation() {
                let mut failure = self.failure(&now).await;
                failure.reason = format!("SIG{} ended it: {}", signal.name(), failure.reason);
                return Err(Trouble::Failed(failure));
            }
            if Instant::now() >= until {
                return Ok(now);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// How a process failed, with what it said last.
    async fn failure(&self, process: &Process) -> Failure {
        let exit_code = match process.exit_code {
            Some(code) => Some(code),
            None if process.why.starts_with(TOO_QUICKLY) => self.logged_exit(process).await,
            None => None,
        };
        let how = match (process.state, exit_code) {
            (State::Fatal, Some(code)) => {
                format!("exited with code {code} again and again, and was given up")
            }
            (State::Fatal, None) => "was given up".to_owned(),
            (_, Some(code)) => format!("exited with code {code}"),
            (State::Backoff, None) => "ended as soon as it had started".to_owned(),
            (_, None) => "ended".to_owned(),
        };
        let why = if process.why.is_empty() { String::new() } else { format!(" ({})", process.why) };
        let mut failure = self.fail(format!("service {}: {} {how}{why}", self.name, process.name));
        failure.exit_code = exit_code;
        failure.tail = self.tail(process).await;
        failure
    }

    /// What it wrote last: to its standard error, or where that goes.
    async fn tail(&self, process: &Process) -> Vec<String> {
        for method in ["supervisor.tailProcessStderrLog", "supervisor.tailProcessStdoutLog"] {
            let params = [Param::Text(&process.name), Param::Number(0), Param::Number(TAIL_BYTES)];
            if let Ok(Value::List(answer)) = self.call(method, &params).await {
                let lines = last_lines(answer.first().and_then(Value::text).unwrap_or_default());
                if !lines.is_empty() {
                    return lines;
                }
            }
        }
        Vec::new()
    }

    /// The exit code of a process that ended too soon, which only Supervisor's own log tells.
    async fn logged_exit(&self, process: &Process) -> Option<i32> {
        let params = [Param::Number(-TAIL_BYTES), Param::Number(0)];
        let log = self.call("supervisor.readLog", &params).await.ok()?;
        let name = process.name.split_once(':').map_or(process.name.as_str(), |(_, name)| name);
        let begin = format!("exited: {name} (exit status ");
        let rest = log.text()?.lines().rev().find_map(|line| line.split_once(&begin))?.1;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    async fn state(&self, processes: &[Process]) -> DriverState {
        let in_state = |states: &[State]| processes.iter().find(|process| states.contains(&process.state));
        if let Some(process) = in_state(&[State::Fatal, State::Exited, State::Backoff, State::Unknown]) {
            let failure = self.failure(process).await;
            let said = failure.tail.last().map(|line| format!(": {line}")).unwrap_or_default();
            return DriverState::Failing { reason: format!("{}{said}", failure.reason) };
        }
        if let Some(stopped) = in_state(&[State::Stopped]) {
            if processes.iter().all(|process| process.state == State::Stopped) {
                return DriverState::Stopped;
            }
            return DriverState::Failing { reason: format!("{} is stopped", stopped.name) };
        }
        if in_state(&[State::Starting, State::Stopping]).is_some() {
            return DriverState::Starting;
        }
        let now = incarnations(processes);
        let note = self.notes().read();
        let noted = note.as_ref().and_then(|note| note.release_of(&now));
        // A process that was asked to reload stays where it was started.
        let shown = || {
            let mut releases = processes.iter().map(|p| evidence::release_of(self.context, p.pid));
            let first = releases.next()??;
            releases.all(|other| other.as_ref() == Some(&first)).then_some(first)
        };
        let release = match self.signal {
            Some(_) => noted,
            None => shown().and_then(|release| evidence::digest_of(self.context, &release)).or(noted),
        };
        let activated = match note.and_then(|note| note.end) {
            Some(End::Done { running }) => Some(running),
            _ => None,
        };
        let restarts = self.host.restarts(self.context, self.name, activated.as_ref(), &now);
        let roots =
            Roots { processes: processes.iter().map(|process| process.pid).collect(), ..Roots::default() };
        DriverState::Running { release, restarts, roots: Some(roots) }
    }
}

fn incarnations(processes: &[Process]) -> Incarnations {
    processes.iter().map(|process| (process.name.clone(), process.incarnation())).collect()
}
