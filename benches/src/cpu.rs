//! CPU time of processes, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// Clock ticks of `/proc/PID/stat` in a second; 100 on every Linux that Rust runs on.
const TICKS_PER_S: u64 = 100;

/// Time on a core of one process alone, in nanoseconds' resolution; threads that have ended are not counted.
#[must_use]
pub fn of_threads(id: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let on_core = |task: fs::DirEntry| {
        let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        schedstat.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.filter_map(on_core).sum())
}

/// User and system time of one process and of all children that it has waited for; zero if it is gone.
#[must_use]
pub fn of(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The second field is the command in parentheses, and may hold spaces.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_S)
}

/// Resident memory of one process in bytes; zero if it is gone.
#[must_use]
pub fn resident_bytes(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    kib.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// CPU time of every process whose command line or environment names `path`, together.
#[must_use]
pub fn of_all_that_name(path: &std::path::Path) -> Duration {
    landfall_e2e::process::that_name(path).into_iter().map(of).sum()
}
