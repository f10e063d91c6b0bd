//! Why nothing goes on: the report of each run of the planner, as data and as sentences (P10).

mod at_gate;
mod concern;
mod hosts;
mod in_line;
mod report;
mod way_out;
mod why;

use std::fmt;

use landfall_common::assignment::Direction;
use landfall_common::time::{duration_ms, human};
use landfall_common::{Duration, GateName, HostId, ReleaseName, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::gate;
use crate::member::Out;
use crate::refusal::{moment, seconds};
use crate::rollout::Promotion;

pub use at_gate::AtGate;
pub(crate) use concern::Concern;
pub use hosts::Hosts;
pub use in_line::InLine;
pub use report::{PlaceReport, PlanningReport};
pub use way_out::WayOut;
pub use why::{Doing, Why};

/// A reason behind a sentence, if one was given.
fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

/// Something that is awaited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "wait", rename_all = "snake_case")]
pub enum Wait {
    /// Somebody paused the rollout, or it paused itself.
    Paused {
        /// Why.
        reason: String,
        /// Who.
        by: String,
        /// Since when.
        since: Timestamp,
    },
    /// A step of the rollout waits for one host.
    Host {
        /// What waits.
        what: Doing,
        /// For which host.
        host: HostId,
        /// Why.
        why: Why,
    },
    /// The budget is used up.
    Budget {
        /// How many hosts may be out.
        max_unavailable: usize,
        /// Those that are.
        out: Hosts,
        /// Those of them whose requests were led away by an operator, or by a rollout before this one.
        led_away: Hosts,
        /// Those that wait therefore.
        waiting: Hosts,
    },
    /// No more than so many change at once.
    Window {
        /// How many.
        most: usize,
        /// Those that do.
        in_change: Hosts,
        /// Those that wait.
        waiting: Hosts,
    },
    /// Hosts of two groups never change at once.
    Group {
        /// The group that does, such as `zone=a`.
        in_change: String,
        /// Those of others that wait.
        waiting: Hosts,
    },
    /// Hosts begin some time after each other.
    Stagger {
        /// The next one.
        host: HostId,
        /// When it may begin, from now.
        #[serde(rename = "in_ms", with = "duration_ms")]
        period: Duration,
        /// How far they are apart at least.
        #[serde(rename = "stagger_ms", with = "duration_ms")]
        stagger: Duration,
    },
    /// The canary is proven, and held.
    Canary {
        /// Of which rollout.
        rollout: RolloutId,
        /// What is awaited besides.
        promotion: Promotion,
        /// For how long it must have been healthy.
        #[serde(rename = "hold_ms", with = "duration_ms")]
        hold: Duration,
        /// Whether it has been.
        kept: bool,
        /// Whether its analysis has to pass first.
        #[serde(default)]
        analysis: bool,
        /// Whether none of its hosts is left, so that nothing will be proven.
        #[serde(default)]
        gone: bool,
        /// What else may be done than to promote it.
        #[serde(default)]
        way_out: WayOut,
        /// Of two groups, the first: it is proven without requests, and gets them next.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// The batch that would begin.
        next: u32,
        /// Of how many.
        of: u32,
    },
    /// Every host that can be heard of runs the release, and it is watched.
    Watch {
        /// Of which rollout.
        rollout: RolloutId,
        /// For how long it has been.
        #[serde(rename = "for_ms", with = "duration_ms")]
        period: Duration,
        /// For how long it is to be.
        #[serde(rename = "of_ms", with = "duration_ms")]
        of: Duration,
        /// Of two groups, the one that gets the requests and runs the release: the other one does not yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// What else may be done than to end the watch.
        #[serde(default)]
        way_out: WayOut,
    },
    /// The canary is compared with the hosts on the release before.
    Analysis {
        /// Whether it is found to be no worse.
        passed: bool,
        /// How many windows were compared.
        windows: u32,
        /// How long each is.
        #[serde(rename = "window_ms", with = "duration_ms")]
        window: Duration,
        /// The release before.
        before: ReleaseName,
        /// Of each metric that decides, a sentence.
        findings: Vec<String>,
        /// Whether the comparison began anew since, with the controller.
        anew: bool,
    },
    /// The figures of a release that is watched stand against its limits.
    Limits {
        /// Whether it is known that it keeps within them, as it stands.
        kept: bool,
        /// After so many windows.
        windows: u32,
        /// Of so much time each.
        #[serde(rename = "window_ms", with = "duration_ms")]
        window: Duration,
        /// Of each metric that this stands on, a sentence.
        findings: Vec<String>,
        /// Whether it began anew since, with the controller.
        anew: bool,
    },
    /// A batch waits for a gate that others hold, or the end of the watch does.
    Gate {
        /// Of which rollout.
        rollout: RolloutId,
        /// Which.
        gate: GateName,
        /// The batch that would begin; 0 in the watch.
        next: u32,
        /// Of how many.
        of: u32,
        /// Why it is not open.
        why: AtGate,
    },
    /// No more than a batch goes back at the same time.
    ReturnBatch {
        /// How large it is.
        batch: usize,
        /// Those that are on their way back.
        under_way: Hosts,
        /// Those that wait.
        waiting: Hosts,
    },
    /// Nobody can migrate.
    NoCandidate {
        /// How often the migration was handed out in vain.
        attempts: u32,
    },
    /// A host migrates.
    Migrating {
        /// Which.
        host: HostId,
        /// For how long.
        #[serde(rename = "for_ms", with = "duration_ms")]
        period: Duration,
        /// When its outcome counts as unknown.
        until: Timestamp,
        /// Which way.
        direction: Direction,
    },
    /// Nobody knows whether the migration took effect.
    MigrationUnknown {
        /// Of which rollout.
        rollout: RolloutId,
        /// On which host.
        host: HostId,
        /// Which way.
        direction: Direction,
        /// What is known.
        reason: String,
    },
    /// The contract waits until nothing older than its release can run.
    Contract {
        /// Of which rollout.
        rollout: RolloutId,
        /// Whose.
        release: ReleaseName,
        /// The hosts of which that is not known.
        hosts: Hosts,
        /// Where it may have run already, if nobody knows: until somebody says, nothing else can follow.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        doubt: Option<HostId>,
    },
    /// A host outside of a rollout was sent to the release in force.
    Converging {
        /// Which.
        host: HostId,
        /// To what.
        release: ReleaseName,
        /// What it takes first, if that is something else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        over: Option<ReleaseName>,
    },
    /// A host outside of a rollout cannot come to the release in force from what it runs.
    NoWay {
        /// Which.
        host: HostId,
        /// What it should run.
        release: ReleaseName,
        /// Why it cannot, and what helps.
        reason: String,
    },
    /// A host outside of a rollout failed to take the release in force.
    NotConverged {
        /// Which.
        host: HostId,
        /// What it should run.
        release: ReleaseName,
        /// Why it does not.
        reason: String,
    },
    /// Hosts outside of a rollout that do not run the release in force, as far as is known, and are silent.
    Away {
        /// Which.
        hosts: Hosts,
        /// What they take when they come back.
        release: ReleaseName,
    },
    /// The controller itself cannot go on.
    Unstored {
        /// Since when.
        since: Timestamp,
        /// What its store says.
        reason: String,
    },
    /// Hosts that run something else are left alone, for others have failed.
    ConvergenceStopped {
        /// Which.
        hosts: Hosts,
        /// What they should run.
        release: ReleaseName,
        /// Why they are left alone.
        reason: String,
    },
    /// Hosts that are no part of the rollout wait for its end, for it moves the schema.
    SchemaMoves {
        /// Which.
        hosts: Hosts,
        /// For which rollout.
        rollout: RolloutId,
    },
    /// A rollout stands in line.
    InLine {
        /// Which.
        rollout: RolloutId,
        /// What it will bring.
        release: ReleaseName,
        /// What it waits for.
        why: InLine,
    },
    /// Hosts that do not run the release in force are left alone by an operator's word.
    LeftAlone {
        /// Which.
        hosts: Hosts,
        /// By which kind of word.
        how: Out,
        /// Whether they are drained, which is a cordon as well.
        #[serde(default)]
        drained: bool,
        /// What they would take.
        release: ReleaseName,
    },
    /// Requests are to be led away from hosts, or back to them, and are not yet.
    Requests {
        /// Which.
        hosts: Hosts,
        /// Where they are with it.
        how: Requests,
    },
    /// Requests stay with hosts, since too few of the group serve that would get them.
    Carried {
        /// The group, such as `color=blue`.
        group: String,
        /// How many of it serve.
        serve: usize,
        /// How many have to.
        needed: usize,
        /// Of how many.
        of: usize,
        /// Those that they stay with.
        hosts: Hosts,
    },
    /// A rollout by two groups has left hosts without requests, and it is over.
    KeptAway {
        /// Which.
        hosts: Hosts,
        /// Whether only an operator can say what is to run; else they do not run what is in force.
        held: bool,
    },
    /// More hosts have moved than one decision may hold.
    InParts,
    /// Hosts that run something else are left alone.
    ConvergenceHeld {
        /// Which.
        hosts: Hosts,
        /// Why.
        reason: String,
    },
}

/// Where a host is that somebody has drained or undrained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requests {
    /// It is drained, and nothing there can lead requests away any more.
    Stay,
    /// They are being led away.
    Leave,
    /// They come back.
    Return,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused { reason, by, since } => {
                write!(f, "paused by {by} since {}{}", moment(*since), because(reason))
            }
            Self::Host { what, host, why } => write!(f, "{what} waits: {host} {why}"),
            Self::Budget { max_unavailable, out, led_away, waiting } => {
                let (is, waits) = (out.is(), waiting.s_of_verb());
                write!(f, "max_unavailable {max_unavailable}: {out} {is} out, {waiting} wait{waits}")?;
                let Some(host) = led_away.named.first() else { return Ok(()) };
                write!(f, "; `ctl hosts undrain {host}` leads requests back that were led away before")
            }
            Self::Window { most, in_change, waiting } => write!(
                f,
                "{most} may change at once: {in_change} {}, {waiting} wait{}",
                if in_change.count() == 1 { "does" } else { "do" },
                waiting.s_of_verb()
            ),
            Self::Group { in_change, waiting } => {
                write!(f, "{in_change} is in change, {waiting} wait{}", waiting.s_of_verb())
            }
            Self::Stagger { host, period, stagger } => write!(
                f,
                "{host} begins in {}: hosts are {} apart at least",
                seconds(*period + Duration::from_millis(999)),
                human::format(*stagger)
            ),
            Self::Canary {
                rollout, promotion, hold, kept, gone: false, group: Some(group), way_out, ..
            } => {
                let held = match (kept, hold.is_zero()) {
                    (true, _) => format!("{group} is proven, without requests"),
                    (false, true) => format!("{group} was proven, and is not now"),
                    (false, false) => {
                        format!("{group} is held until it has been healthy for {}", human::format(*hold))
                    }
                };
                match promotion {
                    Promotion::Awaited => {
                        write!(f, "{held}; `ctl promote {rollout}` leads the requests there, {way_out}")
                    }
                    _ => write!(f, "{held}; then the requests are led there"),
                }
            }
            Self::Canary { rollout, promotion, hold, kept, gone, way_out, analysis, next, of, .. } => {
                let held = match (kept, hold.is_zero()) {
                    _ if *gone => "no host of the canary is left, so that nothing was proven".to_owned(),
                    (true, _) => "the canary is proven".to_owned(),
                    (false, true) => "the canary was proven, and is not now".to_owned(),
                    (false, false) => {
                        format!("the canary is held until it has been healthy for {}", human::format(*hold))
                    }
                };
                let then = match promotion {
                    Promotion::ByItself if *analysis => {
                        format!("batch {next} of {of} follows by itself once its analysis has passed")
                    }
                    Promotion::ByItself => format!("batch {next} of {of} follows by itself"),
                    Promotion::Given | Promotion::Overruled => {
                        format!("it was promoted, and batch {next} of {of} follows")
                    }
                    Promotion::Awaited => {
                        format!("`ctl promote {rollout}` lets batch {next} of {of} follow, {way_out}")
                    }
                };
                write!(f, "{held}; {then}")
            }
            Self::Watch { rollout, period, of, group: Some(group), way_out } => write!(
                f,
                "requests go to {group}, which has been watched for {} of {}; the other group keeps the release before. \
                 `ctl promote {rollout}` ends the watch, {}",
                seconds(*period),
                human::format(*of),
                match way_out {
                    WayOut::Back => "`ctl rollback` leads requests back to it".to_owned(),
                    other => other.to_string(),
                }
            ),
            Self::Watch { rollout, period, of, group: None, way_out } => write!(
                f,
                "the release is everywhere and has been watched for {} of {}; `ctl promote {rollout}` ends the watch, \
                 {way_out}",
                seconds(*period),
                human::format(*of)
            ),
            Self::Analysis { passed, windows, window, before, findings, anew } => {
                let result = if *passed { "passed" } else { "has no verdict yet" };
                let since = if *anew { ", begun anew with the controller" } else { "" };
                let count = if *windows == 1 { "window" } else { "windows" };
                let length = human::format(*window);
                write!(
                    f,
                    "the analysis of the canary beside the hosts on {before} {result} after {windows} {count} of \
                     {length}{since}"
                )?;
                told(f, findings)
            }
            Self::Limits { kept, windows, window, findings, anew } => {
                let stands = if *kept {
                    "keeps within its limits"
                } else {
                    "is not known to keep within its limits yet"
                };
                let since = if *anew { ", begun anew with the controller" } else { "" };
                let count = if *windows == 1 { "window" } else { "windows" };
                let length = human::format(*window);
                write!(f, "the release {stands} after {windows} {count} of {length}{since}")?;
                told(f, findings)
            }
            Self::Gate { gate, next, of, why, .. } => {
                write!(f, "{} waits for gate {gate}: {why}", gate::what_waits(*next, *of))?;
                match why {
                    AtGate::Unanswered { .. } | AtGate::Answered { .. } => Ok(()),
                    _ => write!(f, "; `ctl gate open {gate} --reason …` opens it"),
                }
            }
            Self::ReturnBatch { batch, under_way, waiting } => write!(
                f,
                "the way back goes {batch} at a time: {under_way} {} under way, {waiting} wait{}",
                under_way.is(),
                waiting.s_of_verb()
            ),
            Self::NoCandidate { attempts: 0 } => {
                f.write_str("the migration waits for a host that is staged and heard of")
            }
            Self::NoCandidate { attempts } => write!(
                f,
                "the migration waits for a host that is staged and heard of; it was handed out {attempts} \
                 times in vain"
            ),
            Self::Migrating { host, period, until, direction } => write!(
                f,
                "{host} has been {} for {}; without an answer its outcome counts as unknown at {}",
                if *direction == Direction::Contract { "contracting the schema" } else { "migrating" },
                seconds(*period),
                moment(*until)
            ),
            Self::MigrationUnknown { rollout, host, direction, reason } => write!(
                f,
                "nobody knows whether the {} on {host} took effect: {reason}. Look at the database, \
                 then type `ctl migration resolve {rollout} --applied` or `ctl migration resolve {rollout} \
                 --not-applied`",
                if *direction == Direction::Contract { "contract" } else { "migration" }
            ),
            Self::Contract { rollout, release, hosts, doubt } => {
                write!(
                    f,
                    "{release} is brought; its contract waits until nothing older can run, and of {hosts} that is not \
                     known. Bring {} to {release}, or `ctl hosts remove` what is gone for good; ",
                    if hosts.count() == 1 { "it" } else { "them" }
                )?;
                match doubt {
                    None => write!(f, "`ctl abort {rollout}` ends the rollout without it"),
                    Some(host) => write!(
                        f,
                        "nobody knows whether it took effect on {host} already: once you have looked at the database, \
                         `ctl migration resolve {rollout} --applied` or `--not-applied` settles that"
                    ),
                }
            }
            Self::Converging { host, release, over: None } => {
                write!(f, "{host} takes {release}, the release in force")
            }
            Self::Converging { host, release, over: Some(stop) } => {
                write!(f, "{host} takes {stop} on its way to {release}, the release in force")
            }
            Self::NoWay { host, release, reason } => {
                write!(f, "{host} does not take {release}, the release in force: {reason}")
            }
            Self::NotConverged { host, release, reason } => write!(
                f,
                "{host} does not run {release}, the release in force: {reason}; `ctl retry` tries \
                 it again"
            ),
            Self::Away { hosts, release } => write!(
                f,
                "{hosts} {} not heard of, and {} {release}, the release in force, on coming back",
                hosts.is(),
                hosts.take()
            ),
            Self::ConvergenceStopped { hosts, release, reason } => write!(
                f,
                "{hosts} {} not sent to {release}, the release in force, since {reason}; `ctl retry` tries \
                 again, a new release or `ctl rollback` decides what else runs",
                hosts.is()
            ),
            Self::SchemaMoves { hosts, rollout } => write!(
                f,
                "{hosts} wait{} for the end of rollout {rollout}, which brings a migration, and {} what is in \
                 force then",
                hosts.s_of_verb(),
                hosts.take()
            ),
            Self::Unstored { since, reason } => {
                write!(f, "the controller cannot store its decisions since {}: {reason}", moment(*since))
            }
            Self::InLine { rollout, release, why } => write!(f, "rollout {rollout} of {release} {why}"),
            Self::LeftAlone { hosts, how, drained, release } => write!(
                f,
                "{hosts} {} {} and {} not take {release}, the release in force, until `{} {}`",
                hosts.is(),
                if *drained { "drained" } else { how.as_str() },
                if hosts.count() == 1 { "does" } else { "do" },
                match how {
                    _ if *drained => "ctl hosts undrain",
                    Out::Excluded => "ctl include",
                    Out::Cordoned => "ctl hosts uncordon",
                },
                hosts.named.first().map_or("HOST", HostId::as_str)
            ),
            Self::Requests { hosts, how: Requests::Stay } => write!(
                f,
                "{hosts} {} drained, and requests may come there all the same: the agent is of an older version now, or \
                 what runs has no gate",
                hosts.is()
            ),
            Self::Requests { hosts, how: Requests::Leave } => {
                write!(f, "requests are being led away from {hosts}")
            }
            Self::Requests { hosts, how: Requests::Return } => write!(
                f,
                "requests come back to {hosts} once {} healthy",
                if hosts.count() == 1 { "it is" } else { "they are" }
            ),
            Self::Carried { group, serve, needed, of, hosts } => write!(
                f,
                "requests stay with {hosts}: {serve} of {of} hosts of {group} serve, and at least {needed} must \
                 (max_unavailable) before they go there alone"
            ),
            Self::KeptAway { hosts, held } => {
                let why = match held {
                    true => {
                        "a rollout was ended half way, and a new release or `ctl rollback` decides what runs"
                    }
                    false => "what runs there is not in force",
                };
                write!(
                    f,
                    "requests are kept away from {hosts}: {why}; `ctl hosts undrain {}` leads them back as it is",
                    hosts.named.first().map_or("HOST", HostId::as_str)
                )
            }
            Self::InParts => f.write_str(
                "more hosts have moved at once than are written down at once; the others follow now",
            ),
            Self::ConvergenceHeld { hosts, reason } => write!(
                f,
                "{hosts} {} not at the release in force and left alone, since {reason}; a new release or \
                 `ctl rollback` decides what runs",
                hosts.is()
            ),
        }
    }
}

/// `: this; that`
fn told(f: &mut fmt::Formatter<'_>, findings: &[String]) -> fmt::Result {
    let all = findings.iter().enumerate();
    all.map(|(at, finding)| (if at == 0 { ": " } else { "; " }, finding))
        .try_for_each(|(before, finding)| write!(f, "{before}{finding}"))
}
