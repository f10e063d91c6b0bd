//! What became of each host, and how it is told: which host, which step, what was said there, what to type next.

use serde::Serialize;

use crate::cli::Target;
use crate::error::Exit;
use crate::output::{Output, Tone, format};
use crate::ssh::Said;

/// So much of what a host said is shown.
pub(super) const SHOWN_LINES: usize = 15;

/// What became of a host.
#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It has joined, and the controller sees it.
    Joined,
    /// It had joined before, and the controller sees it again.
    Started,
    /// It had joined before, and nothing was done.
    Unchanged,
    /// It stopped at a step.
    Failed(Failure),
}

/// Why a host was not added.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Failure {
    /// At which step.
    pub step: &'static str,
    /// Why.
    pub reason: String,
    /// The last lines of what the host said.
    pub said: Vec<String>,
    /// What to type, or to do.
    pub next: String,
}

impl Failure {
    /// Without words of the host.
    pub fn plain(step: &'static str, reason: String, next: String) -> Self {
        Self { step, reason, said: Vec::new(), next }
    }

    /// With the last of what the host said, and none of the secrets in it.
    pub fn new(step: &'static str, reason: String, said: &Said, secrets: &[&str], next: String) -> Self {
        let mut text = format!("{}\n{}", said.out.trim_end(), said.err.trim_end());
        for secret in secrets {
            text = text.replace(secret, "TOKEN");
        }
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].iter();
        let printable = |line: &&str| line.chars().filter(|c| !c.is_control()).collect();
        Self { step, reason, said: last.map(printable).collect(), next }
    }

    /// For people.
    pub fn text(&self, output: &Output, target: &Target) -> String {
        let head = output.paint(Tone::Bad, &format!("{}: {} failed:", target.name, self.step));
        let said: String = self.said.iter().map(|line| format!("\n  | {line}")).collect();
        format!("{head} {}{said}\n  next: {}", self.reason, self.next)
    }
}

/// What to do about a step that failed there.
pub(super) fn by_hand(target: &Target) -> String {
    format!("correct it there (ssh {}), then the same command again", target.destination)
}

/// What to do about a host that ssh does not reach, by what ssh complains of.
pub(super) fn unreached(target: &Target, complaint: &str) -> String {
    let destination = &target.destination;
    let what = if complaint.contains("Host key verification failed") {
        format!(
            "ssh {destination} once by hand, to compare and take its key (or --ssh-option StrictHostKeyChecking=accept-new)"
        )
    } else if complaint.contains("Permission denied") {
        format!(
            "let it know your key: ssh-copy-id {destination}; or give ssh another one: --ssh-option IdentityFile=PATH"
        )
    } else {
        format!("ssh {destination} true, until that ends without a word")
    };
    format!("{what}; then the same command again")
}

/// Says what became of all of them.
pub(super) fn report(output: &Output, results: &[(&Target, Outcome)]) -> Exit {
    #[derive(Serialize)]
    struct Line<'l> {
        host: &'l str,
        destination: &'l str,
        #[serde(flatten)]
        outcome: &'l Outcome,
    }
    let failed: Vec<_> = results
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
        .map(|(target, _)| target.name.as_str())
        .collect();
    let there = results.len() - failed.len();
    let hosts = format::count(results.len() as u64, "host");
    if failed.is_empty() {
        output.line(format!("{hosts}: joined, and seen by the controller; next: ctl hosts"));
    } else {
        output.line(format!("{there} of {hosts} are there; not there: {}", failed.join(", ")));
    }
    let lines: Vec<_> = results
        .iter()
        .map(|(target, outcome)| Line {
            host: target.name.as_str(),
            destination: &target.destination,
            outcome,
        })
        .collect();
    output.json("hosts", &lines);
    if failed.is_empty() { Exit::Succeeded } else { Exit::Failed }
}
