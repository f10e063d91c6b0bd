//! The Debian packages and the tarball of the programs under test, made by the scripts that make those of a release.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use landfall_common::Sha256;
use landfall_e2e::stage::Said;

/// What goes into packages beside the contents of `deploy/`.
const PROGRAMS: [&str; 4] = ["ctl", "landfall-agent", "landfall-controller", "landfall-man"];

/// The programs that were built last for the tests.
#[must_use]
pub fn programs() -> PathBuf {
    crate::target().join("debug")
}

/// A directory with the three packages and the tarball of this version, made of what was built last.
///
/// # Errors
/// If a program was not built, or what cargo-deb or tar said.
pub fn ensure(version: &str) -> io::Result<PathBuf> {
    let home = crate::directory().join("packages");
    fs::create_dir_all(&home)?;
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    let directory = home.join(format!("{}-{version}", contents()?.short()));
    if !directory.is_dir() {
        remove_older(&home, version)?;
        let partial = home.join("partial");
        make("build.sh", version, &partial)?;
        make("tarball.sh", version, &partial)?;
        fs::rename(partial, &directory)?;
    }
    Ok(directory)
}

/// Packs what was built last into a tarball of this version in this directory, and gives its path.
///
/// # Errors
/// What tar said.
pub fn tarball(version: &str, into: &Path) -> io::Result<PathBuf> {
    let said = make("tarball.sh", version, into)?;
    Ok(PathBuf::from(said.out.trim()))
}

fn make(script: &str, version: &str, into: &Path) -> io::Result<Said> {
    let script = crate::repository().join("deploy/packages").join(script);
    Said::from(Command::new(script).args(["dev", version]).arg(into).output()?).expect_code(0)
}

/// A digest that changes with anything that goes into a package.
fn contents() -> io::Result<Sha256> {
    let mut text = String::new();
    let mut files: Vec<_> = PROGRAMS.iter().map(|name| programs().join(name)).collect();
    files_below(&crate::repository().join("deploy"), &mut files)?;
    for file in files {
        let metadata = fs::metadata(&file).map_err(|error| {
            io::Error::other(format!("{}: {error}: run `cargo build --workspace --bins`", file.display()))
        })?;
        let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        text.push_str(&format!("{} {} {changed:?}\n", file.display(), metadata.len()));
    }
    Ok(Sha256::of(text.as_bytes()))
}

fn files_below(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { files_below(&path, files)? } else { files.push(path) }
    }
    files.sort();
    Ok(())
}

fn remove_older(home: &Path, version: &str) -> io::Result<()> {
    let (own, partial) = (format!("-{version}"), "partial".to_owned());
    for entry in fs::read_dir(home)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(&own) || name == partial {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
