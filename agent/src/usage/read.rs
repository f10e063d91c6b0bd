//! Reading from the kernel: control groups of version 2, and `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Roots;
use crate::steps::process::Stat;

/// Where the kernel shows processes and control groups.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys/fs/cgroup`.
    pub groups: PathBuf,
}

/// What can be read of a service at one moment.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub cpu: Option<Cpu>,
    pub memory_bytes: Option<u64>,
}

/// Processor time up to one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cpu {
    /// Of a control group, which counts also what has ended.
    Group { name: String, used: Duration },
    /// Of each process that runs, in clock ticks.
    Processes(BTreeMap<Id, u64>),
}

/// A process id with when it was started.
type Id = (i32, u64);

impl Default for Kernel {
    fn default() -> Self {
        Self { proc: "/proc".into(), groups: "/sys/fs/cgroup".into() }
    }
}

impl Kernel {
    /// Every process that is shown.
    pub(super) fn processes(&self) -> BTreeMap<i32, Stat> {
        let entries = fs::read_dir(&self.proc).into_iter().flatten();
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let stat = |pid: i32| {
            let stat = fs::read_to_string(self.proc.join(pid.to_string()).join("stat")).ok()?;
            Some((pid, Stat::parse(&stat)?))
        };
        ids.filter_map(stat).filter(|(_, stat)| !stat.ended).collect()
    }

    /// What a service uses: by its control group, if there is one, or by its processes.
    pub(super) fn read<'p>(
        &self,
        roots: &Roots,
        processes: impl FnOnce() -> &'p BTreeMap<i32, Stat>,
    ) -> Seen {
        for name in roots.groups.iter().filter(|name| !name.trim_matches('/').is_empty()) {
            let directory = self.groups.join(name.trim_start_matches('/'));
            let used = field(&directory.join("cpu.stat"), "usage_usec").map(Duration::from_micros);
            if let Some(used) = used {
                let memory = directory.join("memory.stat");
                let held = field(&memory, "anon").zip(field(&memory, "shmem"));
                let held = held.map(|(anonymous, shared)| anonymous.saturating_add(shared));
                return Seen {
                    cpu: Some(Cpu::Group { name: name.clone(), used }),
                    // Memory is counted only where that controller is of version 2 and on.
                    memory_bytes: held.or_else(|| self.of_processes(roots, processes).memory_bytes),
                };
            }
        }
        self.of_processes(roots, processes)
    }

    fn of_processes<'p>(&self, roots: &Roots, processes: impl FnOnce() -> &'p BTreeMap<i32, Stat>) -> Seen {
        if roots.processes.is_empty() {
            return Seen::default();
        }
        let processes = processes();
        let family = family(&roots.processes, processes);
        if family.is_empty() {
            return Seen::default();
        }
        let held: Option<Vec<u64>> = family.iter().map(|pid| self.held(*pid)).collect();
        let ticks =
            family.iter().filter_map(|pid| processes.get(pid).map(|stat| ((*pid, stat.started), stat.ticks)));
        Seen {
            cpu: Some(Cpu::Processes(ticks.collect())),
            memory_bytes: held.map(|held| held.into_iter().fold(0, u64::saturating_add)),
        }
    }

    /// What a process holds that is no file, in bytes; nothing once it has ended.
    fn held(&self, pid: i32) -> Option<u64> {
        let status = self.proc.join(pid.to_string()).join("status");
        match fs::read_to_string(status) {
            Ok(text) => {
                let kib = |key| value(&text, key);
                Some((kib("RssAnon:")?.saturating_add(kib("RssShmem:")?)).saturating_mul(1024))
            }
            // It ended since the processes were listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(0),
            Err(_) => None,
        }
    }
}

/// The roots that run, and all that they started.
fn family(roots: &[u32], processes: &BTreeMap<i32, Stat>) -> BTreeSet<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, stat) in processes {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let roots = roots.iter().filter_map(|pid| i32::try_from(*pid).ok());
    let mut open: Vec<i32> = roots.filter(|pid| processes.contains_key(pid)).collect();
    let mut family = BTreeSet::new();
    while let Some(pid) = open.pop() {
        if family.insert(pid) {
            open.extend(children.get(&pid).into_iter().flatten());
        }
    }
    family
}

impl Cpu {
    /// What was used since an earlier moment. What has begun to count since counts from zero.
    pub fn since(&self, before: &Self) -> Duration {
        match (self, before) {
            (Self::Group { name, used }, Self::Group { name: same, used: before }) if name == same => {
                used.checked_sub(*before).unwrap_or(*used)
            }
            (Self::Group { .. }, _) => Duration::ZERO,
            (Self::Processes(now), Self::Processes(before)) => {
                let more =
                    now.iter().map(|(id, ticks)| ticks.saturating_sub(before.get(id).copied().unwrap_or(0)));
                in_time(more.fold(0, u64::saturating_add))
            }
            (Self::Processes(_), Self::Group { .. }) => Duration::ZERO,
        }
    }
}

fn in_time(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_micros(ticks.saturating_mul(1_000_000) / per_second)
}

/// The number of a line such as `anon 4096` of a file.
fn field(path: &Path, key: &str) -> Option<u64> {
    value(&fs::read_to_string(path).ok()?, key)
}

fn value(text: &str, key: &str) -> Option<u64> {
    let mut words = text.lines().map(str::split_ascii_whitespace);
    words.find_map(|mut words| if words.next()? == key { words.next()?.parse().ok() } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel in a directory, with one process below another and one beside them.
    fn kernel(directory: &Path) -> Kernel {
        let kernel = Kernel { proc: directory.join("proc"), groups: directory.join("cgroup") };
        for (pid, parent, ticks, kib) in [(10, 1, 300, 1000), (11, 10, 200, 2000), (12, 1, 900, 9000)] {
            write_process(&kernel, pid, parent, ticks, kib);
        }
        fs::create_dir_all(kernel.proc.join("self")).unwrap();
        kernel
    }

    fn write_process(kernel: &Kernel, pid: i32, parent: i32, ticks: u64, kib: u64) {
        let directory = kernel.proc.join(pid.to_string());
        fs::create_dir_all(&directory).unwrap();
        let stat = format!("{pid} (a b) S {parent} 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 {pid}77 1 1");
        fs::write(directory.join("stat"), stat).unwrap();
        let status =
            format!("Name:\ta\nVmRSS:\t99999 kB\nRssAnon:\t{kib} kB\nRssFile:\t5 kB\nRssShmem:\t24 kB\n");
        fs::write(directory.join("status"), status).unwrap();
    }

    fn read(kernel: &Kernel, roots: &Roots) -> Seen {
        kernel.read(roots, || Box::leak(Box::new(kernel.processes())))
    }

    #[test]
    fn a_service_is_its_process_with_all_that_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let kernel = kernel(directory.path());
        let roots = Roots { processes: vec![10, 99], ..Roots::default() };
        let before = read(&kernel, &roots);
        assert_eq!(before.memory_bytes, Some((1000 + 2000 + 2 * 24) * 1024));
        // Ten ticks more of one, one more process, and one that ended.
        write_process(&kernel, 10, 1, 310, 1000);
        write_process(&kernel, 13, 10, 5, 500);
        fs::remove_dir_all(kernel.proc.join("11")).unwrap();
        let after = read(&kernel, &roots);
        assert_eq!(after.cpu.unwrap().since(&before.cpu.unwrap()), in_time(15));
        assert_eq!(after.memory_bytes, Some((1000 + 500 + 2 * 24) * 1024));
        let gone = read(&kernel, &Roots { processes: vec![99], ..Roots::default() });
        assert!(gone.cpu.is_none() && gone.memory_bytes.is_none());
    }

    #[test]
    fn a_control_group_of_its_own_says_more_than_processes_and_one_of_all_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let kernel = kernel(directory.path());
        let group = kernel.groups.join("system.slice/web.service");
        fs::create_dir_all(&group).unwrap();
        fs::write(kernel.groups.join("cpu.stat"), "usage_usec 999999999\n").unwrap();
        let write = |used: u64| {
            fs::write(group.join("cpu.stat"), format!("usage_usec {used}\nuser_usec 1\n")).unwrap();
        };
        write(4_000_000);
        fs::write(group.join("memory.stat"), "anon 4096\nfile 1000000\nshmem 100\n").unwrap();
        let names = ["", "/", "/docker/none", "/system.slice/web.service"];
        let roots = Roots { groups: names.map(str::to_owned).to_vec(), processes: vec![10] };
        let first = read(&kernel, &roots);
        assert_eq!(first.memory_bytes, Some(4196));
        write(4_500_000);
        let second = read(&kernel, &roots);
        let used = second.cpu.clone().unwrap().since(&first.cpu.unwrap());
        assert_eq!(used, Duration::from_millis(500));
        // The group was made anew when the service was started again.
        write(70_000);
        let third = read(&kernel, &roots);
        assert_eq!(third.cpu.unwrap().since(&second.cpu.unwrap()), Duration::from_millis(70));
        fs::remove_file(group.join("memory.stat")).unwrap();
        assert_eq!(read(&kernel, &roots).memory_bytes, Some((1000 + 2000 + 2 * 24) * 1024));
        fs::remove_dir_all(&group).unwrap();
        assert_eq!(read(&kernel, &roots).memory_bytes, Some((1000 + 2000 + 2 * 24) * 1024));
    }

    #[test]
    fn memory_that_the_kernel_does_not_show_is_not_none_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let kernel = kernel(directory.path());
        fs::write(kernel.proc.join("11/status"), "Name:\ta\n").unwrap();
        let seen = read(&kernel, &Roots { processes: vec![10], ..Roots::default() });
        assert!(seen.cpu.is_some() && seen.memory_bytes.is_none());
    }
}
