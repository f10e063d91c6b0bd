//! One host: its power, its disk, and whether it is up. What is done on it is in [`commands`].

pub mod commands;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use landfall_e2e::process::{tail, wait_until};

use crate::disk::{Disk, Slow, Stalled};
use crate::network::Cable;

/// How long anything may take that a host does, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(90);

const BOOT: &str = include_str!("host/boot.sh");

/// A directory of this machine that hosts see, read-only.
#[derive(Debug, Clone)]
pub struct Share {
    /// Where it is here.
    pub from: PathBuf,
    /// Where a host sees it.
    pub at: String,
}

/// A host of a [`crate::fleet::Fleet`].
pub struct Host {
    /// Its name, by which the other hosts find it too.
    pub name: String,
    /// Its network; [`Cable::unplug`] and [`Cable::black_hole`] cut it.
    pub network: Cable,
    directory: PathBuf,
    cgroup: PathBuf,
    base: PathBuf,
    shares: Vec<Share>,
    disk: Disk,
    supervisor: Mutex<Option<Child>>,
}

impl Host {
    /// A host that is off, with an empty disk and `seed` (path, text) in it.
    pub(crate) fn new(
        place: &Place<'_>,
        network: Cable,
        shares: Vec<Share>,
        seed: &[(&str, String)],
    ) -> io::Result<Self> {
        let directory = place.fleet.join(place.name);
        for part in ["disk", "root", "seed"] {
            fs::create_dir_all(directory.join(part))?;
        }
        for (path, text) in seed {
            let file = directory.join("seed").join(path);
            fs::create_dir_all(file.parent().unwrap_or(&file))?;
            fs::write(file, text)?;
        }
        Ok(Self {
            name: place.name.to_owned(),
            network,
            cgroup: place.cgroup.join(place.name),
            base: place.base.to_owned(),
            shares,
            disk: Disk::make(directory.join("image"), place.disk_mib)?,
            supervisor: Mutex::new(None),
            directory,
        })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.network.address
    }

    /// Switches it on and waits until it is up. Its disk is as it was left.
    ///
    /// # Errors
    /// If it does not come up; with the end of its console.
    pub fn power_on(&self) -> io::Result<()> {
        fs::create_dir_all(&self.cgroup)?;
        let mut command = Command::new("setsid");
        // Its mounts are its own. Those that this machine undoes meanwhile, such as namespaces of networks, are
        // undone for it too.
        command.args(["unshare", "--mount", "--propagation", "slave", "sh", "-c", BOOT, "boot.sh"]);
        command.args([&self.directory, &self.base, &self.cgroup]);
        command.args([&self.name, &self.network.namespace]);
        command
            .args(self.shares.iter().map(|share| format!("--bind-ro={}:{}", share.from.display(), share.at)));
        let console = fs::File::options().create(true).append(true).open(self.console())?;
        command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console).current_dir("/");
        *self.lock() = Some(command.spawn()?);
        self.wait_until_up(None)
    }

    /// Cuts its power: whatever runs on it stops in the middle, and what was not synced is lost.
    ///
    /// # Errors
    /// If it is off, or does not end.
    pub fn cut_power(&self) -> io::Result<()> {
        // First the disk, then the processes: nothing is written by those that outlive others for a moment.
        Disk::cut_power(&self.mount()?)?;
        fs::write(self.cgroup.join("cgroup.kill"), "1")?;
        self.wait_until_off()
    }

    /// Switches it off in order, as `systemctl poweroff` does.
    ///
    /// # Errors
    /// If it does not end.
    pub fn shut_down(&self) -> io::Result<()> {
        self.exec(&["systemctl", "poweroff"])?.expect_code(0)?;
        self.wait_until_off()
    }

    /// Reboots it in order and waits until it is up again.
    ///
    /// # Errors
    /// If it does not come up again.
    pub fn reboot(&self) -> io::Result<()> {
        let before = self.init()?;
        self.exec(&["systemctl", "reboot"])?.expect_code(0)?;
        self.wait_until_up(Some(before))
    }

    /// Fills its disk until `left_bytes` are free, or fills it up again. Nothing on the host owns what fills it.
    ///
    /// # Errors
    /// If it is off, or less is free already.
    pub fn fill_disk(&self, left_bytes: u64) -> io::Result<()> {
        let file = fs::File::options().create(true).append(true).open(self.mount()?.join("ballast"))?;
        // In ever smaller pieces: the last free blocks count too.
        let (mut end, mut piece) = (file.metadata()?.len(), 1 << 30);
        while piece >= 4096 {
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), end, piece) {
                Ok(()) => end += piece,
                Err(rustix::io::Errno::NOSPC) => piece /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        let kept =
            end.checked_sub(left_bytes).ok_or_else(|| io::Error::other("the disk has not so much room"))?;
        file.set_len(kept)?;
        file.sync_all()
    }

    /// Gives its disk back what [`Host::fill_disk`] took.
    ///
    /// # Errors
    /// If it was not filled.
    pub fn free_disk(&self) -> io::Result<()> {
        fs::remove_file(self.mount()?.join("ballast"))
    }

    /// Lets its disk stand still until what this gives is dropped.
    ///
    /// # Errors
    /// If it is off.
    pub fn stall_disk(&self) -> io::Result<Stalled> {
        Disk::stall(&self.mount()?)
    }

    /// Makes its disk slow until what this gives is dropped.
    ///
    /// # Errors
    /// If it is off.
    pub fn slow_disk(&self) -> io::Result<Slow> {
        Disk::slow(&self.mount()?)
    }

    /// How much of this machine's disk its own one takes, in bytes.
    ///
    /// # Errors
    /// If its file is gone.
    pub fn disk_bytes(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt as _;
        Ok(fs::metadata(self.disk.image())?.blocks() * 512)
    }

    /// Whether it has power.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.lock().is_some()
    }

    /// The process id, on this machine, of the host's PID 1.
    ///
    /// # Errors
    /// If it is off, or not that far.
    pub fn init(&self) -> io::Result<u32> {
        let nspawn = self.lock().as_ref().and_then(|supervisor| child_of(supervisor.id()));
        nspawn
            .and_then(child_of)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, format!("{} is off", self.name)))
    }

    /// What its kernel log and PID 1 wrote last.
    #[must_use]
    pub fn console_tail(&self) -> String {
        tail(&self.console(), 20)
    }

    fn console(&self) -> PathBuf {
        self.directory.join("console")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.supervisor.lock().expect("no holder of this lock panics")
    }

    /// Where its disk is mounted, in its own namespace and seen from here.
    fn mount(&self) -> io::Result<PathBuf> {
        let supervisor = self.lock().as_ref().map(Child::id);
        let id = supervisor.ok_or_else(|| io::Error::other(format!("{} is off", self.name)))?;
        let inside = self.directory.join("disk");
        Ok(Path::new("/proc")
            .join(id.to_string())
            .join("root")
            .join(inside.strip_prefix("/").unwrap_or(&inside)))
    }

    fn wait_until_up(&self, before: Option<u32>) -> io::Result<()> {
        let up = || {
            self.init().is_ok_and(|id| {
                Some(id) != before && Path::new(&format!("/proc/{id}/root/run/systemd/private")).exists()
            })
        };
        let said = wait_until(&format!("{} boots", self.name), PATIENCE, up).and_then(|()| {
            let patience = PATIENCE.as_secs().to_string();
            self.exec(&["timeout", &patience, "systemctl", "is-system-running", "--wait"])
        });
        match said {
            // Degraded: some unit has failed, which is the test's affair.
            Ok(said) if ["running", "degraded"].contains(&said.out.trim()) => Ok(()),
            Ok(said) => Err(io::Error::other(format!("{}: {said:?}\n{}", self.name, self.console_tail()))),
            Err(error) => Err(io::Error::other(format!("{error}\n{}", self.console_tail()))),
        }
    }

    fn wait_until_off(&self) -> io::Result<()> {
        let mut slot = self.lock();
        let Some(supervisor) = slot.as_mut() else { return Ok(()) };
        let events = self.cgroup.join("cgroup.events");
        wait_until(&format!("{} is off", self.name), PATIENCE, || {
            supervisor.try_wait().is_ok_and(|ended| ended.is_some())
                && fs::read_to_string(&events).unwrap_or_default().contains("populated 0")
        })?;
        *slot = None;
        remove_groups(&self.cgroup)
    }
}

/// Where a host stands in its fleet.
pub(crate) struct Place<'a> {
    pub name: &'a str,
    pub fleet: &'a Path,
    pub cgroup: &'a Path,
    pub base: &'a Path,
    pub disk_mib: u64,
}

/// Where control groups (v2) are mounted.
///
/// # Errors
/// If they are not.
pub fn cgroups() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let at = words.next()?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(at))
    });
    found.ok_or_else(|| io::Error::other("control groups (v2) are not mounted: `mount -t cgroup2 …`"))
}

fn remove_groups(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// The first child of a process, if it has one.
fn child_of(parent: u32) -> Option<u32> {
    let ids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut children: Vec<u32> = ids.filter(|&id| parent_of(id) == Some(parent)).collect();
    children.sort_unstable();
    children.first().copied()
}

fn parent_of(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name of the program stands in parentheses and may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
