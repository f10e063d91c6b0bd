//! What a log entry says to a person: one sentence for each kind of event.

use landfall_common::Duration;
use landfall_common::report::OutcomeKind;
use landfall_common::time::human;

use landfall_common::HostId;

use crate::reason::Hosts;
use crate::refusal::seconds;

use super::{AnalysisVerdict, LogEvent, MigrationVerdict, Subject};

impl LogEvent {
    /// One sentence for people.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::ReleasePublished { application, release, commit, .. } => match commit {
                Some(commit) => {
                    format!("{application} {} was published from commit {}", release.name, short(commit))
                }
                None => format!("{application} {} was published", release.name),
            },
            Self::RolloutStarted {
                application,
                environment,
                release,
                previous,
                hosts,
                approved_by,
                evidence,
                ..
            } => {
                let from = previous.as_ref().map_or(String::new(), |p| format!(" after {}", p.name));
                let hosts = count(*hosts, "host");
                let name = &release.name;
                let by = match &approved_by[..] {
                    [] => String::new(),
                    by => format!(", approved by {}", by.join(", ")),
                };
                let on: Vec<String> = evidence.iter().map(ToString::to_string).collect();
                let on = if on.is_empty() { String::new() } else { format!("; {}", on.join(", ")) };
                format!("rollout of {application} {name} to {environment}{from} began on {hosts}{by}{on}")
            }
            Self::RolloutFinished {
                application,
                environment,
                release,
                end,
                reason,
                hosts_done,
                hosts,
                ..
            } => {
                let name = &release.name;
                let done = format!("{hosts_done} of {} run it", count(*hosts, "host"));
                because(format!("rollout of {application} {name} to {environment} {end}, {done}"), reason)
            }
            Self::RolloutQueued { application, environment, release, reason, .. } => {
                let name = &release.name;
                because(format!("rollout of {application} {name} to {environment} stands in line"), reason)
            }
            Self::WindowOverridden { rollout, release, closed, reason } => {
                let although = match &**closed {
                    "" => "whatever windows and freezes say".to_owned(),
                    closed => format!("although its environment {closed}"),
                };
                because(format!("rollout {rollout} of {} is to begin {although}", release.name), reason)
            }
            Self::ProofOverridden { rollout, release, lacking, reason } => {
                let although = match lacking {
                    None => "wherever it is proven".to_owned(),
                    Some(environment) => format!("although it is not proven in {environment}"),
                };
                because(format!("rollout {rollout} of {} is to begin {although}", release.name), reason)
            }
            Self::EvidenceOverridden { rollout, release, lacking, reason } => {
                let although = match &**lacking {
                    "" => "whatever evidence there is".to_owned(),
                    lacking => format!("although {lacking}"),
                };
                because(format!("rollout {rollout} of {} is to begin {although}", release.name), reason)
            }
            Self::EvidenceSubmitted { application, commit, name, result, run, .. } => {
                format!("{name} of commit {} of {application} {result} in run {run}", commit.short())
            }
            Self::RolloutApproved { rollout, release, reason, .. } => {
                because(format!("rollout {rollout} of {} was approved", release.name), reason)
            }
            Self::RolloutRejected { rollout, reason } => {
                because(format!("rollout {rollout} was rejected"), reason)
            }
            Self::ApprovalWithdrawn { rollout, of } => {
                format!("the approval of rollout {rollout} by {of} counts no more, since {of} was removed")
            }
            Self::BatchStarted { rollout, batch, of } => {
                format!("rollout {rollout} went on to batch {batch} of {of}")
            }
            Self::StepOutcome { host, release, outcome, .. } => {
                format!("{host}: {release} {}", told(outcome))
            }
            Self::HostFailed { host, release, reason, .. } => {
                because(format!("{host}: {release} counts as failed"), reason)
            }
            Self::RollbackRequested { application, environment, to, reason, .. } => because(
                format!("going back to {application} {} in {environment} was asked for", to.name),
                reason,
            ),
            Self::RollbackStarted { rollout, to, reason } => {
                because(format!("rollout {rollout} turned back to {}", to.name), reason)
            }
            Self::RolloutPaused { rollout, reason } => {
                because(format!("rollout {rollout} was paused"), reason)
            }
            Self::RolloutResumed { rollout, reason } => {
                because(format!("rollout {rollout} was resumed"), reason)
            }
            Self::RolloutPromoted { rollout, batch, overruled, reason } => {
                let text = format!("rollout {rollout} was promoted to batch {batch}");
                let although = match (overruled.is_empty(), overruled.starts_with("gate ")) {
                    (true, _) => "",
                    (false, true) => ", and overrules its gates",
                    (false, false) => " although its analysis had not passed",
                };
                because(because(format!("{text}{although}"), overruled), reason)
            }
            Self::GateAnswered { rollout, gate, batch: 0, verdict, reason, .. } => {
                because(format!("gate {gate} in the watch of rollout {rollout} {}", verdict.is()), reason)
            }
            Self::GateAnswered { rollout, gate, batch, verdict, reason, .. } => because(
                format!("gate {gate} before batch {batch} of rollout {rollout} {}", verdict.is()),
                reason,
            ),
            Self::GatesPassed { rollout, batch, gates, overruled } => {
                let how = if *overruled { "overruled" } else { "open" };
                because(
                    format!("the gates before batch {batch} of rollout {rollout} are {how}"),
                    &gates.join("; "),
                )
            }
            Self::CanaryAnalysed { rollout, verdict, windows, window_ms, findings, in_watch: true } => {
                let verdict = match verdict {
                    AnalysisVerdict::Pass => "keeps within its limits",
                    AnalysisVerdict::Fail => "is beyond its limits",
                    AnalysisVerdict::Inconclusive => "was watched without a verdict on its limits",
                };
                let of = human::format(Duration::from_millis(*window_ms));
                let windows = count(*windows, "window");
                because(
                    format!("the release of rollout {rollout} {verdict} after {windows} of {of}"),
                    &findings.join("; "),
                )
            }
            Self::CanaryAnalysed { rollout, verdict, windows, window_ms, findings, in_watch: false } => {
                let verdict = match verdict {
                    AnalysisVerdict::Pass => "passed its analysis",
                    AnalysisVerdict::Fail => "failed its analysis",
                    AnalysisVerdict::Inconclusive => "was analysed without a verdict",
                };
                let of = human::format(Duration::from_millis(*window_ms));
                let windows = count(*windows, "window");
                because(
                    format!("the canary of rollout {rollout} {verdict} after {windows} of {of}"),
                    &findings.join("; "),
                )
            }
            Self::RequestsSwitched { rollout, to } => {
                format!("requests go to {to} alone, which runs the release of rollout {rollout}")
            }
            Self::WatchStarted { rollout, period } => {
                format!("rollout {rollout} is watched for {} from now on", human::format(*period))
            }
            Self::WatchEnded { rollout, overruled, reason } => {
                let although = match (overruled.is_empty(), overruled.starts_with("gate ")) {
                    (true, _) => "",
                    (false, true) => ", and overrules its gates",
                    (false, false) => " although it was not known to keep within its limits",
                };
                let text = format!("the watch of rollout {rollout} was ended{although}");
                because(because(text, overruled), reason)
            }
            Self::RolloutAborted { rollout, reason } => {
                because(format!("rollout {rollout} was aborted"), reason)
            }
            Self::MigrationStarted { host, release, contract, down, .. } => {
                format!("{host} began the {} of {release}", way(*contract, *down))
            }
            Self::MigrationFinished { host, release, outcome, contract, down, .. } => {
                format!("{host}: the {} of {release} {}", way(*contract, *down), told(outcome))
            }
            Self::MigrationResolved { rollout, verdict, reason } => {
                let verdict = match verdict {
                    MigrationVerdict::Applied => "was declared applied",
                    MigrationVerdict::NotApplied => "was declared not applied",
                };
                because(format!("the migration of rollout {rollout} {verdict}"), reason)
            }
            Self::HostsRetried { application, environment, hosts, reason } => {
                let hosts = count(hosts.len() as u64, "failed host");
                because(format!("{hosts} of {application} in {environment} may try again"), reason)
            }
            Self::HostsExcluded { rollout, hosts, reason } => {
                because(format!("{} left out of rollout {rollout}", were(hosts)), reason)
            }
            Self::HostsIncluded { rollout, hosts, reason } => {
                because(format!("{} taken into rollout {rollout} again", were(hosts)), reason)
            }
            Self::HostCordoned { host, reason, .. } => because(format!("{host} was cordoned"), reason),
            Self::HostUncordoned { host, reason, .. } => because(format!("{host} was uncordoned"), reason),
            Self::HostDrained { host, reason, beyond_budget, .. } if !beyond_budget.is_empty() => {
                because(format!("{host} was drained beyond the budget ({beyond_budget})"), reason)
            }
            Self::HostDrained { host, reason, .. } => because(format!("{host} was drained"), reason),
            Self::HostUndrained { host, reason, .. } => because(format!("{host} was undrained"), reason),
            Self::HostLabelled { host, changes, reason, .. } => {
                let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
                because(format!("labels of {host} changed, {}", changes.join(", ")), reason)
            }
            Self::HostRegrouped { rollout, host, batch, of } => {
                format!("by its labels {host} changes with batch {batch} of {of} of rollout {rollout}")
            }
            Self::HostConverging { host, release, on_its_way_to: None, .. } => {
                format!("{host} was sent to {}, the release in force", release.name)
            }
            Self::HostConverging { host, release, on_its_way_to: Some(target), .. } => {
                format!(
                    "{host} was sent to {} on its way to {}, the release in force",
                    release.name, target.name
                )
            }
            Self::ConvergenceStopped { application, environment, release, reason } => {
                let name = &release.name;
                let what = format!("no more hosts of {application} in {environment} are sent to {name}");
                because(what, reason)
            }
            Self::PlaceLocked { application, environment, message, until } => {
                because(format!("{application} in {environment} was locked until {until}"), message)
            }
            Self::PlaceUnlocked { application, environment, owner, reason } => {
                let of = if owner.is_empty() { String::new() } else { format!(" of {owner}") };
                because(format!("the lock{of} on {application} in {environment} was taken away"), reason)
            }
            Self::HostEnrolled { host, application, environment, .. } => {
                format!("{host} joined {application} in {environment}")
            }
            Self::HostRemoved { host, reason } => because(format!("{host} was removed"), reason),
            Self::OperatorRemoved { name } => format!("operator {name} was removed"),
            Self::TokenIssued { token, application, environment, .. } => {
                format!("token {token} was made for a host of {application} in {environment}")
            }
            Self::OperatorTokenIssued { token, name, role, .. } => {
                format!("token {token} was made for {name} as {role}")
            }
            Self::CertificateIssued { subject: Subject::Host { host }, expires_at, .. } => {
                format!("{host} got a certificate until {expires_at}")
            }
            Self::CertificateIssued { subject: Subject::Operator { name, role }, expires_at, .. } => {
                format!("{name} got a certificate as {role} until {expires_at}")
            }
            Self::MetadataAccepted { role, version, .. } => {
                format!("version {version} of {role} was accepted")
            }
            Self::ContentRemoved { application, release } => {
                format!("the files of {application} {} were removed; its entries stay", release.name)
            }
            Self::ContentRestored { application, release } => {
                format!("the files of {application} {} were uploaded again", release.name)
            }
            Self::StateRestored { backup_at, .. } => format!("the state of {backup_at} was restored"),
            Self::DriftRepairRequested { host, reason, .. } => {
                because(format!("{host} was asked to put right what differs from its release"), reason)
            }
            Self::DriftRepaired { host, restored, failed, .. } => {
                let left = if *failed > 0 { format!("; {failed} could not be") } else { String::new() };
                format!("{host}: {} put right{left}", count(*restored, "difference"))
            }
            Self::RestartRequested { application, environment, release, verb, services, reason, .. } => {
                let names: Vec<&str> = services.iter().map(|service| service.as_str()).collect();
                let text = format!(
                    "a {} of {} was asked for, with {} of {application} in {environment}",
                    verb.as_str(),
                    names.join(", "),
                    release.name
                );
                because(text, reason)
            }
            Self::DrillRequested { application, environment, release, .. } => {
                format!(
                    "a drill of {application} in {environment} was asked for: to {} and back",
                    release.name
                )
            }
            Self::DrillFinished {
                application, environment, release, back_to, hosts, there, back, ..
            } => {
                format!(
                    "rollback rehearsed: {application} in {environment} went to {} on {} in {}, and back to {} in {}",
                    release.name,
                    count(*hosts, "host"),
                    seconds(*there),
                    back_to.name,
                    seconds(*back)
                )
            }
        }
    }
}

fn way(contract: bool, down: bool) -> &'static str {
    match (contract, down) {
        (true, _) => "contract",
        (false, true) => "way back of the migration",
        (false, false) => "migration",
    }
}

/// How an order ended, as the second half of a sentence about a release.
pub(crate) fn told(outcome: &OutcomeKind) -> String {
    match outcome {
        OutcomeKind::Staged => "was staged".to_owned(),
        OutcomeKind::Migrated => "succeeded".to_owned(),
        OutcomeKind::Committed => "is active and healthy".to_owned(),
        OutcomeKind::StageFailed { failure } => because("could not be staged".to_owned(), &failure.reason),
        OutcomeKind::MigrationFailed { failure } => because("failed".to_owned(), &failure.reason),
        OutcomeKind::MigrationUnknown { failure } => {
            because("ended without a known outcome".to_owned(), &failure.reason)
        }
        OutcomeKind::Reverted { failure } => because("failed and was put back".to_owned(), &failure.reason),
        OutcomeKind::Held { failure } => because("failed and was left in place".to_owned(), &failure.reason),
        OutcomeKind::UndoFailed { failure, undo } => {
            format!("failed: {}; going back failed too: {}", failure.reason, undo.reason)
        }
        OutcomeKind::Refused { failure } => because("was refused".to_owned(), &failure.reason),
    }
}

/// `web-1 and web-2 were`.
fn were(hosts: &[HostId]) -> String {
    let named: Hosts = hosts.iter().cloned().collect();
    format!("{named} {}", if hosts.len() == 1 { "was" } else { "were" })
}

fn because(sentence: String, reason: &str) -> String {
    if reason.is_empty() { sentence } else { format!("{sentence}: {reason}") }
}

fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
