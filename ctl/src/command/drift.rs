//! `ctl drift`: what on hosts is not as it was applied, in which facts hosts differ, and putting it right.

use std::time::Duration;

use landfall_common::Timestamp;

use super::Session;
use crate::cli::Drift;
use crate::client::Client;
use crate::clock;
use crate::error::{Error, Exit};
use crate::output::{Output, Tone, format};
use crate::view::{DriftReport, FactDifference, HostDrift, Repair};

/// From one question after the end of a repair to the next.
const ASK_AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn run(session: &Session, arguments: &Drift) -> Result<Exit, Error> {
    let output = session.output;
    let (_, client) = session.connect().await?;
    let application = match arguments.host {
        Some(_) => session.global.app.clone(),
        None => session.known_application()?,
    };
    let environment = arguments.env.as_ref();
    let host = arguments.host.as_deref();
    let mut repaired = None;
    if let (true, Some(host)) = (arguments.repair, host) {
        repaired = Some(repair(&client, host, arguments).await?);
    }
    let report = client.drift(application.as_ref(), environment, host).await?;
    for block in blocks(&output, &report, clock::now()) {
        output.line(block);
    }
    output.json("drift", &report);
    let Some(repair) = repaired else { return Ok(Exit::Succeeded) };
    let put_right = format::count(repair.restored, "difference");
    output.line(format!("{}: {put_right} put right", host.unwrap_or_default()));
    for failed in &repair.failed {
        output.line(format!("  not put right: {failed}"));
    }
    Ok(if repair.failed.is_empty() { Exit::Succeeded } else { Exit::Failed })
}

/// Asks for a repair, and waits until the host says what came of it.
async fn repair(client: &Client, host: &str, arguments: &Drift) -> Result<Repair, Error> {
    let id = client.repair_drift(host, arguments.reason.clone()).await?;
    let until = tokio::time::Instant::now() + arguments.wait;
    loop {
        let report = client.drift(None, None, Some(host)).await?;
        let ended =
            report.hosts.into_iter().filter_map(|host| host.repair).find(|repair| repair.request == id);
        if let Some(repair) = ended {
            return Ok(repair);
        }
        if tokio::time::Instant::now() >= until {
            let message = format!(
                "{host} has not said within {} what came of the repair: it may still be at it, or its agent is of a version \
                 before there was drift",
                format::duration(arguments.wait)
            );
            return Err(Error::usage(message, format!("ctl drift {host}")));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// What is shown: hosts that differ one by one, the others in a line, then the facts.
fn blocks(output: &Output, report: &DriftReport, now: Timestamp) -> Vec<String> {
    let (mut blocks, mut same) = (Vec::new(), Vec::new());
    for host in &report.hosts {
        let is_same = host.is_of_active && host.looked.is_some() && host.total() == 0;
        if is_same && host.notes.is_empty() && report.hosts.len() > 1 {
            same.push(host.host.as_str());
        } else {
            blocks.push(host_block(output, host, now));
        }
    }
    if report.hosts.is_empty() {
        blocks.push("no host has joined; next: ctl hosts token".to_owned());
    }
    match same.as_slice() {
        [] => {}
        [only] => blocks.push(format!("{only} is as it was applied")),
        several => blocks.push(format!("as they were applied: {}", several.join(", "))),
    }
    blocks.extend(report.facts.iter().map(|difference| fact_block(output, difference)));
    blocks
}

fn host_block(output: &Output, host: &HostDrift, now: Timestamp) -> String {
    let gone = if host.connected { "" } else { ", and it is not connected now" };
    let (Some(looked), Some(release)) = (host.looked, &host.release) else {
        return format!("{}: it has not looked yet{gone}", host.host);
    };
    if let (Some(active), false) = (&host.active, host.is_of_active) {
        return format!("{}: {active} is active, and it has not looked at it yet{gone}", host.host);
    }
    let total = match host.total() {
        0 => output.paint(Tone::Good, "as it was applied"),
        total => output.paint(Tone::Bad, &format::count(total, "difference")),
    };
    let read = host.read.map(|read| format!(", read all of it {}", format::relative(read, now)));
    let mut text = format!(
        "{}: {} {release}: {total} (looked {}{}{gone})",
        host.host,
        host.application,
        format::relative(looked, now),
        read.unwrap_or_default(),
    );
    for finding in &host.findings {
        let detail = if finding.detail.is_empty() { String::new() } else { format!(": {}", finding.detail) };
        text.push_str(&format!("\n  {:<10} {}{detail}", finding.kind, finding.path));
        if !finding.by_hand.is_empty() {
            text.push_str(&format!("\n  {:<10} {}", "", output.paint(Tone::Faint, &finding.by_hand)));
        }
    }
    let more = host.total().saturating_sub(host.findings.len() as u64);
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    for note in &host.notes {
        text.push_str(&format!("\n  note: {note}"));
    }
    if host.findings.iter().any(|finding| finding.by_hand.is_empty()) {
        text.push_str(&format!("\n  next: ctl drift {} --repair", host.host));
    }
    text
}

fn fact_block(output: &Output, difference: &FactDifference) -> String {
    let place = match (difference.inside.as_slice(), difference.between) {
        ([], _) => "between environments".to_owned(),
        (inside, false) => format!("inside {}", inside.join(", ")),
        (inside, true) => format!("inside {}, and between environments", inside.join(", ")),
    };
    let title = format!("{} differs {place} ({})", difference.fact, difference.application);
    let mut text = output.paint(Tone::Warning, &title);
    for value in &difference.values {
        let shown = if value.value.is_empty() { "not told" } else { &value.value };
        let more = value.count.saturating_sub(value.hosts.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        text.push_str(&format!("\n  {:<12} {shown}: {}{more}", value.environment, value.hosts.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{FactValue, Finding};

    fn host(name: &str, findings: &[(&str, &str, &str, &str)]) -> HostDrift {
        let mut counts = std::collections::BTreeMap::new();
        let finding = |(kind, path, detail, by_hand): &(&str, &str, &str, &str)| {
            *counts.entry((*kind).to_owned()).or_default() += 1;
            Finding {
                path: (*path).into(),
                kind: (*kind).into(),
                detail: (*detail).into(),
                by_hand: (*by_hand).into(),
            }
        };
        let findings = findings.iter().map(finding).collect();
        HostDrift {
            host: name.into(),
            application: "shop".into(),
            environment: "production".into(),
            connected: true,
            release: Some("v1.4".into()),
            active: Some("v1.4".into()),
            is_of_active: true,
            looked: Some("2026-11-21T15:58:00Z".parse().unwrap()),
            read: Some("2026-11-21T10:00:00Z".parse().unwrap()),
            counts,
            digest: String::new(),
            findings,
            caches: 3,
            entries: 100,
            bytes: 1000,
            notes: Vec::new(),
            repair: None,
        }
    }

    #[test]
    fn what_differs_is_told_with_what_helps() {
        let value = |environment: &str, value: &str, hosts: &[&str]| FactValue {
            environment: environment.into(),
            value: value.into(),
            count: hosts.len() as u64,
            hosts: hosts.iter().map(|host| (*host).into()).collect(),
        };
        let mut away = host("web-4", &[]);
        (away.looked, away.connected) = (None, false);
        let mut renewed = host("web-5", &[]);
        (renewed.active, renewed.is_of_active) = (Some("v1.5".into()), false);
        let report = DriftReport {
            hosts: vec![
                host(
                    "web-1",
                    &[
                        ("changed", "releases/v1.4/views.py", "other content of the same size", ""),
                        ("added", "releases/v1.4/debug.log", "a file", "look at it"),
                    ],
                ),
                host("web-2", &[]),
                host("web-3", &[]),
                away,
                renewed,
            ],
            facts: vec![FactDifference {
                application: "shop".into(),
                fact: "kernel".into(),
                inside: vec!["production".into()],
                between: true,
                values: vec![
                    value("production", "6.1.0-28", &["web-1", "web-2"]),
                    value("production", "6.1.0-25", &["web-3"]),
                    value("staging", "", &["stage-1"]),
                ],
            }],
        };
        let now = "2026-11-21T16:00:00Z".parse().unwrap();
        insta::assert_snapshot!(blocks(&Output::plain(), &report, now).join("\n"), @r"
        web-1: shop v1.4: 2 differences (looked 2m 00s ago, read all of it 6h 00m ago)
          changed    releases/v1.4/views.py: other content of the same size
          added      releases/v1.4/debug.log: a file
                     look at it
          next: ctl drift web-1 --repair
        web-4: it has not looked yet, and it is not connected now
        web-5: v1.5 is active, and it has not looked at it yet
        as they were applied: web-2, web-3
        kernel differs inside production, and between environments (shop)
          production   6.1.0-28: web-1, web-2
          production   6.1.0-25: web-3
          staging      not told: stage-1
        ");
    }
}
