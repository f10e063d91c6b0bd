//! `ctl log`: the deployment log that a team would keep, made from the controller's; all of that with
//! `--all`, and the proof that nothing of it was changed with `verify`.

mod verify;

use std::collections::BTreeMap;

use landfall_common::Timestamp;
use landfall_common::printable;
use serde::Serialize;
use serde_json::Value;

use super::Session;
use super::place::{self, Asked};
use crate::cli::{Log, LogCommand};
use crate::client::LogRange;
use crate::error::{Error, Exit};
use crate::output::{Output, Tone, format};
use crate::view::LogEntry;

/// So many entries are read to find the rollouts among them.
const READ: u32 = 1000;

/// A rollout, as the log tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Deployment {
    rollout: String,
    began: Option<Timestamp>,
    application: String,
    environment: String,
    from: String,
    release: String,
    by: String,
    /// Commits, else the release's notes.
    changes: Vec<String>,
    duration_s: Option<u64>,
    /// `succeeded`, `failed`, `rolled_back`, `rehearsed`, `aborted`, `superseded`; empty while it goes on.
    outcome: String,
    reason: String,
    hosts: u64,
    hosts_done: u64,
    is_rollback: bool,
    is_drill: bool,
    /// `restart of web`, if that is what it was.
    restart: String,
}

pub(super) async fn run(session: &Session, arguments: &Log) -> Result<Exit, Error> {
    let output = session.output;
    let (profile, client) = session.connect().await?;
    if let Some(LogCommand::Verify) = &arguments.command {
        return verify::run(session, &profile, &client).await;
    }
    let application = if arguments.all { None } else { session.known_application()? };
    let limit = if arguments.all { arguments.limit } else { READ };
    let range = LogRange {
        from: 0,
        limit,
        last: true,
        application: application.clone(),
        environment: arguments.env.clone(),
    };
    let entries = client.log(range).await?;
    if arguments.all {
        output.table(&["when (utc)", "who", "what"], entries.iter().map(row).collect());
        output.json("log", &entries);
        return Ok(Exit::Succeeded);
    }
    let mut deployments = deployments(&entries);
    let surplus = deployments.len().saturating_sub(usize::try_from(arguments.limit).unwrap_or(usize::MAX));
    deployments.drain(..surplus);
    if deployments.is_empty() {
        let asked =
            Asked { noun: "rollout", application: application.as_ref(), environment: arguments.env.as_ref() };
        let nothing = place::nothing_in(session, &client, asked).await?;
        output.line(format!("{nothing} yet; everything else: ctl log --all"));
    } else {
        let header =
            ["when (utc)", "application", "environment", "release", "by", "duration", "outcome", "changes"];
        output.table(&header, deployments.iter().map(|d| deployment_row(&output, d)).collect());
    }
    output.json("deployments", &deployments);
    Ok(Exit::Succeeded)
}

/// The rollouts among the entries, oldest first; what began before the first entry is told as far as known.
fn deployments(entries: &[LogEntry]) -> Vec<Deployment> {
    let mut found: BTreeMap<String, Deployment> = BTreeMap::new();
    let mut order = Vec::new();
    for entry in entries {
        let event = &entry.body["event"];
        let text = |value: &Value| printable::line(value.as_str().unwrap_or_default());
        let rollout = text(&event["rollout"]);
        let known = [
            "rollout_started",
            "rollout_finished",
            "rollback_requested",
            "drill_requested",
            "restart_requested",
        ];
        if rollout.is_empty() || !known.contains(&entry.kind.as_str()) {
            continue;
        }
        let deployment = found.entry(rollout.clone()).or_insert_with(|| {
            order.push(rollout.clone());
            Deployment { rollout, ..Deployment::default() }
        });
        deployment.application = text(&event["application"]);
        deployment.environment = text(&event["environment"]);
        match entry.kind.as_str() {
            "rollout_started" => {
                deployment.began = Some(entry.at);
                deployment.by.clone_from(&entry.actor);
                deployment.release = text(&event["release"]["name"]);
                deployment.from = text(&event["previous"]["name"]);
                deployment.hosts = event["hosts"].as_u64().unwrap_or(0);
                let commits = event["commits"].as_array().into_iter().flatten();
                deployment.changes = commits.map(|commit| text(&commit["subject"])).collect();
                if deployment.changes.is_empty() {
                    let notes = event["notes"].as_str().unwrap_or_default();
                    deployment.changes = notes.lines().take(1).map(printable::line).collect();
                }
            }
            "drill_requested" => deployment.is_drill = true,
            "restart_requested" => {
                let services = event["services"].as_array().into_iter().flatten().map(text);
                let services = services.collect::<Vec<_>>().join(", ");
                deployment.restart = format!("{} of {services}", text(&event["verb"]));
                deployment.reason = text(&event["reason"]);
            }
            "rollback_requested" => {
                deployment.is_rollback = true;
                if deployment.by.is_empty() {
                    deployment.by.clone_from(&entry.actor);
                }
                if deployment.began.is_none() {
                    deployment.began = Some(entry.at);
                    deployment.release = text(&event["to"]["name"]);
                }
            }
            _ => {
                deployment.release = text(&event["release"]["name"]);
                deployment.outcome = text(&event["end"]);
                let reason = text(&event["reason"]);
                // Why somebody wanted it is told where nothing went wrong.
                if !reason.is_empty() || deployment.restart.is_empty() {
                    deployment.reason = reason;
                }
                deployment.hosts = event["hosts"].as_u64().unwrap_or(0);
                deployment.hosts_done = event["hosts_done"].as_u64().unwrap_or(0);
                let started = event["started_at"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
                deployment.began = deployment.began.or(started);
                deployment.duration_s = started.map(|started| entry.at.since(started).as_secs());
            }
        }
    }
    order.into_iter().filter_map(|rollout| found.remove(&rollout)).collect()
}

fn deployment_row(output: &Output, deployment: &Deployment) -> Vec<String> {
    let release = match deployment.from.as_str() {
        "" => deployment.release.clone(),
        from => format!("{from} -> {}", deployment.release),
    };
    let release = match deployment {
        Deployment { restart, .. } if !restart.is_empty() => format!("{} ({restart})", deployment.release),
        Deployment { is_rollback: true, .. } => format!("{release} (rollback)"),
        Deployment { is_drill: true, .. } => format!("{release} (drill)"),
        _ => release,
    };
    let words = deployment.outcome.replace('_', " ");
    let outcome = match deployment.outcome.as_str() {
        "" => output.paint(Tone::Warning, "under way"),
        "succeeded" | "rehearsed" => output.paint(Tone::Good, &words),
        _ => output.paint(Tone::Bad, &words),
    };
    let changes = match &deployment.changes[..] {
        // The changes of its release came earlier.
        _ if !deployment.restart.is_empty() => format::or_dash(Some(deployment.reason.clone())),
        [] if deployment.reason.is_empty() => "-".to_owned(),
        [] => deployment.reason.clone(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first}, and {} more", rest.len()),
    };
    vec![
        format::or_dash(deployment.began.map(format::time)),
        deployment.application.clone(),
        deployment.environment.clone(),
        release,
        format::or_dash(Some(deployment.by.clone())),
        format::or_dash(deployment.duration_s.map(|s| format::duration(std::time::Duration::from_secs(s)))),
        outcome,
        changes,
    ]
}

fn row(entry: &LogEntry) -> Vec<String> {
    let who = if entry.origin.is_empty() {
        entry.actor.clone()
    } else {
        format!("{} ({})", entry.actor, entry.origin)
    };
    vec![format::time(entry.at), who, entry.summary.clone()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table;
    use serde_json::json;

    fn entry(index: u64, kind: &str, at: &str, mut event: Value) -> LogEntry {
        event["kind"] = json!(kind);
        event["application"] = json!("tenants");
        event["environment"] = json!("production");
        LogEntry {
            index,
            at: at.parse().unwrap(),
            actor: "ana".into(),
            origin: String::new(),
            kind: kind.into(),
            summary: String::new(),
            body: json!({ "event": event }),
            raw: Vec::new(),
        }
    }

    #[test]
    fn the_log_reads_like_the_one_that_a_team_would_keep() {
        let release = |name: &str| json!({ "name": name });
        let commits = json!([{ "subject": "a new page" }, { "subject": "a faster search" }]);
        let started = "2026-11-21T16:00:00Z";
        let entries = [
            entry(
                0,
                "rollout_started",
                started,
                json!({ "rollout": "r1", "release": release("v1.4"), "previous": release("v1.3"), "hosts": 4,
                        "commits": commits }),
            ),
            entry(
                1,
                "rollout_finished",
                "2026-11-21T16:02:05Z",
                json!({ "rollout": "r1", "release": release("v1.4"), "end": "succeeded", "started_at": started,
                        "hosts": 4, "hosts_done": 4 }),
            ),
            entry(2, "host_enrolled", started, json!({ "host": "web-1" })),
            entry(
                3,
                "rollback_requested",
                "2026-11-21T17:00:00Z",
                json!({ "rollout": "r2", "to": release("v1.3"), "reason": "slow" }),
            ),
            entry(
                4,
                "rollout_finished",
                "2026-11-21T17:00:30Z",
                json!({ "rollout": "r2", "release": release("v1.3"), "end": "failed", "reason": "web-1 is gone",
                        "started_at": "2026-11-21T17:00:00Z" }),
            ),
            entry(
                5,
                "rollout_started",
                "2026-11-21T18:00:00Z",
                json!({ "rollout": "r3", "release": release("v1.3"), "previous": release("v1.4"), "hosts": 4,
                        "notes": "v1.3: condominiums\u{1b}[2J\n\n- Lists of them." }),
            ),
        ];
        let rows = deployments(&entries).iter().map(|d| deployment_row(&Output::plain(), d)).collect();
        let header =
            ["when", "application", "environment", "release", "by", "duration", "outcome", "changes"];
        insta::assert_snapshot!(table(&header, rows, None), @r#"
    WHEN                 APPLICATION  ENVIRONMENT  RELEASE          BY   DURATION  OUTCOME    CHANGES
    2026-11-21 16:00:00  tenants      production   v1.3 -> v1.4     ana  2m 05s    succeeded  a new page, and 1 more
    2026-11-21 17:00:00  tenants      production   v1.3 (rollback)  ana  30s       failed     web-1 is gone
    2026-11-21 18:00:00  tenants      production   v1.4 -> v1.3     ana  -         under way  v1.3: condominiums\u{1b}[2J
    "#);
    }
}
