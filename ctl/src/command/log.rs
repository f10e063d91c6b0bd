//! `ctl log`: who did what, when; and the proof that nothing was changed since.

mod verify;

use super::Session;
use crate::cli::{Log, LogCommand};
use crate::client::LogRange;
use crate::error::{Error, Exit};
use crate::output::format;
use crate::view::LogEntry;

/// Kinds that a deployment log is made of; the others are shown with `--all`.
const DEPLOYMENTS: [&str; 8] = [
    "release_published",
    "rollout_started",
    "rollout_finished",
    "rollback_requested",
    "host_failed",
    "host_enrolled",
    "host_removed",
    "migration_resolved",
];
/// So many entries are read to find the deployments among them.
const READ: u32 = 1000;

pub(super) async fn run(session: &Session, arguments: &Log) -> Result<Exit, Error> {
    let output = session.output;
    let (profile, client) = session.connect().await?;
    if let Some(LogCommand::Verify) = &arguments.command {
        return verify::run(session, &profile, &client).await;
    }
    let application = if arguments.all { None } else { session.known_application()? };
    let limit = if arguments.all { arguments.limit } else { READ };
    let range = LogRange { from: 0, limit, last: true, application, environment: arguments.env.clone() };
    let mut entries = client.log(range).await?;
    if !arguments.all {
        entries.retain(|entry| DEPLOYMENTS.contains(&entry.kind.as_str()));
    }
    let surplus = entries.len().saturating_sub(usize::try_from(arguments.limit).unwrap_or(usize::MAX));
    entries.drain(..surplus);
    output.table(&["when (utc)", "who", "what"], entries.iter().map(row).collect());
    output.json("log", &entries);
    Ok(Exit::Succeeded)
}

fn row(entry: &LogEntry) -> Vec<String> {
    let who = if entry.origin.is_empty() {
        entry.actor.clone()
    } else {
        let address = entry.origin.rsplit_once(':').map_or(entry.origin.as_str(), |(host, _)| host);
        format!("{} ({address})", entry.actor)
    };
    vec![format::time(entry.at), who, entry.summary.clone()]
}
