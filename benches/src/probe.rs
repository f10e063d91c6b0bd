//! Looking at a running program from outside: what it syncs, and what its connections have received.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

/// `strace` on a process and all of its threads, counting the calls that wait for the disk.
pub struct Syncs {
    strace: Child,
    output: tempfile::NamedTempFile,
}

impl Syncs {
    /// Attaches to the process `id`; `None` where there is no strace or it may not.
    #[must_use]
    pub fn attach(id: u32) -> Option<Self> {
        let output = tempfile::NamedTempFile::new().ok()?;
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-c", "-U", "name,calls", "-e", "trace=fsync,fdatasync,syncfs"]);
        command.arg("-o").arg(output.path()).args(["-p", &id.to_string()]);
        let mut strace = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        // strace says nothing once it is attached; the process does.
        for _ in 0..200 {
            if traced(id) {
                return Some(Self { strace, output });
            }
            if strace.try_wait().ok()?.is_some() {
                return None;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = strace.kill();
        let _ = strace.wait();
        None
    }

    /// Detaches, and gives the number of calls by name.
    ///
    /// # Errors
    /// If strace has not written its table.
    pub fn counts(mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        landfall_e2e::process::signal(self.strace.id(), "INT");
        self.strace.wait()?;
        let table = std::fs::read_to_string(self.output.path()).context("strace has written no table")?;
        let count = |line: &str| {
            let (name, calls) = line.trim().split_once(char::is_whitespace)?;
            Some((name.to_owned(), calls.trim().parse().ok()?))
        };
        Ok(table.lines().filter_map(count).filter(|(name, _)| name != "total").collect())
    }
}

fn traced(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
}

/// Bytes that the process `id` has received on each of its TCP connections, by the connection's own port.
#[must_use]
pub fn received(id: u32) -> BTreeMap<String, u64> {
    let output = Command::new("ss").args(["-tinpHO"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let needle = format!("pid={id},");
    let count = |line: &str| {
        let port = line.split_whitespace().nth(3)?.rsplit(':').next()?.to_owned();
        let bytes = line.split_whitespace().find_map(|word| word.strip_prefix("bytes_received:"))?;
        Some((port, bytes.parse().ok()?))
    };
    text.lines().filter(|line| line.contains(&needle)).filter_map(count).collect()
}

/// Times between a line of a log that contains `from` and the next one that contains `to`.
#[must_use]
pub fn steps(log: &str, from: &str, to: &str) -> Vec<Duration> {
    let mut began = None;
    let mut steps = Vec::new();
    for line in log.lines() {
        if line.contains(from) {
            began = time_of_day(line);
        } else if line.contains(to)
            && let (Some(began), Some(ended)) = (began.take(), time_of_day(line))
        {
            // A step that crosses midnight is left out.
            steps.extend(ended.checked_sub(began));
        }
    }
    steps
}

/// Of a line that begins with `2026-11-21T07:36:39.310630Z`.
fn time_of_day(line: &str) -> Option<Duration> {
    let (_, time) = line.split_once('T')?;
    let (time, _) = time.split_once('Z')?;
    let mut parts = time.split(':');
    let (hours, minutes) = (parts.next()?.parse::<u64>().ok()?, parts.next()?.parse::<u64>().ok()?);
    let seconds: f64 = parts.next()?.parse().ok()?;
    Some(Duration::from_secs(hours * 3600 + minutes * 60) + Duration::try_from_secs_f64(seconds).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_two_lines_of_a_log_is_found() {
        let log = "2026-11-21T07:36:39.310000Z  INFO to=a\n2026-11-21T07:36:39.312500Z  INFO other\n\
                   2026-11-21T07:37:00.010000Z  INFO to=b\n2026-11-21T07:37:01.000000Z  INFO to=b\n";
        assert_eq!(steps(log, "to=a", "to=b"), [Duration::from_millis(20_700)]);
        assert_eq!(steps(log, "to=c", "to=b"), Vec::<Duration>::new());
    }
}
