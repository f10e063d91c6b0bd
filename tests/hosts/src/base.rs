//! The base of all hosts: a small Debian, made once from packages and kept below `target/hosts`.
//!
//! Hosts only ever read it. Its name is a digest of its recipe, so that a changed recipe makes a new one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use landfall_common::Sha256;
use landfall_e2e::process::tail;

/// The same Debian as the machines on which the programs under test are built: they are linked with its libc.
const SUITE: &str = "bookworm";

/// What real servers of the field run. Nothing of it starts by itself.
const PACKAGES: &[&str] = &[
    "curl",
    "dbus",
    "haproxy",
    "iproute2",
    "libpam-systemd",
    "nginx-light",
    "openssh-server",
    "polkitd",
    "postgresql",
    "procps",
    "python3",
    "sudo",
    "supervisor",
    "systemd",
    "systemd-sysv",
];

const RECIPE: &str = include_str!("base/make.sh");

/// Where packages come from, if the machine's own apt does not tell.
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// The root directory of the base, made if it is not there yet. Processes that want it wait for each other.
///
/// # Errors
/// If it cannot be made, with the end of what was said.
pub fn ensure() -> io::Result<PathBuf> {
    crate::can_boot()?;
    let home = crate::directory();
    fs::create_dir_all(&home)?;
    let recipe = format!("{SUITE}\n{}\n{RECIPE}", PACKAGES.join(" "));
    let base = home.join(format!("base-{}", Sha256::of(recipe.as_bytes()).short()));
    let lock = File::create(home.join("base.lock"))?;
    lock.lock()?;
    if !base.is_dir() {
        remove_all(&home)?;
        make(&base, &home.join("base.log"))?;
    }
    Ok(base)
}

/// Older bases, and those that were not finished.
fn remove_all(home: &Path) -> io::Result<()> {
    for entry in fs::read_dir(home)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("base-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn make(base: &Path, log: &Path) -> io::Result<()> {
    let _ = writeln!(io::stderr(), "Making the base of the test hosts, once; it takes some minutes");
    let partial = base.with_extension("partial");
    let file = File::create(log)?;
    let status = Command::new("sh")
        .args(["-c", RECIPE, "make.sh"])
        .arg(&partial)
        .args([SUITE, &mirror(), &PACKAGES.join(",")])
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()?;
    if !status.success() {
        let message = format!("cannot make the base of the test hosts ({status}):\n{}", tail(log, 20));
        return Err(io::Error::other(message));
    }
    fs::rename(&partial, base)
}

/// The machine's own mirror: what reaches it will reach the hosts' packages too.
fn mirror() -> String {
    let targets = Command::new("apt-get")
        .args(["indextargets", "--format", "$(CODENAME) $(ORIGIN) $(REPO_URI)"])
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let own = format!("{SUITE} Debian ");
    targets.lines().find_map(|line| line.strip_prefix(&own)).unwrap_or(DEFAULT_MIRROR).to_owned()
}
