//! A rollout as it happens: on a terminal one line per batch, with healthy hosts folded into a number; off
//! one, a line per change and a heartbeat. The first failure of a host is printed with all that is known.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use landfall_common::Timestamp;

use super::format;
use super::progress::HEARTBEAT;
use super::{Output, Tone};
use crate::view::{Batch, Failure, HostState, Progress, Rollout, Status};

/// More hosts than this are not named one by one on a line.
const NAMED: usize = 4;

/// Shows one rollout.
pub struct View {
    output: Output,
    bars: Option<Bars>,
    /// The failures that were printed; a host that fails on the way back too has another one.
    told: BTreeMap<String, Failure>,
    last_line: String,
    spoke: Instant,
}

struct Bars {
    multi: MultiProgress,
    head: ProgressBar,
    batches: Vec<ProgressBar>,
}

impl View {
    /// A view that has shown nothing yet.
    #[must_use]
    pub fn new(output: Output) -> Self {
        let bars = (output.is_live() && !output.is_json()).then(|| {
            let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let head = multi.add(line_bar());
            Bars { multi, head, batches: Vec::new() }
        });
        Self { output, bars, told: BTreeMap::new(), last_line: String::new(), spoke: Instant::now() }
    }

    /// Shows a new state.
    pub fn update(&mut self, rollout: &Rollout, now: Timestamp) {
        let fresh: Vec<&HostState> = rollout
            .hosts()
            .map(|(_, host)| host)
            .filter(|host| host.failure.is_some() && self.told.get(&host.host) != host.failure.as_ref())
            .collect();
        for host in fresh {
            self.told.extend(host.failure.clone().map(|failure| (host.host.clone(), failure)));
            self.print(&failure(&self.output, rollout, host));
        }
        if let Some(bars) = &mut self.bars {
            bars.head.set_message(head(rollout, now));
            while bars.batches.len() < rollout.batches.len() {
                bars.batches.push(bars.multi.add(line_bar()));
            }
            // One whose hosts were all left out is there no more.
            for bar in bars.batches.drain(rollout.batches.len()..) {
                bars.multi.remove(&bar);
            }
            for (bar, batch) in bars.batches.iter().zip(&rollout.batches) {
                bar.set_message(batch_line(batch));
            }
            return;
        }
        let line = change_line(rollout);
        if line != self.last_line {
            self.print(&format!("{}  {line}", format::time(now)));
            self.last_line = line;
        }
    }

    /// Called now and then: keeps the clock on a terminal going, or says off one what is awaited.
    pub fn tick(&mut self, rollout: &Rollout, now: Timestamp) {
        match &self.bars {
            Some(bars) => bars.head.set_message(head(rollout, now)),
            None if self.spoke.elapsed() >= HEARTBEAT => self.print(&heartbeat(rollout, now)),
            None => {}
        }
    }

    /// Prints a line above the view.
    pub fn print(&mut self, text: &str) {
        self.spoke = Instant::now();
        match &self.bars {
            // What cannot be printed on a terminal that went away is lost anyway.
            Some(bars) => drop(bars.multi.println(text)),
            None => self.output.note(text),
        }
    }

    /// Leaves the last state standing.
    pub fn finish(self) {
        if let Some(bars) = &self.bars {
            bars.head.abandon();
            bars.batches.iter().for_each(ProgressBar::abandon);
            // The last line has no end yet.
            self.output.note("");
        }
    }
}

fn line_bar() -> ProgressBar {
    let bar = ProgressBar::new(1);
    if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
        bar.set_style(style);
    }
    bar
}

/// `v1.3 -> v1.4 to tenants in production: running, 1m 12s; batch 2 waits: …`
#[must_use]
pub fn head(rollout: &Rollout, now: Timestamp) -> String {
    let end = rollout.ended.unwrap_or(now);
    let elapsed = rollout.started.map_or(Duration::ZERO, |started| end.since(started));
    let mut text = format!("{}: {}, {}", title(rollout), rollout.status.words(), format::duration(elapsed));
    if let Some(fetched) = fetched(rollout.hosts().map(|(_, host)| host)) {
        text.push_str("; fetched ");
        text.push_str(&fetched);
    }
    if let Some(reason) = rollout.reasons.first() {
        text.push_str("; ");
        text.push_str(reason);
    }
    text
}

/// `150 MiB of 720 MiB`, over the hosts that fetch.
fn fetched<'h>(hosts: impl Iterator<Item = &'h HostState>) -> Option<String> {
    let (mut done, mut total) = (0u64, 0u64);
    for host in hosts {
        done = done.saturating_add(host.done_bytes);
        total = total.saturating_add(host.total_bytes);
    }
    (total > 0).then(|| format!("{} of {}", format::bytes(done), format::bytes(total)))
}

/// `v1.3 -> v1.4, tenants in production`.
#[must_use]
pub fn title(rollout: &Rollout) -> String {
    if let Some(restart) = &rollout.restart {
        let (what, to) = (restart.names(), &rollout.to);
        let place = format!("{} in {}", rollout.application, rollout.environment);
        return format!("{} of {what}, {to}, {place}", restart.kind.as_str());
    }
    let from = rollout.from.as_deref().unwrap_or("nothing");
    let back = match rollout {
        Rollout { is_rollback: true, .. } => "rollback ",
        Rollout { is_drill: true, .. } => "drill ",
        _ => "",
    };
    format!("{back}{from} -> {}, {} in {}", rollout.to, rollout.application, rollout.environment)
}

/// `  canary   web-1 proving, healthy for 4 s of 10 s` or `  batch 3  18 ok, 2 pending`.
#[must_use]
pub fn batch_line(batch: &Batch) -> String {
    let name = match batch {
        Batch { canary: true, .. } => "canary".to_owned(),
        Batch { group, number, .. } if group.is_empty() => format!("batch {number}"),
        Batch { group, .. } => group.clone(),
    };
    format!("  {name:<8} {}", states(&batch.hosts))
}

/// Hosts where something happens by name, all others as numbers.
fn states(hosts: &[HostState]) -> String {
    let quiet = |progress| {
        matches!(
            progress,
            Progress::Committed
                | Progress::Pending
                | Progress::Staged
                | Progress::RolledBack
                | Progress::Unknown
        )
    };
    let mut folded: BTreeMap<Progress, usize> = BTreeMap::new();
    let mut named = Vec::new();
    // What many fetch is best told in one sum.
    let fetching = hosts.iter().filter(|host| host.total_bytes > 0);
    let sum = (fetching.clone().count() > NAMED).then(|| (fetching.clone().count(), fetched(fetching)));
    for host in hosts {
        if sum.is_some() && host.total_bytes > 0 {
            continue;
        }
        // A single host is best called by its name.
        if quiet(host.progress) && hosts.len() > 1 {
            *folded.entry(host.progress).or_default() += 1;
        } else {
            named.push(host);
        }
    }
    // Failures first: they are what somebody looks for.
    named.sort_by_key(|host| (!matches!(host.progress, Progress::Failed | Progress::Reverted), &host.host));
    let mut parts: Vec<String> =
        folded.iter().rev().map(|(progress, count)| format!("{count} {}", progress.words())).collect();
    if let Some((count, Some(fetched))) = sum {
        parts.push(format!("{count} fetching {fetched}"));
    }
    parts.extend(named.iter().take(NAMED).map(|host| {
        let words = host.progress.words();
        match host.detail.as_str() {
            _ if host.total_bytes > 0 => {
                let (done, total) = (format::bytes(host.done_bytes), format::bytes(host.total_bytes));
                format!("{} fetching {done} of {total}", host.host)
            }
            "" => format!("{} {words}", host.host),
            // The controller's words may begin with what would be said twice.
            detail if detail.starts_with(words) => format!("{} {detail}", host.host),
            detail => format!("{} {words}: {detail}", host.host),
        }
    }));
    if named.len() > NAMED {
        parts.push(format!("{} more", named.len() - NAMED));
    }
    parts.join(", ")
}

/// What changed enough to be worth a line off a terminal: the status, and how many hosts are where.
fn change_line(rollout: &Rollout) -> String {
    let mut counts: BTreeMap<Progress, usize> = BTreeMap::new();
    for (_, host) in rollout.hosts() {
        *counts.entry(host.progress).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.iter().rev().map(|(progress, count)| format!("{count} {}", progress.words())).collect();
    let mut line = format!("{} {}: {}", rollout.to, rollout.status.words(), counts.join(", "));
    // Where somebody has to act, the sentence that says so does not wait for the next heartbeat.
    if rollout.waits_for_somebody()
        && let Some(reason) = rollout.reasons.first()
    {
        line.push_str("; ");
        line.push_str(reason);
    }
    line
}

/// What is awaited, as one line.
pub(super) fn heartbeat(rollout: &Rollout, now: Timestamp) -> String {
    let waiting = rollout.reasons.first().cloned().unwrap_or_else(|| {
        let busy = rollout.hosts().map(|(_, host)| host).find(|host| !host.detail.is_empty());
        busy.map_or_else(
            || rollout.status.words().to_owned(),
            |host| format!("{}: {}", host.host, host.detail),
        )
    });
    let fetched =
        fetched(rollout.hosts().map(|(_, host)| host)).map(|fetched| format!("fetched {fetched}; "));
    let fetched = fetched.unwrap_or_default();
    format!("{}  {} {}: {fetched}{waiting}", format::time(now), rollout.to, rollout.status.words())
}

/// A host's failure: the step, the exit code, the last lines, the next command.
#[must_use]
pub fn failure(output: &Output, rollout: &Rollout, host: &HostState) -> String {
    let Some(failure) = &host.failure else { return String::new() };
    // A host that has done what was asked of it may still be the one on which the migration failed.
    let state = match host.progress {
        Progress::Reverted | Progress::RollingBack | Progress::RolledBack => host.progress.words(),
        _ => Progress::Failed.words(),
    };
    let mut text = format!("{} {state}: ", output.paint(Tone::Bad, &host.host));
    text.push_str(&failure_lines(failure).join("\n  "));
    match rollout.status {
        // How it ended says what can follow.
        status if status.has_ended() => {}
        Status::RollingBack => {
            text.push_str(&format!("\n  it goes back by itself; ctl status {}", rollout.id));
        }
        _ => text.push_str(&format!(
            "\n  next: ctl pause {0}, or ctl rollback; state of every host: ctl status {0}",
            rollout.id
        )),
    }
    text
}

/// What failed, with its exit code and its last lines: `step migrate, exit code 1: …`, `| …`.
#[must_use]
pub fn failure_lines(failure: &Failure) -> Vec<String> {
    let code = failure.exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
    let mut lines = vec![format!("step {}{code}: {}", failure.step, failure.reason)];
    lines.extend(folded(&failure.tail).into_iter().map(|(line, times)| match times {
        1 => format!("| {line}"),
        _ => format!("| {line}  ({times} times)"),
    }));
    lines
}

/// Lines with how often each comes one after the other.
fn folded(lines: &[String]) -> Vec<(&str, usize)> {
    let mut folded: Vec<(&str, usize)> = Vec::new();
    for line in lines {
        match folded.last_mut() {
            Some((last, times)) if *last == line.as_str() => *times += 1,
            _ => folded.push((line, 1)),
        }
    }
    folded
}
