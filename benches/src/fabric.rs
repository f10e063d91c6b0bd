//! The same release done by Fabric, through `benches/peers/fabric_release.py`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::bail;
use landfall_e2e::stage::Said;

use crate::cpu;

/// Fabric in a virtualenv, and an sshd on loopback for it.
pub struct Fabric {
    /// The private key that the sshd takes; the sshd's process id is in `sshd.pid` beside it.
    pub key: String,
    /// Where the sshd listens.
    pub port: String,
    /// The virtualenv's Python.
    pub python: String,
}

impl Fabric {
    /// Wall and CPU time of packing `directory`'s `tree-1` and releasing it to so many hosts. A release of few
    /// changed files costs the same: the whole archive travels.
    ///
    /// # Errors
    /// If a program fails, or has released nothing.
    pub fn release(&self, directory: &Path, hosts: usize) -> anyhow::Result<(Duration, Duration)> {
        let root = tempfile::tempdir_in(directory)?;
        let archive = directory.join("tree-1.tar.gz");
        let mut tar = Command::new("tar");
        tar.arg("-czf").arg(&archive).arg("-C").arg(directory.join("tree-1")).arg(".");
        let before = self.cpu()?;
        let began = Instant::now();
        Said::from(tar.output()?).expect_code(0)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/fabric_release.py");
        let mut command = Command::new(&self.python);
        command.arg(script).arg(&archive).arg("v1").arg(&self.port).arg(&self.key).arg(root.path());
        Said::from(command.arg(hosts.to_string()).output()?).expect_code(0)?;
        let wall = began.elapsed();
        for host in 1..=hosts {
            if !root.path().join(host.to_string()).join("current/package000").is_dir() {
                bail!("Fabric has released nothing to host {host}");
            }
        }
        Ok((wall, self.cpu()?.saturating_sub(before)))
    }

    /// Of the tool, which this process has waited for, and of sshd with its children.
    fn cpu(&self) -> anyhow::Result<Duration> {
        let pid = fs::read_to_string(Path::new(&self.key).with_file_name("sshd.pid"))?;
        Ok(cpu::of(pid.trim().parse()?) + cpu::of(std::process::id()))
    }
}
