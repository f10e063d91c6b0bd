//! A fleet: hosts on one switch, and the test in front of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::host::{Host, Place, Share, cgroups};
use crate::network::{OPERATOR, Switch};
use crate::undertaker::{PREFIX, Undertaker, bury_leftovers};

/// The size of a disk, where a test says nothing. It takes as much of the machine as is written to it.
const DISK_MIB: u64 = 4096;

/// Tells the fleets of one process apart.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// What a fleet is to be.
#[derive(Default)]
pub struct Plan {
    hosts: Vec<(String, u64)>,
    shares: Vec<Share>,
}

impl Plan {
    /// No host yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more host.
    #[must_use]
    pub fn host(self, name: &str) -> Self {
        self.host_with_disk(name, DISK_MIB)
    }

    /// With one more host, whose disk has this size.
    #[must_use]
    pub fn host_with_disk(mut self, name: &str, disk_mib: u64) -> Self {
        self.hosts.push((name.to_owned(), disk_mib));
        self
    }

    /// Shows a directory of this machine to every host, read-only, at this path.
    #[must_use]
    pub fn share(mut self, from: &Path, at: &str) -> Self {
        self.shares.push(Share { from: from.to_owned(), at: at.to_owned() });
        self
    }

    /// Boots all of them, and takes this thread and what it starts from now on into their network.
    ///
    /// # Errors
    /// What is missing on this machine, or what did not come up.
    pub fn boot(self) -> io::Result<Fleet> {
        let base = crate::base::ensure()?;
        let runs = crate::directory().join("run");
        fs::create_dir_all(&runs)?;
        bury_leftovers(&runs)?;

        let id = format!("{PREFIX}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (directory, cgroup) = (runs.join(&id), cgroups()?.join(&id));
        let undertaker = Undertaker::start(&id, &directory)?;
        let switch = Switch::new(&id)?;
        let mut known = format!("127.0.0.1 localhost\n{OPERATOR} operator\n");
        for (number, (name, _)) in (1_u8..).zip(&self.hosts) {
            let _ = writeln!(known, "10.77.0.{number} {name}");
        }
        let mut hosts = BTreeMap::new();
        for (number, (name, disk_mib)) in (1_u8..).zip(&self.hosts) {
            let cable = switch.connect(&id, name, number)?;
            let place = Place { name, fleet: &directory, cgroup: &cgroup, base: &base, disk_mib: *disk_mib };
            let seed = [
                ("etc/hostname", format!("{name}\n")),
                ("etc/hosts", known.clone()),
                // Any 128 bits will do; the first boot of a machine without an id is a special one.
                ("etc/machine-id", format!("{:016x}{number:016x}\n", 0x004c_616e_6466_616c_u64)),
            ];
            hosts.insert(name.clone(), Host::new(&place, cable, self.shares.clone(), &seed)?);
        }
        let fleet = Fleet { hosts, directory, undertaker };
        switch.enter()?;
        fleet.all(Host::power_on)?;
        Ok(fleet)
    }
}

/// Hosts that run; all of them end when this is dropped, and also when this process ends without dropping it.
pub struct Fleet {
    /// By name.
    pub hosts: BTreeMap<String, Host>,
    directory: PathBuf,
    #[expect(dead_code, reason = "its drop is what it is for")]
    undertaker: Undertaker,
}

impl Fleet {
    /// One of the hosts.
    ///
    /// # Panics
    /// If the fleet has no such host.
    #[must_use]
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.get(name).unwrap_or_else(|| panic!("no host {name} in this fleet"))
    }

    /// A directory on this machine that lasts as long as the fleet.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.local"))
    }

    /// Does something on all hosts at once.
    ///
    /// # Errors
    /// What went wrong on the first of them on which something did.
    pub fn all<T: Send>(&self, work: impl Fn(&Host) -> io::Result<T> + Sync) -> io::Result<Vec<T>> {
        std::thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = self.hosts.values().map(|host| scope.spawn(move || work(host))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| io::Error::other("it panicked"))?)
                .collect()
        })
    }

    /// What happened last on every host, for a test that fails.
    #[must_use]
    pub fn last_words(&self) -> String {
        let words: Vec<_> = self.hosts.values().map(Host::last_words).collect();
        words.join("\n")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // What the hosts knew is gone in a moment.
        if std::thread::panicking() {
            let _ = writeln!(io::stderr(), "{}", self.last_words());
        }
    }
}
