//! What a build fetches from the package indexes, fetched before: from the hosts' network no way leads out.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use landfall_common::Sha256;
use landfall_e2e::stage::Said;

/// What says which packages there are to be.
const LISTS: [&str; 4] = ["requirements.txt", "requirements-build.txt", "package.json", "package-lock.json"];

/// The environment in which the builds of the Django application in this directory find their packages here.
///
/// # Errors
/// What pip or npm said.
pub fn of_django(application: &Path) -> io::Result<BTreeMap<String, String>> {
    let lists = LISTS.map(|name| application.join(name));
    let directory = fetched(&lists, |partial| {
        for (name, list) in LISTS.iter().zip(&lists) {
            fs::copy(list, partial.join(name))?;
        }
        download(partial, "python3", &["--only-binary", ":all:", "-r", LISTS[0], "-r", LISTS[1]])?;
        let mut npm = Command::new("npm");
        npm.args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel",
            "error",
            "--cache",
            "npm",
        ]);
        Said::from(npm.current_dir(partial).output()?).expect_code(0)?;
        fs::remove_dir_all(partial.join("node_modules"))
    })?;
    let npm = [
        ("npm_config_cache", directory.join("npm").display().to_string()),
        ("npm_config_offline", "true".to_owned()),
    ];
    let npm = npm.map(|(name, value)| (name.to_owned(), value));
    Ok(offline(&directory).into_iter().chain(npm).collect())
}

/// The environment in which the builds of `examples/ephios` find the packages of both its versions here.
///
/// # Errors
/// What pip said.
pub fn of_ephios() -> io::Result<BTreeMap<String, String>> {
    let example = crate::repository().join("examples/ephios");
    let lists = ["requirements-build.txt", "requirements/0.26.1.txt", "requirements/0.27.1.txt"];
    of_lists("python3.11", &lists.map(|list| example.join(list)))
}

/// The environment in which pip finds what each of these lists names here, for this Python; what is published as
/// source only, as source.
///
/// # Errors
/// What pip said.
fn of_lists(python: &str, lists: &[PathBuf]) -> io::Result<BTreeMap<String, String>> {
    let directory = fetched(lists, |partial| {
        lists.iter().try_for_each(|list| {
            download(partial, python, &["--prefer-binary", "-r", &list.display().to_string()])
        })
    })?;
    Ok(offline(&directory).into())
}

/// The directory that `fetch` has filled for these lists; done once for each content of them.
fn fetched(lists: &[PathBuf], fetch: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    let mut content = Vec::new();
    for list in lists {
        content.extend(fs::read(list)?);
    }
    let home = crate::directory().join("fetched");
    fs::create_dir_all(&home)?;
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    let directory = home.join(Sha256::of(&content).short());
    if !directory.is_dir() {
        let partial = home.join("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        fetch(&partial)?;
        fs::rename(partial, &directory)?;
    }
    Ok(directory)
}

/// `pip download` into `wheels` below a directory, checked against the hashes of the lists.
fn download(directory: &Path, python: &str, arguments: &[&str]) -> io::Result<()> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--require-hashes", "--dest", "wheels"]).args(arguments);
    Said::from(pip.current_dir(directory).output()?).expect_code(0).map(|_| ())
}

/// What keeps pip to the packages in a directory.
fn offline(directory: &Path) -> [(String, String); 2] {
    let wheels = directory.join("wheels").display().to_string();
    [("PIP_NO_INDEX".to_owned(), "1".to_owned()), ("PIP_FIND_LINKS".to_owned(), wheels)]
}
