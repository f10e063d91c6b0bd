//! `ctl why`: why a rollout does not go on, how it ended, why a host is as it is.

use landfall_common::Timestamp;

use super::{Session, hosts, leave_out};
use crate::cli::Why;
use crate::clock;
use crate::error::{Error, Exit};
use crate::output::live::{failure_lines, title};
use crate::output::{Output, Tone, format};
use crate::view::{Account, Cordon, Deadline, Host, HostAccount, NextCommand, RolloutAccount, Runs, Status};

/// More sentences, deadlines and names than this are counted; `-o json` has all of them.
const SENTENCES: usize = 30;
const DEADLINES: usize = 5;
const NAMED: usize = 8;

pub(super) async fn run(session: &Session, arguments: &Why) -> Result<Exit, Error> {
    let output = session.output;
    let (_, client) = session.connect().await?;
    let subject = match &arguments.subject {
        Some(subject) => subject.clone(),
        None => session.newest_rollout(&client, None, arguments.environment.env.as_ref()).await?.id,
    };
    let account = client.explain(&subject).await?;
    let now = clock::now();
    output.line(match &account {
        Account::Rollout(account) => of_rollout(&output, account, now),
        Account::Host(account) => of_host(&output, account, now),
    });
    match &account {
        Account::Rollout(account) => output.json("rollout", account),
        Account::Host(account) => output.json("host", account),
    }
    Ok(Exit::Succeeded)
}

/// A word in front of what it is about.
fn entry(lines: &mut Vec<String>, word: &str, text: impl AsRef<str>) {
    lines.push(format!("  {word:<10}{}", text.as_ref()));
}

/// Several lines under one word.
fn entries(lines: &mut Vec<String>, word: &str, texts: impl IntoIterator<Item = String>, most: usize) {
    let texts: Vec<String> = texts.into_iter().collect();
    for (index, text) in texts.iter().take(most).enumerate() {
        entry(lines, if index == 0 { word } else { "" }, text);
    }
    if texts.len() > most {
        entry(lines, "", format!("and {} more (-o json has all of them)", texts.len() - most));
    }
}

fn of_rollout(output: &Output, account: &RolloutAccount, now: Timestamp) -> String {
    let rollout = &account.rollout;
    let mut lines = vec![title(rollout)];
    let since = account
        .since
        .map(|since| format!(" since {}, {}", format::time(since), format::relative(since, now)));
    let since = since.unwrap_or_default();
    let words = output.paint(tone(rollout.status), rollout.status.words());
    let status = if rollout.status.has_ended() {
        let took = match (rollout.started, rollout.ended) {
            (Some(started), Some(ended)) => format!(", after {}", format::duration(ended.since(started))),
            _ => String::new(),
        };
        format!("{words}{since}{took}")
    } else {
        format!("{words}{since}")
    };
    entry(&mut lines, "status", status);
    let started = rollout.started.map(|at| format!(" at {}", format::time(at))).unwrap_or_default();
    entry(&mut lines, "rollout", format!("{}, asked for by {}{started}", rollout.id, rollout.started_by));
    if !rollout.migration.is_empty() {
        entry(&mut lines, "migrate", &rollout.migration);
    }
    if rollout.status.has_ended() {
        entries(&mut lines, "why", rollout.reasons.iter().cloned(), SENTENCES);
    } else {
        entries(&mut lines, "why", account.waits.iter().cloned(), SENTENCES);
        if rollout.status == Status::Paused && account.deadlines.is_empty() {
            entry(
                &mut lines,
                "deadlines",
                "none runs while it is paused; they start anew when it is resumed",
            );
        }
        entries(&mut lines, "deadlines", account.deadlines.iter().map(|at| deadline(at, now)), DEADLINES);
    }
    if !rollout.status.has_ended() {
        entries(&mut lines, "left out", rollout.left_out.iter().map(leave_out::describe), SENTENCES);
    }
    entries(&mut lines, "hosts run", account.runs.iter().map(runs), SENTENCES);
    if let Some(first) = &account.first_failure {
        let at = first.at.map(|at| format!(", {}", format::relative(at, now))).unwrap_or_default();
        let besides = match account.failed_besides {
            0 => String::new(),
            more => format!("; {} failed too", format::count(more, "other host")),
        };
        let host = output.paint(Tone::Bad, &first.host);
        let mut failure = first.failure.clone();
        // What was told above in full is not told again.
        if rollout.reasons.iter().any(|reason| reason.contains(&failure.reason)) {
            failure.reason = "as above".to_owned();
        }
        let told = failure_lines(&failure);
        entry(&mut lines, "failed", format!("{host}{at}: {}{besides}", told[0]));
        lines.extend(told.into_iter().skip(1).map(|line| format!("            {line}")));
    }
    next(&mut lines, &account.next);
    lines.join("\n")
}

fn tone(status: Status) -> Tone {
    match status {
        Status::Succeeded => Tone::Good,
        Status::Failed | Status::RolledBack | Status::RollingBack => Tone::Bad,
        status if status.waits_for_somebody() => Tone::Warning,
        Status::Aborted | Status::Superseded => Tone::Warning,
        _ => Tone::Faint,
    }
}

fn deadline(deadline: &Deadline, now: Timestamp) -> String {
    let about = if deadline.host.is_empty() { String::new() } else { format!(" of {}", deadline.host) };
    let at = deadline.at.map(|at| format!(" {} ({})", format::relative(at, now), format::time(at)));
    format!("{}{about}{}: {}", deadline.name, at.unwrap_or_default(), deadline.then)
}

pub(super) fn runs(runs: &Runs) -> String {
    let release = if runs.release.is_empty() { "nothing that is known" } else { &runs.release };
    let proven = if runs.proven || runs.release.is_empty() { "" } else { " (unproven)" };
    let named = runs.hosts.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = runs.hosts.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let silent = (runs.hosts.len() as u64).saturating_sub(runs.fresh);
    let silent = match silent {
        0 => String::new(),
        all if runs.fresh == 0 && all > 0 => "; as last heard, silent now".to_owned(),
        some => format!("; {some} of them as last heard, silent now"),
    };
    format!("{release}{proven} on {}: {named}{more}{silent}", runs.hosts.len())
}

fn next(lines: &mut Vec<String>, next: &[NextCommand]) {
    let width = next.iter().map(|next| next.command.chars().count()).max().unwrap_or(0);
    let all = next.iter().map(|next| format!("{:<width$}   {}", next.command, next.does));
    entries(lines, "next", all, SENTENCES);
}

fn of_host(output: &Output, account: &HostAccount, now: Timestamp) -> String {
    let host = &account.host;
    let mut lines = vec![format!("{} of {} in {}", host.id, host.application, host.environment)];
    if let Some(drain) = hosts::drain::told(host) {
        entry(&mut lines, "drain", output.paint(Tone::Warning, &drain));
    }
    // Who drains cordons with the same word.
    let same = |cordon: &Cordon| host.drain.as_ref().is_some_and(|drain| drain.reason == cordon.reason);
    if let Some(cordon) = host.cordon.as_ref().filter(|cordon| !same(cordon)) {
        entry(&mut lines, "cordon", output.paint(Tone::Warning, &hosts::cordoned(cordon)));
    }
    entry(&mut lines, "runs", running(output, host));
    let should = match &account.should_run {
        Some(release) => format!("{release}: {}", account.should_why),
        None => account.should_why.clone(),
    };
    entry(&mut lines, "should", should);
    if !account.rollout.is_empty() {
        let ended = if account.rollout_ended { ", which has ended" } else { "" };
        let batch = format!("batch {} of {}", account.batch, account.batches);
        entry(&mut lines, "rollout", format!("{}{ended}; {batch}", account.rollout));
    }
    entries(&mut lines, "waits", account.waits.iter().cloned(), SENTENCES);
    entries(&mut lines, "deadlines", account.deadlines.iter().map(|at| deadline(at, now)), DEADLINES);
    if let Some(asked) = &account.asked {
        let at = asked.at.map(|at| format!(" {} ({})", format::relative(at, now), format::time(at)));
        entry(
            &mut lines,
            "asked",
            format!("to {}{}, generation {}", asked.what, at.unwrap_or_default(), asked.generation),
        );
        entry(&mut lines, "answered", &asked.answer);
    }
    if let Some(failed) = &account.failed {
        let at = failed.at.map(|at| format!(", {}", format::relative(at, now))).unwrap_or_default();
        let over = if failed.current { "" } else { " (it runs that release since)" };
        let told = failure_lines(&failed.failure);
        let release = output.paint(Tone::Bad, &failed.release);
        entry(&mut lines, "failed", format!("{release}{at}{over}: {}", told[0]));
        lines.extend(told.into_iter().skip(1).map(|line| format!("            {line}")));
    }
    entry(&mut lines, "heard", heard(output, host, now));
    entries(&mut lines, "checks", checks(output, host), SENTENCES);
    let drift = match &host.drift {
        None => "it has not looked at this release yet".to_owned(),
        Some(drift) => {
            let looked = drift.looked.map(|at| format!(", looked {}", format::relative(at, now)));
            let looked = looked.unwrap_or_default();
            match drift.total {
                0 => format!("none{looked}"),
                total => {
                    let things = format!("{} from what was applied", format::count(total, "difference"));
                    format!("{}{looked} (ctl drift {})", output.paint(Tone::Warning, &things), host.id)
                }
            }
        }
    };
    entry(&mut lines, "drift", drift);
    next(&mut lines, &account.next);
    lines.join("\n")
}

fn running(output: &Output, host: &Host) -> String {
    let proven = if host.active_proven { "proven" } else { "not proven" };
    let release = match &host.active {
        Some(release) => format!("{release}, {proven}"),
        None if host.last_seen.is_none() => {
            return "nobody knows: it was not heard of since the controller started".to_owned();
        }
        None => "nothing".to_owned(),
    };
    let health = match host.health.as_str() {
        "healthy" => output.paint(Tone::Good, "healthy"),
        "unhealthy" => output.paint(Tone::Bad, "unhealthy"),
        other => format!("health {other}"),
    };
    format!("{release}; {health}; {}", host.phase)
}

fn heard(output: &Output, host: &Host, now: Timestamp) -> String {
    let seen = host
        .last_seen
        .map_or("never since the controller started".to_owned(), |seen| format::relative(seen, now));
    if host.connected { seen } else { output.paint(Tone::Warning, &format!("{seen}; it is not connected")) }
}

/// Each check in one line: what it saw if it fails, else how quick it is.
fn checks(output: &Output, host: &Host) -> Vec<String> {
    let failing =
        host.failing.iter().map(|(check, saw)| format!("{}: {saw}", output.paint(Tone::Bad, check)));
    let figures = host.figures.as_ref().map(|figures| figures.checks.as_slice()).unwrap_or_default();
    let well = figures.iter().filter(|check| !host.failing.contains_key(&check.check)).map(|check| {
        let failed = if check.failed > 0 {
            format!(", {} of {} failed", check.failed, check.count)
        } else {
            String::new()
        };
        format!("{}: {}.{} ms{failed}", check.check, check.p50_us / 1000, check.p50_us % 1000 / 100)
    });
    failing.chain(well).collect()
}
