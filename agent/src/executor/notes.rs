//! The notes of migrations: where they are, and when they go.

use std::path::{Path, PathBuf};

use landfall_common::StepName;

use crate::steps::supervisor::{self, Recovered};

const DIRECTORY: &str = "migrations";

/// The note of the run under this lease.
pub(super) fn path(state_dir: &Path, fence: u64) -> PathBuf {
    state_dir.join(DIRECTORY).join(format!("{fence}.json"))
}

/// Removes what was noted under leases below this one, and what was reserved for that. Nobody can ask for it
/// any more: the record holds this lease, so none below it is begun or taken up again. What still runs, below
/// a supervisor whose agent gave it up, keeps its place for the note of its end.
pub(super) fn sweep(state_dir: &Path, fence: u64, step: &StepName) {
    let entries = std::fs::read_dir(state_dir.join(DIRECTORY)).into_iter().flatten();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let Some(old) = lease(&path).filter(|old| *old < fence) else { continue };
        if matches!(supervisor::recover(&self::path(state_dir, old), step), Recovered::Running) {
            continue;
        }
        if let Err(error) = std::fs::remove_file(&path) {
            // The next migration tries again.
            tracing::warn!(path = %path.display(), %error, "an old note of a migration cannot be removed");
        }
    }
}

/// The lease that a file belongs to: `7.json`, `7.json.reserve`, `7.json.new`, `7.json.group`.
fn lease(path: &Path) -> Option<u64> {
    let (number, rest) = path.file_name()?.to_str()?.split_once('.')?;
    let known = matches!(rest, "json" | "json.reserve" | "json.new" | "json.group");
    number.parse().ok().filter(|_| known)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_older_leases_left_goes_and_what_may_be_asked_for_stays() {
        let directory = tempfile::tempdir().unwrap();
        let notes = directory.path().join(DIRECTORY);
        fs::create_dir(&notes).unwrap();
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let started = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().to_owned();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let running = format!(
            r#"{{"type":"begun","step":"migrate","boot_id":"{}","pid":{},"started":{started}}}"#,
            boot.trim(),
            std::process::id()
        );
        for (name, text) in [
            ("3.json", "torn"),
            ("3.json.reserve", ""),
            ("4.json.new", ""),
            ("4.json.group", ""),
            ("5.json", &running),
            ("5.json.reserve", ""),
            ("6.json", ""),
            ("7.json", ""),
            ("README", ""),
            ("4.json.of-somebody", ""),
        ] {
            fs::write(notes.join(name), text).unwrap();
        }
        sweep(directory.path(), 6, &StepName::new("migrate").unwrap());
        let left =
            fs::read_dir(&notes).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, ["4.json.of-somebody", "5.json", "5.json.reserve", "6.json", "7.json", "README"]);
        // The first migration of a host has no directory yet.
        sweep(&directory.path().join("nothing"), 6, &StepName::new("migrate").unwrap());
    }
}
