//! The driver for units of the host's systemd.
//!
//! Units are installed by the host's administrator. The agent starts, stops, restarts and reloads them over
//! D-Bus, as far as polkit lets it; it makes no unit, changes none and never asks systemd to read them again.
//!
//! A fixed unit runs what `current` names when it starts, or, as the instance of a slot, what the slot's own link
//! does ([`seat`]). When its restart fails, the old process has ended;
//! the unit is left to what it says of restarting itself. Of a template the new instance is started beside
//! the old one, on the socket that a socket unit keeps: when it fails, it is stopped and the old one still runs.

mod bus;
mod journal;

use std::time::Duration;

use async_trait::async_trait;
use landfall_common::assignment::RestartKind;
use landfall_common::manifest::{Renewal, Seat, Unit};
use landfall_common::report::Failure;
use landfall_common::{ReleaseName, ServiceName, Sha256};
use tokio::time::Instant;

pub(crate) use bus::{Bus, BusError, UnitState, Verb};
pub(crate) use journal::last_words;

use super::note::{Incarnations, Note, Notes, Trouble};
use super::{Driver, DriverHost, DriverState, evidence, seat};
use crate::steps::StepContext;
use crate::usage::Roots;

/// How often a unit that changes is looked at.
const POLL: Duration = Duration::from_millis(100);

/// The journal may take a process's last words just after systemd's word of its end.
const LAG_US: u64 = 50_000;

/// The slots of a template.
const SLOTS: [&str; 2] = ["a", "b"];

/// A service of systemd's.
pub(super) struct Systemd<'a> {
    pub host: &'a DriverHost,
    pub name: &'a ServiceName,
    pub context: &'a StepContext,
    pub unit: &'a Unit,
    pub socket: Option<&'a str>,
    pub settle: Duration,
    pub timeout: Duration,
    /// The slot whose instance this is.
    pub seat: Option<&'a Seat>,
}

/// Units by name.
type Seen = Vec<(String, UnitState)>;

#[async_trait]
impl Driver for Systemd<'_> {
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
        // The socket first: else the next connection would start the service again.
        let mut units: Vec<String> = self.socket.map(str::to_owned).into_iter().collect();
        let seen = self.look_at_all().await.map_err(|error| self.fail(error.to_string()))?;
        units.extend(seen.into_iter().map(|(name, _)| name));
        for unit in &units {
            self.stop(unit).await.map_err(Trouble::into_failure)?;
        }
        if let Some(seat) = self.seat {
            seat::leave(seat, self.context);
        }
        self.notes().remove();
        Ok(())
    }

    async fn status(&self) -> DriverState {
        match self.look_at_all().await {
            Ok(seen) => self.state(&seen),
            Err(error) => DriverState::Unknown { reason: error.to_string() },
        }
    }
}

impl Systemd<'_> {
    /// What an activation does, or, with a `kind`, a restart or a reload of what runs.
    async fn run(&self, release: Sha256, attempt: &str, kind: Option<RestartKind>) -> Result<(), Failure> {
        let fail = |reason: String| self.fail(reason);
        let notes = self.notes();
        if let Some(seat) = self.seat {
            // Before anything is looked at: whatever is started after that, by whomever, runs this release.
            seat::take(seat, self.context).map_err(fail)?;
        }
        let seen = self.look_at_all().await.map_err(|error| fail(error.to_string()))?;
        let note = match kind {
            None => notes.begin(
                release,
                attempt,
                incarnations(&seen, |_| true),
                incarnations(&seen, UnitState::is_up),
                fail,
            )?,
            Some(_) => notes.begin_anew(release, attempt, incarnations(&seen, |_| true), fail)?,
        };
        let ended = tokio::select! {
            ended = self.renew(&note, &seen, kind) => ended,
            () = self.context.cancel.cancelled() => {
                return Err(self.fail("cancelled; systemd goes on with its job by itself"));
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

    fn unclear(&self, error: &BusError) -> Trouble {
        Trouble::Unclear(self.fail(error.to_string()))
    }

    /// The unit, or the instances of the template of which systemd knows.
    async fn look_at_all(&self) -> Result<Seen, BusError> {
        let names = match self.unit {
            Unit::Fixed { name, .. } => vec![name.clone()],
            Unit::Slots { template } => SLOTS.map(|slot| instance(template, slot)).to_vec(),
            Unit::Releases { template } => self.host.bus.list(&instance(template, "*")).await?,
        };
        let mut seen = Vec::new();
        for name in names {
            let state = self.host.bus.look(&name).await?;
            seen.push((name, state));
        }
        Ok(seen)
    }

    async fn look(&self, unit: &str) -> Result<UnitState, Trouble> {
        self.host.bus.look(unit).await.map_err(|error| self.unclear(&error))
    }

    async fn renew(
        &self,
        note: &Note,
        seen: &Seen,
        kind: Option<RestartKind>,
    ) -> Result<Incarnations, Trouble> {
        let target = self.target(note, seen).await?;
        let state = self.without_job(&target).await?;
        if !state.is_found() {
            return Err(Trouble::Failed(self.fail(not_there(&target, &state))));
        }
        self.listen(&target, &state).await?;
        let is_new = note.is_done()
            || note.before.get(&target).map_or(!state.invocation.is_empty(), |old| *old != state.invocation);
        // A release has one instance, and that is the one to be restarted.
        let is_alone = match self.unit {
            Unit::Fixed { .. } => true,
            Unit::Releases { .. } => kind.is_some(),
            Unit::Slots { .. } => false,
        };
        // Of an instance it is known what it runs, or it was free a moment ago.
        let is_begun = state.is_up() && (is_new || !is_alone);
        let begun = if is_begun {
            Ok(())
        } else if state.active == "failed" && is_new {
            Err(Trouble::Failed(self.failure(&target, &state).await))
        } else {
            self.begin(&target, &state, kind).await
        };
        let proven = match begun {
            Ok(()) => self.prove(&target).await,
            Err(trouble) => Err(trouble),
        };
        let running = match proven {
            Ok(running) => running,
            Err(trouble) => {
                if !is_alone && matches!(trouble, Trouble::Failed(_)) {
                    // The old one serves alone again; why this one failed is the greater trouble.
                    let _ = self.stop(&target).await;
                }
                return Err(trouble);
            }
        };
        for (unit, _) in seen.iter().filter(|(unit, _)| *unit != target) {
            self.stop(unit).await?;
        }
        Ok([(target, running.invocation)].into())
    }

    /// Which unit is to run the release.
    async fn target(&self, note: &Note, seen: &Seen) -> Result<String, Trouble> {
        match self.unit {
            Unit::Fixed { name, .. } => Ok(name.clone()),
            Unit::Releases { template } => Ok(instance(template, &escape(&self.context.identity.release))),
            Unit::Slots { .. } => {
                let is_new = |unit: &str, state: &UnitState| {
                    note.is_done() || note.before.get(unit).is_some_and(|old| *old != state.invocation)
                };
                let up = || seen.iter().filter(|(_, state)| state.is_up());
                let proven = up().find(|(unit, state)| note.has_proven(unit, &state.invocation));
                let begun = up().find(|(unit, state)| is_new(unit, state));
                let failed =
                    seen.iter().find(|(unit, state)| state.active == "failed" && is_new(unit, state));
                let free = seen.iter().find(|(_, state)| !state.is_up());
                if let Some((unit, _)) = proven.or(begun).or(failed).or(free) {
                    return Ok(unit.clone());
                }
                // Both were left running by an attempt that was given up: the older one has proven itself.
                let newest = up().max_by_key(|(_, state)| state.active_since_us);
                let (unit, _) = newest.expect("neither is free, so both are up");
                self.stop(unit).await?;
                Ok(unit.clone())
            }
        }
    }

    /// Lets the socket unit listen, if there is one.
    async fn listen(&self, target: &str, state: &UnitState) -> Result<(), Trouble> {
        let Some(socket) = self.socket else { return Ok(()) };
        let now = self.look(socket).await?;
        if !now.is_found() {
            return Err(Trouble::Failed(self.fail(not_there(socket, &now))));
        }
        if now.active == "active" {
            return Ok(());
        }
        if state.is_up() {
            // systemd starts no socket below a service that runs.
            self.stop(target).await?;
        }
        let result = self.ask(Verb::Start, socket).await?;
        if result == "done" {
            return Ok(());
        }
        let reason = format!("{socket} was not started ({result}); see `systemctl status {socket}`");
        Err(Trouble::Failed(self.fail(reason)))
    }

    /// Starts, restarts or reloads.
    async fn begin(&self, unit: &str, state: &UnitState, kind: Option<RestartKind>) -> Result<(), Trouble> {
        let verb = match self.unit {
            Unit::Fixed { how: Renewal::Reload, .. }
                if state.active == "active" && kind != Some(RestartKind::Restart) =>
            {
                Verb::Reload
            }
            Unit::Fixed { .. } => Verb::Restart,
            Unit::Releases { .. } if kind.is_some() => Verb::Restart,
            Unit::Slots { .. } | Unit::Releases { .. } => Verb::Start,
        };
        if verb != Verb::Reload {
            // Else a unit that ended often of late would not be started at all, not even on the way back.
            self.ask(Verb::ResetFailed, unit).await?;
        }
        let asked_at = crate::clock::wall().ms() * 1000;
        let result = self.ask(verb, unit).await?;
        if result == "done" {
            return Ok(());
        }
        let now = self.look(unit).await?;
        let mut failure = self.failure(unit, &now).await;
        if verb == Verb::Reload && now.active == "active" {
            failure = self.fail(format!("service {}: {unit} could not reload ({result})", self.name));
            failure.tail = journal::last_words(unit, asked_at, None).await;
        } else if now.active != "failed" && !now.is_up() {
            failure.reason = format!("service {}: {unit} was not started ({result})", self.name);
        }
        Err(Trouble::Failed(failure))
    }

    async fn ask(&self, verb: Verb, unit: &str) -> Result<String, Trouble> {
        self.host.bus.ask(verb, unit, self.timeout).await.map_err(|error| self.unclear(&error))
    }

    async fn stop(&self, unit: &str) -> Result<(), Trouble> {
        let state = self.look(unit).await?;
        if state.is_up() || state.active == "deactivating" || state.has_job {
            self.ask(Verb::Stop, unit).await?;
        }
        if self.look(unit).await?.active == "failed" {
            // It did not end as it should, but it has ended.
            self.ask(Verb::ResetFailed, unit).await?;
        }
        Ok(())
    }

    /// How a unit is once no job is under way, such as one that an agent began which has gone since.
    async fn without_job(&self, unit: &str) -> Result<UnitState, Trouble> {
        let late = Instant::now() + self.timeout;
        loop {
            let state = self.look(unit).await?;
            if !state.has_job && state.active != "reloading" {
                return Ok(state);
            }
            if Instant::now() >= late {
                let timeout = landfall_common::time::human::format(self.timeout);
                let reason = format!("{unit} is still {} ({}) after {timeout}", state.active, state.sub);
                return Err(Trouble::Unclear(self.fail(reason)));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until a unit that was started is up to stay, and is what it should be.
    async fn prove(&self, unit: &str) -> Result<UnitState, Trouble> {
        let first = self.without_job(unit).await?;
        let speaks = matches!(first.kind.as_str(), "notify" | "notify-reload" | "dbus" | "oneshot");
        let settled = Instant::now() + if speaks { Duration::ZERO } else { self.settle };
        let mut state = first.clone();
        loop {
            if state.active != "active" || state.invocation != first.invocation {
                return Err(Trouble::Failed(self.failure(unit, &state).await));
            }
            if Instant::now() >= settled {
                return self.check(unit, state);
            }
            tokio::time::sleep(POLL).await;
            state = self.look(unit).await?;
        }
    }

    /// Where a process shows which release it runs, it must be this one.
    fn check(&self, unit: &str, state: UnitState) -> Result<UnitState, Trouble> {
        let wanted = &self.context.identity.release;
        match self.shown(&state) {
            Some(shown) if shown != *wanted => {
                let wanted = match self.seat {
                    Some(seat) => seat::directory(seat, self.context).display().to_string(),
                    None => self.context.words.current.clone(),
                };
                let reason = format!(
                    "{unit} was started in the directory of {shown}: let its WorkingDirectory= be {wanted}"
                );
                Err(Trouble::Failed(self.fail(reason)))
            }
            _ => Ok(state),
        }
    }

    /// The release that the main process shows. One that reloads stays where it was started.
    fn shown(&self, state: &UnitState) -> Option<ReleaseName> {
        if matches!(self.unit, Unit::Fixed { how: Renewal::Reload, .. }) || state.main_pid == 0 {
            return None;
        }
        evidence::release_of(self.context, state.main_pid)
    }

    /// How a unit failed, which may be starting again by itself already.
    async fn failure(&self, unit: &str, state: &UnitState) -> Failure {
        let mut failure = self.fail(format!("service {}: {}", self.name, sentence(unit, state)));
        failure.exit_code = exit_code(state);
        let (mut from, mut until) = (state.started_us, None);
        if state.is_up() && (state.result == "success" || !state.waits_to_restart()) {
            // It is starting again, or was between two looks at it: only the journal knows.
            let exit = journal::last_exit(unit).await;
            failure.exit_code = exit.map(|(code, _)| code);
            let code = failure.exit_code.map(|code| format!(" with code {code}")).unwrap_or_default();
            failure.reason = format!(
                "service {}: {unit} ended{code} soon after its start, and systemd starts it again",
                self.name
            );
            // When that one was started is not known any more.
            from = 0;
            until = exit.map(|(_, at)| at + LAG_US);
        }
        failure.tail = journal::last_words(unit, from, until).await;
        if failure.tail.is_empty() {
            failure.reason.push_str(&format!("; see `journalctl -u {unit}`"));
        }
        failure
    }

    fn state(&self, seen: &Seen) -> DriverState {
        let found: Vec<_> = seen.iter().filter(|(_, state)| state.is_found()).collect();
        let running = |(unit, state): &(String, UnitState)| DriverState::Running {
            release: self.release(unit, state, seen),
            restarts: state.restarts,
            roots: Some(Roots {
                groups: vec![state.group.clone()],
                processes: Some(state.main_pid).filter(|pid| *pid > 0).into_iter().collect(),
            }),
        };
        let is_running = |state: &UnitState| matches!(state.active.as_str(), "active" | "reloading");
        // While one takes the place of the other, the older one serves.
        let oldest = found.iter().filter(|(_, state)| is_running(state));
        if let Some(found) = oldest.min_by_key(|(_, state)| state.active_since_us) {
            return running(found);
        }
        let waits = |state: &UnitState| state.active == "failed" || state.waits_to_restart();
        if let Some((unit, state)) = found.iter().find(|(_, state)| waits(state)) {
            return DriverState::Failing { reason: sentence(unit, state) };
        }
        if found.iter().any(|(_, state)| state.active != "inactive") {
            return DriverState::Starting;
        }
        match (seen.first(), found.first()) {
            (Some((unit, state)), None) => DriverState::Unknown { reason: not_there(unit, state) },
            _ => DriverState::Stopped,
        }
    }

    fn release(&self, unit: &str, state: &UnitState, seen: &Seen) -> Option<Sha256> {
        let digest = |release: &ReleaseName| evidence::digest_of(self.context, release);
        if let Unit::Releases { template } = self.unit {
            let (before, after) = template.split_once('@')?;
            let name = unit.strip_prefix(before)?.strip_prefix('@')?.strip_suffix(after)?;
            return digest(&unescape(name)?.parse().ok()?);
        }
        let shown = self.shown(state).and_then(|release| digest(&release));
        let now = incarnations(seen, UnitState::is_up);
        shown.or_else(|| self.notes().read()?.release_of(&now))
    }
}

/// Those of the units of which `wanted` holds. What has failed is told from what will fail by them too.
fn incarnations(seen: &Seen, wanted: impl Fn(&UnitState) -> bool) -> Incarnations {
    let wanted = seen.iter().filter(|(_, state)| wanted(state));
    wanted.map(|(unit, state)| (unit.clone(), state.invocation.clone())).collect()
}

fn instance(template: &str, name: &str) -> String {
    template.replacen('@', &format!("@{name}"), 1)
}

/// A release's name as systemd-escape writes it.
fn escape(release: &ReleaseName) -> String {
    let mut text = String::new();
    for (at, byte) in release.as_str().bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':' || (byte == b'.' && at > 0);
        if plain {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn unescape(text: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = text;
    while let Some((plain, coded)) = rest.split_once("\\x") {
        name.push_str(plain);
        let code = coded.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok())?;
        name.push(char::from(code));
        rest = &coded[2..];
    }
    Some(name + rest)
}

/// A process that exited, as the kernel counts ways to end (`CLD_EXITED`).
const EXITED: i32 = 1;

fn exit_code(state: &UnitState) -> Option<i32> {
    (state.exit_kind == EXITED && state.result == "exit-code").then_some(state.exit_status)
}

/// What systemd says of a unit that does not run.
fn sentence(unit: &str, state: &UnitState) -> String {
    let how = match (state.result.as_str(), exit_code(state)) {
        (_, Some(code)) => format!("exited with code {code}"),
        ("signal", _) => format!("was killed by signal {}", state.exit_status),
        ("core-dump", _) => format!("was killed by signal {} and dumped core", state.exit_status),
        ("timeout", _) => "was not ready in the time that its unit gives it".to_owned(),
        ("watchdog", _) => "did not answer its watchdog".to_owned(),
        ("start-limit-hit", _) => "was started too often of late".to_owned(),
        ("oom-kill", _) => "ran out of memory".to_owned(),
        ("success", _) => "ended by itself".to_owned(),
        (other, _) => format!("failed ({other})"),
    };
    let again = if state.waits_to_restart() { ", and systemd starts it again" } else { "" };
    format!("{unit} {how}{again}")
}

fn not_there(unit: &str, state: &UnitState) -> String {
    match state.load.as_str() {
        "not-found" => format!("systemd knows no {unit}: install it, then `systemctl daemon-reload`"),
        "masked" => format!("{unit} is masked: `systemctl unmask {unit}`"),
        other => format!("{unit} is not usable ({other}): see `systemctl status {unit}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_an_instance_as_systemd_escape_writes_it() {
        for (name, escaped) in
            [("v1.4", "v1.4"), ("v1.4-rc1", r"v1.4\x2drc1"), ("2026.1+b_7", r"2026.1\x2bb_7")]
        {
            let release: ReleaseName = name.parse().unwrap();
            assert_eq!(escape(&release), escaped);
            assert_eq!(unescape(escaped).as_deref(), Some(name));
        }
        assert_eq!(instance("web@.service", "a"), "web@a.service");
        assert_eq!(unescape(r"v1\x2"), None);
    }
}
