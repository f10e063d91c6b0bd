//! P8, the log is whole: whatever left the controller, ended or was answered stands in it, once, with who asked for it.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::{Assignment, Order};
use landfall_controller_core::command::{Action, Answer, Command};
use landfall_controller_core::rollout::{End, Rollout, Status};
use serde_json::Value;

use super::{Checks, Violation};

/// A kind of entry, and what it is about: a rollout, a host.
type About = (&'static str, String);

/// What must stand in the log.
#[derive(Debug, Default)]
pub struct Account {
    /// Who each entry is by, of the kinds that are looked at.
    entries: BTreeMap<(String, String), Vec<String>>,
    /// What has been seen since the log was read, and by whom it must be.
    seen: BTreeSet<(About, Option<String>)>,
    /// How rollouts ended, by the log.
    ends: BTreeMap<String, String>,
    /// How they really did.
    ended: BTreeMap<String, &'static str>,
}

impl Account {
    /// An assignment left the controller.
    pub fn sent(&mut self, assignment: &Assignment) {
        let rollout = assignment.rollout.to_string();
        match assignment.order {
            Order::Activate { .. } | Order::Restart { .. } => {
                self.must_tell(("rollout_started", rollout), None);
            }
            Order::Migrate { .. } => self.must_tell(("migration_started", rollout), None),
            _ => {}
        }
    }

    /// A rollout has ended, durably.
    pub fn ended(&mut self, rollout: &Rollout) {
        let Status::Ended { end } = &rollout.status else { return };
        let word = match end {
            End::Succeeded => "succeeded",
            End::RolledBack { .. } => "rolled_back",
            End::Rehearsed { .. } => "rehearsed",
            End::Aborted { .. } => "aborted",
            End::Failed { .. } => "failed",
            End::Superseded { .. } => "superseded",
        };
        self.ended.insert(rollout.id.to_string(), word);
        self.must_tell(("rollout_finished", rollout.id.to_string()), None);
    }

    /// A command was accepted.
    pub fn accepted(&mut self, command: &Command, answer: &Answer) {
        let by = serde_json::to_value(&command.by).expect("plain data").to_string();
        let about = match (&command.action, answer) {
            // It begins now, or stands in line: one of the two.
            (Action::Roll(_), Answer::Rollout { id }) => ("rollout_queued", id.to_string()),
            (Action::Abort { rollout, go_back: false, .. }, _) => ("rollout_aborted", rollout.to_string()),
            (Action::ResolveMigration { rollout, .. }, _) => ("migration_resolved", rollout.to_string()),
            (Action::Remove { host, .. }, _) => ("host_removed", host.to_string()),
            _ => return,
        };
        self.must_tell(about, Some(by));
    }

    fn must_tell(&mut self, about: About, by: Option<String>) {
        self.seen.insert((about, by));
    }

    /// Reads an entry that has come to the log.
    fn read(&mut self, entry: &Value) {
        let event = &entry["event"];
        let text = |key: &str| event[key].as_str().map(str::to_owned);
        let Some(kind) = text("kind") else { return };
        let Some(about) = text("rollout").or_else(|| text("host")) else { return };
        if kind == "rollout_finished" {
            self.ends.insert(about.clone(), text("end").unwrap_or_default());
        }
        self.entries.entry((kind, about)).or_default().push(entry["actor"].to_string());
    }
}

impl Checks {
    /// What is new in the log was read: all that has been seen must be in it by now.
    pub(super) fn tells_all(&mut self, new: &[Vec<u8>]) -> Result<(), Violation> {
        let account = &mut self.account;
        for entry in new {
            let entry = serde_json::from_slice(entry).unwrap_or_default();
            account.read(&entry);
            self.line.read(&entry)?;
            self.approvals.read(&entry, &self.releases)?;
            self.windows.read(&entry, &self.releases)?;
            self.proofs.read(&entry, &self.releases, &self.proven)?;
            self.evidence.read(&entry, &self.releases)?;
        }
        for ((kind, about), by) in std::mem::take(&mut account.seen) {
            let of_kind = |kind: &str| account.entries.get(&(kind.to_owned(), about.clone()));
            let instead = if kind == "rollout_queued" { of_kind("rollout_started") } else { None };
            let Some(entries) = of_kind(kind).or(instead) else {
                return Err(Violation::new("P8", format!("the log has no {kind} of {about}")));
            };
            if by.as_ref().is_some_and(|by| !entries.contains(by)) {
                let what = format!("the log has {kind} of {about} by {entries:?}, and it was {by:?}");
                return Err(Violation::new("P8", what));
            }
            if matches!(kind, "rollout_started" | "rollout_finished") && entries.len() != 1 {
                let what = format!("the log has {kind} of {about} {} times", entries.len());
                return Err(Violation::new("P8", what));
            }
        }
        for (rollout, end) in std::mem::take(&mut account.ended) {
            let told = account.ends.get(&rollout).map(String::as_str);
            if told != Some(end) {
                let what = format!("rollout {rollout} is over as {end}, and the log says {told:?}");
                return Err(Violation::new("P8", what));
            }
        }
        Ok(())
    }
}
