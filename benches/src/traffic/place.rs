//! Where it is measured: the same application twice, once as Landfall releases it and once as an operator does by hand.

pub mod containers;
pub mod server;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use landfall_e2e::stage::Said;
use landfall_e2e::{python, recipe};

/// The application: what `landfall.toml` is left out of.
const APPLICATION: [(&str, &str); 3] = [
    ("app.py", include_str!("../../traffic/app.py")),
    ("gunicorn.conf.py", include_str!("../../traffic/gunicorn.conf.py")),
    ("usr2.sh", include_str!("../../traffic/usr2.sh")),
];

/// What others type and run.
const PEERS: [(&str, &str); 4] = [
    ("by_hand.sh", include_str!("../../peers/traffic/by_hand.sh")),
    ("capistrano_like.sh", include_str!("../../peers/traffic/capistrano_like.sh")),
    ("slots.sh", include_str!("../../peers/traffic/slots.sh")),
    ("docker.sh", include_str!("../../peers/traffic/docker.sh")),
];

/// How nice the work of other machines is.
const ASIDE: &str = "-10";

/// What serves both, and lets the release of either be changed.
pub trait Place {
    /// Releases the next one with `ctl`, at the priority of other machines' work, and gives its name.
    ///
    /// # Errors
    /// What `ctl` said.
    fn release(&mut self) -> anyhow::Result<String>;

    /// Runs one of the scripts in `peers/traffic` on the server, and gives the name of the release.
    ///
    /// # Errors
    /// What it said.
    fn by_hand(&mut self, script: &str, restart: &str) -> anyhow::Result<String>;

    /// Where a port of the server is.
    fn address(&self, port: u16) -> String;
}

/// Gunicorn, as a directory for `PYTHONPATH`.
fn packages() -> anyhow::Result<PathBuf> {
    let target = landfall_hosts::directory();
    std::fs::create_dir_all(&target)?;
    let list = recipe::shown("gunicorn")?.into_iter().find(|file| file.name == "requirements.txt");
    let list = list.context("docs/recipes/gunicorn.md shows its requirements.txt")?;
    let (requirements, packages) = (target.join("gunicorn.txt"), target.join("gunicorn"));
    std::fs::write(&requirements, list.text)?;
    if !packages.is_dir() {
        let wheels = python::wheels(&target, &requirements)?;
        let partial = target.join("gunicorn.partial");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-compile", "--no-index", "--find-links"])
            .arg(wheels);
        pip.arg("--target").arg(&partial).arg("-r").arg(&requirements);
        Said::from(pip.output()?).expect_code(0)?;
        std::fs::rename(partial, &packages)?;
    }
    Ok(packages)
}

/// Gives a process with all of its threads the priority of other machines' work: below what is measured, and above what
/// else runs here, so that it is not kept from answering at all.
fn put_aside(id: &str) -> std::io::Result<()> {
    // One that has ended meanwhile needs none.
    Command::new("chrt").args(["--all-tasks", "--other", "--pid", "0", id]).output()?;
    for task in std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
        Command::new("renice").args(["--priority", ASIDE, "--pid"]).arg(task.file_name()).output()?;
    }
    Ok(())
}
