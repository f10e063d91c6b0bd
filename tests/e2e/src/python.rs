//! Python environments and packages for tests, made once below `target/` and reused.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use landfall_common::Sha256;

use crate::stage::Said;

/// The `python` of an environment with the packages of a `requirements.txt`, made below `target` if it is
/// not there yet. Two tests that want the same one wait for each other.
///
/// # Errors
/// If it cannot be made, with what pip said.
pub fn environment(target: &Path, requirements: &Path) -> io::Result<PathBuf> {
    let name = format!("venv-{}", Sha256::of(&fs::read(requirements)?).short());
    let (venv, lock) = (target.join(&name), File::create(target.join(format!("{name}.lock")))?);
    lock.lock()?;
    let (python, done) = (venv.join("bin/python"), venv.join("complete"));
    if !done.exists() {
        let said = Said::from(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).output()?);
        said.expect_code(0)?;
        let mut install = Command::new(&python);
        install
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(requirements);
        Said::from(install.output()?).expect_code(0)?;
        fs::write(done, "")?;
    }
    Ok(python)
}

/// A directory with the packages of a `requirements.txt` as wheels, fetched to `target` if they are not there
/// yet: `PIP_FIND_LINKS` of a build that must not depend on a network.
///
/// # Errors
/// If they cannot be fetched, with what pip said.
pub fn wheels(target: &Path, requirements: &Path) -> io::Result<PathBuf> {
    let name = format!("wheels-{}", Sha256::of(&fs::read(requirements)?).short());
    let (wheels, lock) = (target.join(&name), File::create(target.join(format!("{name}.lock")))?);
    lock.lock()?;
    let done = wheels.join("complete");
    if !done.exists() {
        let mut fetch = Command::new("python3");
        fetch.args([
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
        ]);
        fetch.arg("--wheel-dir").arg(&wheels).arg("-r").arg(requirements);
        Said::from(fetch.output()?).expect_code(0)?;
        fs::write(done, "")?;
    }
    Ok(wheels)
}
