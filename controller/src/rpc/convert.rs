//! Messages become domain types and back; what is not valid gets no further.

mod measured;

use std::collections::BTreeMap;

use landfall_common::assignment::ReleaseRef;
use landfall_common::report::{
    Active, Failure, Health, HostReport, Outcome, OutcomeKind, Phase, Traffic, tail,
};
use landfall_common::strategy::{Amount, Canary, Spread, StrategyKind, Window};
use landfall_common::{
    AppName, Duration, EnvName, Generation, ReleaseCounter, ReleaseName, RequestId, RolloutId, ServiceName,
    Sha256, StepName, Timestamp, canonical,
};
use landfall_controller_core::command::Overrides;
use landfall_controller_core::log::CommitLine;
use landfall_controller_core::record::Place;
use landfall_proto::v1 as pb;
use landfall_trust::PublicKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ControllerError;

pub use measured::figures;

/// The longest line of a step's output, and the longest reason, that is kept.
const MAX_LINE_BYTES: usize = 1024;

/// The most checks that a report may name as failing.
const MAX_FAILING: usize = 64;

/// The most commits that a rollout carries, and all of their text: an entry of the log is read whole.
const MAX_COMMITS: usize = 1000;
const MAX_COMMITS_BYTES: usize = 64 * 1024;

/// SHA-256 in hexadecimal is the longest id of a commit.
const MAX_COMMIT_ID_BYTES: usize = 64;

/// Release notes and reasons of operators.
pub const MAX_NOTES_BYTES: usize = 64 * 1024;

type Parsed<T> = Result<T, ControllerError>;

fn named<T: std::str::FromStr>(field: &str, text: &str) -> Parsed<T>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| ControllerError::invalid(format!("{field}: {error}")))
}

/// A digest.
pub fn digest(text: &str) -> Parsed<Sha256> {
    named("digest", text)
}

/// What the controller's own requests begin with: nobody else's are taken for one of them, nor take their place.
const OWN_REQUESTS: [&str; 3] = ["join-", "collect-", "local-"];

/// A request id of somebody else.
pub fn request_id(text: &str) -> Parsed<RequestId> {
    match OWN_REQUESTS.iter().find(|own| text.starts_with(**own)) {
        Some(own) => {
            let rule =
                format!("request_id: what begins with {own:?} is the controller's own; send a random one");
            Err(ControllerError::invalid(rule))
        }
        None => named("request_id", text),
    }
}

/// A rollout's name.
pub fn rollout_id(text: &str) -> Parsed<RolloutId> {
    named("rollout", text)
}

/// A release's name.
pub fn release_name(text: &str) -> Parsed<ReleaseName> {
    named("release", text)
}

/// A service's name.
///
/// # Errors
/// The rule that it breaks.
pub fn service_name(text: &str) -> Parsed<ServiceName> {
    named("service", text)
}

/// An application's name.
pub fn application(text: &str) -> Parsed<AppName> {
    named("application", text)
}

/// An application in an environment.
pub fn place(application: &str, environment: &str) -> Parsed<Place> {
    Ok(Place {
        application: self::application(application)?,
        environment: named::<EnvName>("environment", environment)?,
    })
}

/// A text for people, of bounded length.
pub fn text(field: &str, text: String) -> Parsed<String> {
    if text.len() > MAX_NOTES_BYTES {
        let message = format!("{field} has {} bytes; at most {MAX_NOTES_BYTES} are accepted", text.len());
        return Err(ControllerError::invalid(message));
    }
    Ok(text)
}

/// A record of the store.
///
/// # Errors
/// [`ControllerError::Record`].
pub fn stored<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Parsed<T> {
    serde_json::from_slice(bytes).map_err(|source| ControllerError::Record { key: key.to_owned(), source })
}

/// A record for the store.
#[must_use]
pub fn to_store<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("plain data with text keys")
}

/// A public key as TUF writes it.
#[must_use]
pub fn key(key: &PublicKey) -> String {
    let bytes = canonical::to_vec(key).expect("a key of ours holds texts only");
    String::from_utf8(bytes).expect("canonical JSON is UTF-8")
}

/// A report of a host.
///
/// # Errors
/// What is missing or against a rule.
pub fn report(message: pb::HostReport) -> Parsed<HostReport> {
    let active = message.active.map(release).transpose()?;
    if message.generation > Generation::MAX.0 {
        let message = format!("the report's generation {} is none that was given out", message.generation);
        return Err(ControllerError::invalid(message));
    }
    Ok(HostReport {
        incarnation: message.incarnation,
        sequence: message.sequence,
        at: Timestamp::from_ms(message.at_ms),
        generation: Generation(message.generation),
        phase: phase(message.phase.unwrap_or_default())?,
        active: active.map(|release| Active { release, proven: message.active_proven }),
        outcome: message.outcome.map(outcome).transpose()?,
        health: health(message.health.unwrap_or_default())?,
        restarts: message.restarts,
        traffic: traffic(message.traffic),
    })
}

fn release(message: pb::ReleaseRef) -> Parsed<ReleaseRef> {
    Ok(ReleaseRef {
        name: release_name(&message.name)?,
        counter: ReleaseCounter(message.counter),
        digest: digest(&message.digest)?,
        length: message.length,
    })
}

fn phase(message: pb::Phase) -> Parsed<Phase> {
    let step = || named::<StepName>("phase.step", &message.step);
    Ok(match message.kind() {
        // A phase that this program does not know is none that it may build upon.
        pb::PhaseKind::Unspecified => return Err(ControllerError::invalid("the report's phase is missing")),
        pb::PhaseKind::Idle => Phase::Idle,
        pb::PhaseKind::Fetching => {
            Phase::Fetching { done_bytes: message.done_bytes, total_bytes: message.total_bytes }
        }
        pb::PhaseKind::Preparing => Phase::Preparing { step: step()? },
        pb::PhaseKind::Migrating => Phase::Migrating,
        pb::PhaseKind::Activating => Phase::Activating { step: step()? },
        pb::PhaseKind::Proving => {
            Phase::Proving { healthy_for: Duration::from_millis(message.healthy_for_ms) }
        }
        pb::PhaseKind::Undoing => Phase::Undoing { step: step()? },
    })
}

fn outcome(message: pb::Outcome) -> Parsed<Outcome> {
    let kind = message.kind();
    let missing = || ControllerError::invalid("the outcome needs a failure, and has none");
    let first = message.failure.map(failure).transpose()?;
    let failure = || first.clone().ok_or_else(missing);
    let result = match kind {
        pb::OutcomeKind::Unspecified => {
            return Err(ControllerError::invalid("the outcome's kind is not known here"));
        }
        pb::OutcomeKind::Staged => OutcomeKind::Staged,
        pb::OutcomeKind::StageFailed => OutcomeKind::StageFailed { failure: failure()? },
        pb::OutcomeKind::Migrated => OutcomeKind::Migrated,
        pb::OutcomeKind::MigrationFailed => OutcomeKind::MigrationFailed { failure: failure()? },
        pb::OutcomeKind::MigrationUnknown => OutcomeKind::MigrationUnknown { failure: failure()? },
        pb::OutcomeKind::Committed => OutcomeKind::Committed,
        pb::OutcomeKind::Reverted => OutcomeKind::Reverted { failure: failure()? },
        pb::OutcomeKind::Held => OutcomeKind::Held { failure: failure()? },
        pb::OutcomeKind::UndoFailed => OutcomeKind::UndoFailed {
            failure: failure()?,
            undo: message.undo_failure.map(self::failure).transpose()?.ok_or_else(missing)?,
        },
        pb::OutcomeKind::Refused => OutcomeKind::Refused { failure: failure()? },
    };
    Ok(Outcome { generation: Generation(message.generation), result })
}

fn failure(message: pb::Failure) -> Parsed<Failure> {
    Ok(Failure {
        step: named("failure.step", &message.step)?,
        reason: cut_line(message.reason),
        exit_code: message.exit_code,
        tail: tail(message.tail.into_iter().map(cut_line).collect()),
    })
}

fn cut_line(text: String) -> String {
    cut(text, MAX_LINE_BYTES)
}

fn cut(mut text: String, max: usize) -> String {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

fn health(message: pb::Health) -> Parsed<Health> {
    Ok(match message.kind() {
        // No data is not health.
        pb::HealthKind::Unspecified | pb::HealthKind::Unknown => Health::Unknown,
        pb::HealthKind::Healthy => Health::Healthy { period: Duration::from_millis(message.for_ms) },
        pb::HealthKind::Unhealthy => Health::Unhealthy {
            failing: message
                .failing
                .into_iter()
                .take(MAX_FAILING)
                .map(|(check, saw)| Ok((named("health.failing", &check)?, cut_line(saw))))
                .collect::<Parsed<BTreeMap<_, _>>>()?,
        },
    })
}

/// What an operator sets otherwise than the environment's strategy.
///
/// # Errors
/// What is no amount, no canary or no strategy.
pub fn overrides(message: Option<pb::StrategyOverrides>) -> Parsed<Overrides> {
    let Some(message) = message else { return Ok(Overrides::default()) };
    let milliseconds = |ms: Option<u64>| ms.map(Duration::from_millis);
    Ok(Overrides {
        kind: one_of("strategy", &message.strategy, &StrategyKind::ALL)?,
        canary: match &*message.canary_hosts {
            "" => message.canary.map(Canary::Count),
            text => Some(named("canary_hosts", text)?),
        },
        canary_hold: milliseconds(message.canary_hold_ms),
        auto_promote: message.auto_promote,
        analysis: message.analysis,
        window: one_of("window", &message.window, &Window::ALL)?,
        spread: match message.spread.as_deref() {
            None => None,
            Some("") => Some(Spread::None),
            Some(label) => Some(Spread::Label(named("spread", label)?)),
        },
        stagger: milliseconds(message.stagger_ms),
        batch: amount("batch", &message.batch)?,
        max_unavailable: amount("max_unavailable", &message.max_unavailable)?,
        min_healthy: milliseconds(message.min_healthy_ms),
        healthy_deadline: milliseconds(message.healthy_deadline_ms),
        progress_deadline: milliseconds(message.progress_deadline_ms),
        rollout_deadline: milliseconds(message.rollout_deadline_ms),
        failure_budget: amount("failure_budget", &message.failure_budget)?,
        auto_rollback: message.auto_rollback,
        watch: milliseconds(message.watch_ms),
    })
}

fn one_of<T: Copy>(field: &str, text: &str, all: &[(T, &str)]) -> Parsed<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Some((value, _)) = all.iter().find(|(_, word)| *word == text) {
        return Ok(Some(*value));
    }
    let words: Vec<&str> = all.iter().map(|(_, word)| *word).collect();
    let message = format!("{field} is {text:?}; it must be one of {}", words.join(", "));
    Err(ControllerError::invalid(message))
}

fn amount(field: &str, text: &str) -> Parsed<Option<Amount>> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid =
        || ControllerError::invalid(format!("{field} is {text:?}; write a number or a share such as 25%"));
    let (digits, percent) = text.strip_suffix('%').map_or((text, false), |digits| (digits, true));
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    let number: u32 = digits.parse().map_err(|_| invalid())?;
    Ok(Some(if percent { Amount::Percent(number) } else { Amount::Count(number) }))
}

/// The commits of a rollout, newest first, as far as an entry of the log has room for them; the last line says how
/// many are left out. Whoever rolls out two years at once shall not be refused for it.
#[must_use]
pub fn commits(changes: &[String]) -> Vec<CommitLine> {
    let line = |text: &String| {
        let (commit, subject) = text.split_once(' ').unwrap_or(("", text));
        CommitLine {
            commit: cut(commit.to_owned(), MAX_COMMIT_ID_BYTES),
            author: String::new(),
            subject: cut_line(subject.to_owned()),
        }
    };
    let mut room = MAX_COMMITS_BYTES;
    let fits = |line: &CommitLine| {
        let needed = line.commit.len() + line.subject.len();
        let fits = needed <= room;
        room = room.saturating_sub(needed);
        fits
    };
    let mut lines: Vec<CommitLine> = changes.iter().take(MAX_COMMITS).map(line).take_while(fits).collect();
    let left_out = changes.len() - lines.len();
    if left_out > 0 {
        let subject = format!("… and {left_out} more, which are left out here");
        lines.push(CommitLine { commit: String::new(), author: String::new(), subject });
    }
    lines
}

/// A release, for the wire.
#[must_use]
pub fn release_ref(release: &ReleaseRef) -> pb::ReleaseRef {
    pb::ReleaseRef {
        name: release.name.to_string(),
        counter: release.counter.0,
        digest: release.digest.to_string(),
        length: release.length,
    }
}

/// A failure, for the wire.
#[must_use]
pub fn failure_message(failure: &Failure) -> pb::Failure {
    pb::Failure {
        step: failure.step.to_string(),
        reason: failure.reason.clone(),
        exit_code: failure.exit_code,
        tail: failure.tail.clone(),
    }
}

/// A report, for the wire.
#[must_use]
pub fn report_message(report: &HostReport) -> pb::HostReport {
    pb::HostReport {
        incarnation: report.incarnation,
        sequence: report.sequence,
        at_ms: report.at.ms(),
        generation: report.generation.0,
        phase: Some(phase_message(&report.phase)),
        active: report.active.as_ref().map(|active| release_ref(&active.release)),
        active_proven: report.active.as_ref().is_some_and(|active| active.proven),
        outcome: report.outcome.as_ref().map(outcome_message),
        health: Some(health_message(&report.health)),
        restarts: report.restarts,
        traffic: traffic_message(report.traffic).into(),
    }
}

/// A word of a newer agent is one that nobody here can hold it to.
fn traffic(word: i32) -> Traffic {
    match pb::HostTraffic::try_from(word).unwrap_or_default() {
        pb::HostTraffic::Unspecified => Traffic::Unknown,
        pb::HostTraffic::Ungated => Traffic::Ungated,
        pb::HostTraffic::Led => Traffic::Led,
        pb::HostTraffic::Draining => Traffic::Draining,
        pb::HostTraffic::Drained => Traffic::Drained,
        pb::HostTraffic::Returning => Traffic::Returning,
    }
}

/// As the wire has it.
#[must_use]
pub fn traffic_message(traffic: Traffic) -> pb::HostTraffic {
    match traffic {
        Traffic::Unknown => pb::HostTraffic::Unspecified,
        Traffic::Ungated => pb::HostTraffic::Ungated,
        Traffic::Led => pb::HostTraffic::Led,
        Traffic::Draining => pb::HostTraffic::Draining,
        Traffic::Drained => pb::HostTraffic::Drained,
        Traffic::Returning => pb::HostTraffic::Returning,
    }
}

fn phase_message(phase: &Phase) -> pb::Phase {
    let (kind, step) = match phase {
        Phase::Idle => (pb::PhaseKind::Idle, None),
        Phase::Fetching { .. } => (pb::PhaseKind::Fetching, None),
        Phase::Preparing { step } => (pb::PhaseKind::Preparing, Some(step)),
        Phase::Migrating => (pb::PhaseKind::Migrating, None),
        Phase::Activating { step } => (pb::PhaseKind::Activating, Some(step)),
        Phase::Proving { .. } => (pb::PhaseKind::Proving, None),
        Phase::Undoing { step } => (pb::PhaseKind::Undoing, Some(step)),
    };
    let mut message = pb::Phase {
        kind: kind.into(),
        step: step.map(ToString::to_string).unwrap_or_default(),
        ..pb::Phase::default()
    };
    match phase {
        Phase::Fetching { done_bytes, total_bytes } => {
            (message.done_bytes, message.total_bytes) = (*done_bytes, *total_bytes);
        }
        Phase::Proving { healthy_for } => message.healthy_for_ms = milliseconds(*healthy_for),
        _ => {}
    }
    message
}

fn outcome_message(outcome: &Outcome) -> pb::Outcome {
    let (kind, failure, undo) = match &outcome.result {
        OutcomeKind::Staged => (pb::OutcomeKind::Staged, None, None),
        OutcomeKind::StageFailed { failure } => (pb::OutcomeKind::StageFailed, Some(failure), None),
        OutcomeKind::Migrated => (pb::OutcomeKind::Migrated, None, None),
        OutcomeKind::MigrationFailed { failure } => (pb::OutcomeKind::MigrationFailed, Some(failure), None),
        OutcomeKind::MigrationUnknown { failure } => (pb::OutcomeKind::MigrationUnknown, Some(failure), None),
        OutcomeKind::Committed => (pb::OutcomeKind::Committed, None, None),
        OutcomeKind::Reverted { failure } => (pb::OutcomeKind::Reverted, Some(failure), None),
        OutcomeKind::Held { failure } => (pb::OutcomeKind::Held, Some(failure), None),
        OutcomeKind::UndoFailed { failure, undo } => (pb::OutcomeKind::UndoFailed, Some(failure), Some(undo)),
        OutcomeKind::Refused { failure } => (pb::OutcomeKind::Refused, Some(failure), None),
    };
    pb::Outcome {
        generation: outcome.generation.0,
        kind: kind.into(),
        failure: failure.map(failure_message),
        undo_failure: undo.map(failure_message),
    }
}

fn health_message(health: &Health) -> pb::Health {
    match health {
        Health::Unknown => pb::Health { kind: pb::HealthKind::Unknown.into(), ..pb::Health::default() },
        Health::Healthy { period } => pb::Health {
            kind: pb::HealthKind::Healthy.into(),
            for_ms: milliseconds(*period),
            ..pb::Health::default()
        },
        Health::Unhealthy { failing } => pb::Health {
            kind: pb::HealthKind::Unhealthy.into(),
            failing: failing.iter().map(|(check, saw)| (check.to_string(), saw.clone())).collect(),
            ..pb::Health::default()
        },
    }
}

/// Whole milliseconds.
#[must_use]
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_a_request_id_of_the_controllers_own() {
        assert!(request_id("4f1c9e").is_ok() && request_id("plan-only").is_ok());
        for own in ["join-4f1c9e", "collect-1", "local-4f1c9e"] {
            assert!(request_id(own).unwrap_err().to_string().contains("send a random one"), "{own}");
        }
    }

    #[test]
    fn commits_have_bounded_room_and_say_how_many_are_left_out() {
        let few = ["abc1234 a change".to_owned(), "nosubject".to_owned()];
        let lines: Vec<_> = commits(&few).into_iter().map(|line| (line.commit, line.subject)).collect();
        let line = |commit: &str, subject: &str| (commit.to_owned(), subject.to_owned());
        assert_eq!(lines, [line("abc1234", "a change"), line("", "nosubject")]);
        for many in [
            vec!["abc1234 short".to_owned(); 5000],
            vec![format!("{} {}", "a".repeat(1 << 20), "é".repeat(1 << 20)); 100],
            vec!["x".repeat(1 << 20); 2000],
        ] {
            let lines = commits(&many);
            let bytes: usize = lines.iter().map(|line| line.commit.len() + line.subject.len()).sum();
            assert!(bytes <= MAX_COMMITS_BYTES + 100 && lines.len() <= MAX_COMMITS + 1, "{bytes}");
            let left_out = many.len() - (lines.len() - 1);
            assert!(lines.last().unwrap().subject.contains(&format!("{left_out} more")));
        }
        assert!(commits(&[]).is_empty());
    }

    fn sample(result: OutcomeKind, phase: Phase, health: Health) -> HostReport {
        HostReport {
            incarnation: 2,
            sequence: 3,
            at: Timestamp::from_ms(4),
            generation: Generation(5),
            phase,
            active: None,
            outcome: Some(Outcome { generation: Generation(5), result }),
            health,
            restarts: true,
            traffic: Traffic::Returning,
        }
    }

    #[test]
    fn a_report_reads_back_whatever_it_says() {
        let step = StepName::new("migrate").unwrap();
        let failure =
            Failure { exit_code: Some(3), tail: vec!["x".into()], ..Failure::new(step.clone(), "why") };
        let failed = || failure.clone();
        let outcomes = [
            OutcomeKind::Staged,
            OutcomeKind::StageFailed { failure: failed() },
            OutcomeKind::Migrated,
            OutcomeKind::MigrationFailed { failure: failed() },
            OutcomeKind::MigrationUnknown { failure: failed() },
            OutcomeKind::Committed,
            OutcomeKind::Reverted { failure: failed() },
            OutcomeKind::Held { failure: failed() },
            OutcomeKind::UndoFailed { failure: failed(), undo: failed() },
            OutcomeKind::Refused { failure: failed() },
        ];
        let phases = [
            Phase::Idle,
            Phase::Fetching { done_bytes: 1, total_bytes: 2 },
            Phase::Preparing { step: step.clone() },
            Phase::Migrating,
            Phase::Activating { step: step.clone() },
            Phase::Proving { healthy_for: Duration::from_millis(7) },
            Phase::Undoing { step: step.clone() },
        ];
        let healths = [
            Health::Unknown,
            Health::Healthy { period: Duration::from_millis(9) },
            Health::Unhealthy { failing: BTreeMap::from([(step.clone(), "500".to_owned())]) },
        ];
        let mut cycle = phases.iter().cycle().zip(healths.iter().cycle());
        for outcome in outcomes {
            let (phase, health) = cycle.next().unwrap();
            let report = sample(outcome, phase.clone(), health.clone());
            assert_eq!(super::report(report_message(&report)).unwrap(), report);
        }
    }

    #[test]
    fn a_report_without_a_phase_or_with_a_wild_name_gets_no_further() {
        let good = report_message(&sample(OutcomeKind::Staged, Phase::Idle, Health::Unknown));
        assert!(report(pb::HostReport { phase: None, ..good.clone() }).is_err());
        assert!(report(pb::HostReport { generation: u64::MAX, ..good.clone() }).is_err());
        let active = Some(pb::ReleaseRef { name: "../x".into(), ..pb::ReleaseRef::default() });
        assert!(report(pb::HostReport { active, ..good }).is_err());
    }

    #[test]
    fn what_is_set_otherwise_is_read_or_refused() {
        let message = |canary_hosts: &str, strategy: &str| pb::StrategyOverrides {
            canary: Some(2),
            canary_hosts: canary_hosts.to_owned(),
            canary_hold_ms: Some(0),
            auto_promote: Some(false),
            analysis: Some(true),
            strategy: strategy.to_owned(),
            ..pb::StrategyOverrides::default()
        };
        let read = overrides(Some(message("", "one_at_a_time"))).unwrap();
        assert_eq!((read.canary, read.kind), (Some(Canary::Count(2)), Some(StrategyKind::OneAtATime)));
        assert_eq!((read.canary_hold, read.auto_promote), (Some(Duration::ZERO), Some(false)));
        assert_eq!(read.analysis, Some(true));
        let read = overrides(Some(message("role=canary", ""))).unwrap();
        assert_eq!((read.canary.unwrap().to_string().as_str(), read.kind), ("role=canary", None));
        assert!(overrides(Some(message("a few", ""))).is_err());
        let apart = |window: &str, spread: Option<&str>| {
            overrides(Some(pb::StrategyOverrides {
                window: window.to_owned(),
                spread: spread.map(ToOwned::to_owned),
                stagger_ms: Some(30_000),
                ..pb::StrategyOverrides::default()
            }))
        };
        let read = apart("sliding", Some("zone")).unwrap();
        assert_eq!((read.window, read.stagger), (Some(Window::Sliding), Some(Duration::from_secs(30))));
        assert_eq!(read.spread.unwrap().label().unwrap().as_str(), "zone");
        assert_eq!(apart("", Some("")).unwrap().spread, Some(Spread::None));
        assert_eq!(apart("", None).unwrap().spread, None);
        assert!(apart("slide", None).is_err() && apart("", Some("no label")).is_err());
        assert!(overrides(Some(message("", "blue"))).is_err());
    }

    #[test]
    fn an_amount_is_a_number_or_a_share() {
        assert_eq!(amount("batch", "2").unwrap(), Some(Amount::Count(2)));
        assert_eq!(amount("batch", "25%").unwrap(), Some(Amount::Percent(25)));
        assert_eq!(amount("batch", "").unwrap(), None);
        for text in ["%", "-1", "2.5", "1e3", "+1", "99999999999", "x%"] {
            assert!(amount("batch", text).is_err(), "{text}");
        }
    }
}
