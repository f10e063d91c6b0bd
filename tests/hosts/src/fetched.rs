//! What a build fetches from the package indexes, fetched before: from the hosts' network no way leads out.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
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
    let mut lists = Vec::new();
    for name in LISTS {
        lists.extend(fs::read(application.join(name))?);
    }
    let home = crate::directory().join("fetched");
    fs::create_dir_all(&home)?;
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    let directory = home.join(Sha256::of(&lists).short());
    let (wheels, cache) = (directory.join("wheels"), directory.join("npm"));
    if !directory.is_dir() {
        let partial = home.join("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        for name in LISTS {
            fs::copy(application.join(name), partial.join(name))?;
        }
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--no-deps"]);
        pip.args(["--require-hashes", "--dest", "wheels", "-r", LISTS[0], "-r", LISTS[1]]);
        Said::from(pip.current_dir(&partial).output()?).expect_code(0)?;
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
        Said::from(npm.current_dir(&partial).output()?).expect_code(0)?;
        fs::remove_dir_all(partial.join("node_modules"))?;
        fs::rename(partial, &directory)?;
    }
    let path = |path: &Path| path.display().to_string();
    Ok([
        ("PIP_NO_INDEX", "1".to_owned()),
        ("PIP_FIND_LINKS", path(&wheels)),
        ("npm_config_cache", path(&cache)),
        ("npm_config_offline", "true".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into())
}
