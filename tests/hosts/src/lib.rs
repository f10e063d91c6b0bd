//! Test hosts: systemd as PID 1, a disk, a network and a clock of their own.
//!
//! A test reads like a story: boot a [`fleet::Fleet`], put something on a host, cut its power, look what is
//! there afterwards. It needs root. Nothing of a host is seen by the machine outside of it: its mounts and
//! its network live in namespaces, and all of it ends with the process that booted it, however that one ends.
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! let fleet = landfall_hosts::fleet::Plan::new().host("web-1").boot()?;
//! let web = fleet.host("web-1");
//! web.put("/srv/file", b"kept", 0o644)?;
//! web.sh("sync -f /srv/file")?;
//! web.cut_power()?;
//! web.power_on()?;
//! assert_eq!(web.get("/srv/file")?, b"kept");
//! # Ok(())
//! # }
//! ```

pub mod base;
pub mod clock;
pub mod disk;
pub mod fetched;
pub mod fleet;
pub mod host;
pub mod installed;
pub mod network;
pub mod packages;
pub mod undertaker;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use landfall_e2e::stage::Said;

/// Everything of the test hosts lies below this directory: `target/hosts`.
#[must_use]
pub fn directory() -> PathBuf {
    target().join("hosts")
}

/// The repository.
#[must_use]
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate lies two directories below the repository")
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// Whether hosts can be booted here.
///
/// # Errors
/// What is missing, and what to type.
pub fn can_boot() -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        let message = "hosts with systemd are booted by root only: run `sudo make test`";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    let needed = ["mmdebstrap", "systemd-nspawn", "mkfs.ext4", "ip", "nft"];
    let missing: Vec<_> = needed.into_iter().filter(|program| !in_path(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("not installed: {}; `tests/setup.sh tests` installs them", missing.join(", "));
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).any(|directory| directory.join(program).is_file())
}

/// Runs a command to its end; what it said is the error if it fails.
pub(crate) fn run(program: &str, arguments: &[&str]) -> io::Result<Said> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start {program}: {error}")))?;
    Said::from(output)
        .expect_code(0)
        .map_err(|error| io::Error::other(format!("{program} {}: {error}", arguments.join(" "))))
}
