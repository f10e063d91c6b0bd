//! What a unit said last, and how it ended, by the journal.
//!
//! The agent must be a member of the group `systemd-journal`, else it sees nothing there and tells nothing.

use std::process::Stdio;
use std::time::Duration;

use landfall_common::report::TAIL_LINES;

/// The journal takes lines a moment after they were written.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// journalctl reads a few blocks of an index.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The message of systemd by which a unit's process has ended, `SD_MESSAGE_UNIT_PROCESS_EXIT`.
const PROCESS_EXIT: &str = "MESSAGE_ID=98e322203f7a4ed290d09fe03c09fe15";

/// When something happened, in microseconds of the wall clock, 0 for never.
pub(crate) type Moment = u64;

/// What a unit wrote last, from one moment to another. Its processes are known by the unit and not by the
/// start of it: the journal does not learn in time to which start a process belonged that ended at once.
pub(crate) async fn last_words(unit: &str, from: Moment, until: Option<Moment>) -> Vec<String> {
    let mut filter = vec![format!("_SYSTEMD_UNIT={unit}"), format!("--since={}", stamp(from))];
    filter.extend(until.map(|until| format!("--until={}", stamp(until))));
    for _ in 0..TRIES {
        let said = ask("cat", &filter).await;
        let lines = super::super::last_lines(&said);
        if !lines.is_empty() {
            return lines;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Vec::new()
}

/// The exit code of the unit's process that exited last, and when that was.
pub(super) async fn last_exit(unit: &str) -> Option<(i32, Moment)> {
    let filter = [PROCESS_EXIT.to_owned(), format!("UNIT={unit}")];
    for _ in 0..TRIES {
        let said = ask("json", &filter).await;
        let last = said.lines().last().unwrap_or_default();
        let entry: serde_json::Value = serde_json::from_str(last).unwrap_or_default();
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        // What was stopped was ended by a signal: that is not what is asked for.
        if text("EXIT_CODE") == "exited"
            && let (Ok(code), Ok(at)) = (text("EXIT_STATUS").parse(), text("__REALTIME_TIMESTAMP").parse())
        {
            return Some((code, at));
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}

fn stamp(moment: Moment) -> String {
    format!("@{}.{:06}", moment / 1_000_000, moment % 1_000_000)
}

async fn ask(form: &str, filter: &[String]) -> String {
    let lines = TAIL_LINES.to_string();
    let mut command = tokio::process::Command::new("journalctl");
    command.args(["--no-pager", "--quiet", "--lines", &lines, "--output", form]).args(filter);
    command.stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(TIMEOUT, command.output()).await {
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => String::new(),
    }
}
