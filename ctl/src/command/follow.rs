//! Following a rollout until it ends, or the operator has seen enough. Following never changes anything.

use std::time::Duration;

use tokio::time::Instant;

use super::leave_out;
use crate::client::Client;
use crate::client::rollouts::Watch;
use crate::clock;
use crate::error::{Error, Exit};
use crate::interrupt;
use crate::output::live::{self, View};
use crate::output::{Output, Tone, format};
use crate::view::{self, Failure, HostState, Progress, Rollout, Status};

/// How often the clock of a live view moves on, and heartbeats are looked at.
const TICK: Duration = Duration::from_secs(1);
/// The controller may restart meanwhile: the rollout goes on, and so does following.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// Off a terminal nobody sits there to resume a rollout that stands still: then following ends.
const PAUSED_PATIENCE: Duration = Duration::from_secs(60);
const RECONNECT_PAUSE: Duration = Duration::from_secs(2);

/// Why following ended.
enum Ending {
    Ended,
    Detached,
    Waited(Duration),
    Paused,
}

/// Follows a rollout, prints how it ended, and says how `ctl` exits.
///
/// # Errors
/// [`Error::Unreachable`] when the controller stays away.
pub async fn follow(
    client: &Client,
    output: Output,
    rollout: Rollout,
    wait: Option<Duration>,
) -> Result<Exit, Error> {
    let mut view = View::new(output);
    let mut rollout = rollout;
    view.update(&rollout, clock::now());
    let ending = watch(client, output, &mut view, &mut rollout, wait).await;
    view.finish();
    match ending? {
        Ending::Ended => {
            conclude(output, &rollout);
            Ok(exit(&rollout))
        }
        ending => {
            let why = match ending {
                Ending::Waited(wait) => format!("--wait {} has passed", format::duration(wait)),
                Ending::Paused => {
                    let (status, reasons) = (rollout.status.words(), rollout.reasons.join("; "));
                    format!("the rollout is {status}, for somebody to say something: {reasons}")
                }
                _ => "detached".to_owned(),
            };
            output.note(format!(
                "{why}; the rollout is not ended by this. To follow it again: ctl status --watch {}",
                rollout.id
            ));
            output.json("rollout", &rollout);
            Ok(Exit::StillRunning)
        }
    }
}

async fn watch(
    client: &Client,
    output: Output,
    view: &mut View,
    rollout: &mut Rollout,
    wait: Option<Duration>,
) -> Result<Ending, Error> {
    let _handled = interrupt::handled_here();
    let deadline = wait.map(|wait| Instant::now() + wait);
    let mut tick = tokio::time::interval(TICK);
    let mut stream: Option<Watch> = None;
    let mut lost_since: Option<Instant> = None;
    let mut paused_since: Option<Instant> = None;
    while !rollout.status.has_ended() {
        let waits = rollout.waits_for_somebody() && !output.is_live();
        paused_since = waits.then(|| paused_since.unwrap_or_else(Instant::now));
        let paused_until = paused_since.map(|since| since + PAUSED_PATIENCE);
        let open = stream.take();
        let answer = {
            let next = next_state(client, open, &rollout.id);
            tokio::pin!(next);
            loop {
                tokio::select! {
                    answer = &mut next => break answer,
                    _ = tick.tick() => view.tick(rollout, clock::now()),
                    () = interrupt::next() => return Ok(Ending::Detached),
                    () = sleep_until(paused_until) => return Ok(Ending::Paused),
                    () = sleep_until(deadline) => return Ok(Ending::Waited(wait.unwrap_or_default())),
                }
            }
        };
        match answer {
            Ok((opened, Some(state))) => {
                if lost_since.take().is_some() {
                    view.print("the controller answers again");
                }
                *rollout = state;
                view.update(rollout, clock::now());
                stream = Some(opened);
            }
            // The stream ends with the rollout, or with a controller that stops.
            Ok((_, None)) => {
                if let Ok(state) = client.rollout(&rollout.id).await {
                    *rollout = state;
                    view.update(rollout, clock::now());
                }
                if !rollout.status.has_ended() {
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
            }
            Err(error) if is_away(&error) => {
                let since = *lost_since.get_or_insert_with(|| {
                    view.print("the controller does not answer; the rollout is its own affair, trying again");
                    Instant::now()
                });
                if since.elapsed() > PATIENCE {
                    return Err(error);
                }
                tokio::select! {
                    () = tokio::time::sleep(RECONNECT_PAUSE) => {}
                    () = interrupt::next() => return Ok(Ending::Detached),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Ending::Ended)
}

/// Whether the controller may answer in a while: one that is restarted for its upgrade says so as its last word.
fn is_away(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        Error::Refused(refusal) => refusal.is_transient(),
        _ => false,
    }
}

/// The next state, over the stream that is open or a new one.
async fn next_state(
    client: &Client,
    open: Option<Watch>,
    id: &str,
) -> Result<(Watch, Option<Rollout>), Error> {
    let mut watch = match open {
        Some(watch) => watch,
        None => client.watch(id).await?,
    };
    let state = watch.next().await?;
    Ok((watch, state))
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The exit code of a rollout that has ended.
#[must_use]
pub fn exit(rollout: &Rollout) -> Exit {
    match rollout.status {
        Status::Succeeded | Status::Rehearsed => Exit::Succeeded,
        Status::RolledBack => Exit::RolledBack,
        status if status.has_ended() => Exit::Failed,
        _ => Exit::StillRunning,
    }
}

/// Prints how a rollout ended.
pub fn conclude(output: Output, rollout: &Rollout) {
    output.json("rollout", rollout);
    output.line(conclusion(&output, rollout));
}

fn conclusion(output: &Output, rollout: &Rollout) -> String {
    let (to, id) = (&rollout.to, &rollout.id);
    let place = format!("{} in {}", rollout.application, rollout.environment);
    let total = rollout.hosts().count();
    let count =
        |wanted: &[Progress]| rollout.hosts().filter(|(_, host)| wanted.contains(&host.progress)).count();
    let took = match (rollout.started, rollout.ended) {
        (Some(started), Some(ended)) => format!(" ({})", format::duration(ended.since(started))),
        _ => String::new(),
    };
    let reasons = rollout.reasons.iter().map(|reason| format!("\n  {reason}")).collect::<String>();
    let from = rollout.from.as_deref().unwrap_or("no release");
    // What was done to the hosts that it counts.
    let has_done = match &rollout.restart {
        Some(restart) => format!("{} on", restart.done()),
        None => format!("{to} runs on"),
    };
    match rollout.status {
        status if total == 0 => {
            let words = output.paint(Tone::Warning, status.words());
            format!("{words}: {to} did not begin in {place}{reasons}\n  next: ctl status")
        }
        Status::Succeeded => {
            let what = output.paint(Tone::Good, "succeeded");
            // Reasons of a success are of those that it left out.
            let hosts = match (total, rollout.left_out.len()) {
                (1, 0) => "the one host".to_owned(),
                (_, 0) => format!("all {total} hosts"),
                (_, out) => format!("{total} of {} hosts", total + out),
            };
            format!("{what}: {has_done} {hosts} of {place}{took}{reasons}")
        }
        Status::Rehearsed => {
            let what = output.paint(Tone::Good, "rehearsed");
            let hosts = format::count(total as u64, "host");
            format!("{what}: {hosts} of {place} went to {to} and back to {from}{took}{reasons}")
        }
        Status::RolledBack => {
            let what = output.paint(Tone::Bad, "rolled back");
            let failed = rollout.hosts().any(|(_, host)| {
                host.failure.is_some() || matches!(host.progress, Progress::Failed | Progress::Reverted)
            });
            if !failed {
                // Somebody wanted it back, for a reason that no check of a host has seen.
                return format!("{what}: {place} is back on {from}{took}{reasons}\n  next: ctl status {id}");
            }
            format!(
                "{what}: {to} failed, and {place} is back on {from}{took}{reasons}\n  next: ctl status {id}; \
                 correct it and release it under a new name"
            )
        }
        Status::Failed => {
            let what = output.paint(Tone::Bad, "failed");
            let done = count(&[Progress::Committed]);
            let next = if let Some(restart) = &rollout.restart {
                let services = restart.services.join(" ");
                format!("{}, then ctl {} {services}", mend(rollout), restart.kind.as_str())
            } else if rollout.is_untouched() {
                // `ctl rollback` would take the release away that is in force, and well.
                let mend = mend(rollout);
                format!("{mend}, then ctl release {to} again; or correct it and release it under a new name")
            } else {
                "then ctl retry or ctl rollback".to_owned()
            };
            format!(
                "{what}: {has_done} {done} of {total} hosts of {place}{took}{reasons}\n  next: ctl status {id}; {next}"
            )
        }
        status => {
            let done = count(&[Progress::Committed]);
            let words = output.paint(Tone::Warning, status.words());
            format!(
                "{words}: {has_done} {done} of {total} hosts of {place}{took}{reasons}\n  next: ctl status {id}"
            )
        }
    }
}

/// What has to be done before a release that touched nothing can go on.
fn mend(rollout: &Rollout) -> String {
    let is_older = |host: &&HostState| host.failure.as_ref().is_some_and(Failure::is_of_an_older_agent);
    let older: Vec<_> =
        rollout.hosts().map(|(_, host)| host).filter(is_older).map(|host| &*host.host).collect();
    match older[..] {
        [] => "mend what failed".to_owned(),
        [host] => format!("upgrade landfall-agent on {host}"),
        [host, ref more @ ..] => {
            let others = format::count(more.len() as u64, "other");
            format!("upgrade landfall-agent on {host} and {others}")
        }
    }
}

/// The rollout as `ctl status` shows it, on several lines.
#[must_use]
pub fn describe(output: &Output, rollout: &Rollout) -> String {
    let now = clock::now();
    let mut lines = vec![live::head(rollout, now)];
    lines.push(format!("  rollout  {}, by {}", rollout.id, rollout.started_by));
    for view::Approval { by, at, reason } in rollout.approvals.iter().flat_map(|approvals| &approvals.given) {
        let at = at.map(format::time).unwrap_or_default();
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        lines.push(format!("  approved by {by} at {at}{why}"));
    }
    if !rollout.migration.is_empty() {
        lines.push(format!("  migrate  {}", rollout.migration));
    }
    lines.extend(rollout.batches.iter().map(live::batch_line));
    // Those that are asked are told by what the rollout waits for.
    let gates = rollout.gates.iter().filter(|gate| gate.asked.is_none());
    lines.extend(gates.map(|gate| format!("  gate     {}", super::gate::describe(gate))));
    let left_out = rollout.left_out.iter().filter(|_| !rollout.status.has_ended());
    lines.extend(left_out.map(|host| format!("  left out {}", leave_out::describe(host))));
    lines.extend(rollout.reasons.iter().skip(1).map(|reason| format!("  {reason}")));
    // What decides is told by what the rollout waits for.
    let compared = rollout.analysis.iter().flat_map(|analysis| &analysis.findings);
    lines.extend(
        compared.filter(|found| !found.critical).map(|found| format!("  aside    {}", found.sentence)),
    );
    for (_, host) in rollout.hosts().filter(|(_, host)| host.failure.is_some()) {
        lines.push(live::failure(output, rollout, host));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Batch;

    fn ended(status: Status, reason: &str, hosts: Vec<HostState>) -> Rollout {
        Rollout {
            id: "r-7".into(),
            application: "shop".into(),
            environment: "production".into(),
            from: Some("v1.3".into()),
            to: "v1.4".into(),
            to_digest: "00".into(),
            status,
            reasons: vec![reason.to_owned()].into_iter().filter(|reason| !reason.is_empty()).collect(),
            batches: vec![Batch { number: 1, canary: true, group: String::new(), hosts }],
            started_by: "ana".into(),
            started: None,
            ended: None,
            changes: vec![],
            is_rollback: false,
            is_drill: false,
            restart: None,
            in_line: false,
            analysis: None,
            left_out: vec![],
            gates: vec![],
            migration: String::new(),
            approvals: None,
        }
    }

    fn host(progress: Progress, failure: Option<Failure>) -> HostState {
        let (host, detail) = ("web-1".to_owned(), String::new());
        HostState { host, progress, detail, failure, done_bytes: 0, total_bytes: 0, touched: true }
    }

    #[test]
    fn a_release_that_agents_are_too_old_for_names_them() {
        let too_old = |name: &str, reason: &str| {
            let (step, reason) = ("fetch".into(), reason.into());
            let failure = Failure { step, reason, exit_code: None, tail: vec![] };
            HostState { host: name.into(), touched: false, ..host(Progress::Failed, Some(failure)) }
        };
        let one = too_old("web-1", "stage failed: manifest cannot be read: unknown field `hold_ms`");
        let other = too_old("web-2", "manifest is made for a newer version than this one: unknown field `x`");
        let third = too_old("web-3", "the disk is full");
        let shown = |hosts| conclusion(&Output::plain(), &ended(Status::Failed, "1 host failed", hosts));
        insta::assert_snapshot!(shown(vec![one.clone(), third.clone()]), @r"
        failed: v1.4 runs on 0 of 2 hosts of shop in production
          1 host failed
          next: ctl status r-7; upgrade landfall-agent on web-1, then ctl release v1.4 again; or correct it and release it under a new name
        ");
        insta::assert_snapshot!(shown(vec![one, other, third.clone()]), @r"
        failed: v1.4 runs on 0 of 3 hosts of shop in production
          1 host failed
          next: ctl status r-7; upgrade landfall-agent on web-1 and 1 other, then ctl release v1.4 again; or correct it and release it under a new name
        ");
        assert!(shown(vec![third]).contains("mend what failed, then ctl release v1.4 again"));
    }

    #[test]
    fn what_is_compared_and_decides_nothing_is_shown_as_well() {
        let finding = |metric: &str, critical| crate::view::MetricFinding {
            metric: metric.into(),
            critical,
            verdict: crate::view::Verdict::Inconclusive,
            unit: "cores".into(),
            canary: Some(0.5),
            baseline: Some(0.4),
            worse_in: 0,
            paired: 3,
            p: 1.0,
            sentence: format!("{metric}: 0.5 cores on the canary against 0.4 cores"),
        };
        let findings = vec![finding("restarts of web", true), finding("cpu of web", false)];
        let verdict = crate::view::Verdict::Inconclusive;
        let analysis = crate::view::Analysis { verdict, windows: 3, window_ms: 30_000, findings };
        let rollout = Rollout { analysis: Some(analysis), ..ended(Status::Running, "it waits", vec![]) };
        let shown = describe(&Output::plain(), &rollout);
        assert!(
            shown.ends_with("\n  aside    cpu of web: 0.5 cores on the canary against 0.4 cores"),
            "{shown}"
        );
        assert!(!shown.contains("aside    restarts"), "{shown}");
    }

    #[test]
    fn a_release_that_somebody_took_back_has_not_failed() {
        let shown = |rollout: &Rollout| conclusion(&Output::plain(), rollout);
        let by_hand = ended(
            Status::RolledBack,
            "ana asked for it: slow search",
            vec![host(Progress::RolledBack, None)],
        );
        insta::assert_snapshot!(shown(&by_hand), @r#"
        rolled back: shop in production is back on v1.3
          ana asked for it: slow search
          next: ctl status r-7
        "#);
        let failure =
            Failure { step: "web".into(), reason: "it exited".into(), exit_code: Some(1), tail: vec![] };
        let by_itself =
            ended(Status::RolledBack, "1 host failed", vec![host(Progress::RolledBack, Some(failure))]);
        insta::assert_snapshot!(shown(&by_itself), @r#"
        rolled back: v1.4 failed, and shop in production is back on v1.3
          1 host failed
          next: ctl status r-7; correct it and release it under a new name
        "#);
        let one = ended(Status::Succeeded, "", vec![host(Progress::Committed, None)]);
        insta::assert_snapshot!(shown(&one), @"succeeded: v1.4 runs on the one host of shop in production");
    }
}
