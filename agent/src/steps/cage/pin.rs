//! What steps are verified against: the release root, the application and the environment of the enrolment, in a
//! file of root's that the agent cannot change.
//!
//! It is written when the agent starts for the first time after its host was enrolled, by the part of its unit
//! that runs as root, before the agent itself has run; from then on it stays. The same part lets the user of steps
//! write below `shared/`.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use landfall_common::disk::Disk;
use landfall_common::{AppName, EnvName, Sha256};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use serde::{Deserialize, Serialize};

use super::Places;
use crate::config::{Config, StepsIn};
use crate::error::AgentError;
use crate::layout;
use crate::trust;

/// A root of a release repository has at most 512 kB.
const MAX_BYTES: u64 = 1024 * 1024;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// What this host runs.
    pub application: AppName,
    /// In which environment.
    pub environment: EnvName,
    /// The root of the release repository, as it was pinned at the enrolment.
    pub root: String,
}

impl Pin {
    /// Reads it, if it is root's alone.
    ///
    /// # Errors
    /// A sentence: it is missing, others may write it, or it is damaged.
    pub fn load(places: &Places) -> Result<Self, String> {
        Self::load_of(places, Uid::ROOT)
    }

    /// The same for another owner than root.
    ///
    /// # Errors
    /// A sentence.
    pub fn load_of(places: &Places, owner: Uid) -> Result<Self, String> {
        let path = places.pin();
        let unusable = |reason: String| {
            format!(
                "what steps are verified against cannot be used: {}: {reason}. As root: `landfall-agent setup-steps`",
                path.display()
            )
        };
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path);
        let file = file.map_err(|error| unusable(error.to_string()))?;
        let meta = file.metadata().map_err(|error| unusable(error.to_string()))?;
        if meta.uid() != owner.as_raw() || meta.mode() & 0o022 != 0 {
            return Err(unusable("somebody else than root may write it".to_owned()));
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| unusable(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))
    }

    /// What the agent was enrolled for.
    fn enrolled(config: &Config) -> Result<Self, AgentError> {
        let (enrolled, disks) = crate::agent::enrolled(config)?;
        let state: &dyn Disk = &*disks.state;
        let root = trust::pinned(state)?;
        let identity = enrolled.identity;
        let root = String::from_utf8(root).map_err(|_| AgentError::Identity {
            file: "trust/root_history".to_owned(),
            reason: "it is no text".to_owned(),
        })?;
        Ok(Self { application: identity.application, environment: identity.environment, root })
    }

    fn save(&self, places: &Places) -> io::Result<()> {
        let (path, temporary) = (places.pin(), places.root.join("pin.new"));
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o644).open(&temporary)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&places.root)?.sync_all()
    }
}

/// Prepares this host for steps in units, as root. Doing it again changes nothing, unless the root is to be
/// replaced by that of another enrolment.
///
/// # Errors
/// [`AgentError`]: the host is not enrolled, or a file cannot be written.
pub fn set_up(config: &Config, places: &Places, replace: bool) -> Result<String, AgentError> {
    if config.steps == StepsIn::Child {
        return Ok(
            "steps run as children of the agent (`steps = \"child\"` in agent.toml): nothing to set up"
                .into(),
        );
    }
    let failed = |what: &str, error: &io::Error| AgentError::Layout(format!("{what}: {error}"));
    let wanted = Pin::enrolled(config)?;
    let digest = Sha256::of(wanted.root.as_bytes()).short();
    let said =
        |what: &str| format!("{what} for {} in {}: root {digest}", wanted.application, wanted.environment);
    match Pin::load(places) {
        Ok(pinned) if pinned == wanted => {
            open_shared(config, places, &pinned.application)
                .map_err(|error| failed("steps cannot be let into shared/", &error))?;
            return Ok(said("steps are verified against what is pinned"));
        }
        Ok(pinned) if !replace => {
            return Err(AgentError::Layout(format!(
                "steps are verified against another enrolment of this host ({} in {}, root {}) than its own ({} in \
                 {}, root {digest}). If it was enrolled anew: `landfall-agent setup-steps --replace`",
                pinned.application,
                pinned.environment,
                Sha256::of(pinned.root.as_bytes()).short(),
                wanted.application,
                wanted.environment,
            )));
        }
        Ok(_) => {}
        Err(_) if !replace && places.pin().exists() => {
            Pin::load(places).map_err(AgentError::Layout)?;
        }
        Err(_) => {}
    }
    wanted.save(places).map_err(|error| failed("the root cannot be pinned", &error))?;
    // What was seen of another root's metadata says nothing of this one's, nor does another controller's lease 7.
    let _ = fs::remove_file(places.seen());
    for directory in [places.requests(), places.results()] {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
    }
    open_shared(config, places, &wanted.application)
        .map_err(|error| failed("steps cannot be let into shared/", &error))?;
    Ok(said("pinned"))
}

/// Lets the group of steps write below `shared/`, and what is made there belong to it.
///
/// The agent's user owns these directories and can put anything in their place at any moment. So each is reached
/// through a descriptor and without following a link, and only one that is that user's own is changed, to what
/// that user could change it to.
fn open_shared(config: &Config, places: &Places, app: &AppName) -> io::Result<()> {
    let requests = fs::metadata(places.requests())?;
    let (owner, group) = (Uid::from_raw(requests.uid()), Gid::from_raw(requests.gid()));
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let app_dir = match rustix::fs::openat(CWD, config.app_dir(app), flags, Mode::empty()) {
        Ok(app_dir) => app_dir,
        // Its administrator makes it, and starts the agent again.
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let found = rustix::fs::fstat(&app_dir)?;
    if found.st_uid != owner.as_raw() {
        return Err(io::Error::other(format!("{} is not the agent's", config.app_dir(app).display())));
    }
    let made = match rustix::fs::mkdirat(&app_dir, layout::SHARED, Mode::from_raw_mode(0o755)) {
        Ok(()) => true,
        Err(rustix::io::Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let shared = rustix::fs::openat(&app_dir, layout::SHARED, flags, Mode::empty())?;
    if made && rustix::fs::Dir::read_from(&shared)?.flatten().all(|entry| is_dots(entry.file_name())) {
        rustix::fs::fchown(&shared, Some(owner), Some(Gid::from_raw(found.st_gid)))?;
    }
    open_one(&shared, owner, group)?;
    // Those that releases name, as far as they are there: what is deeper was made by services or by steps.
    let names = rustix::fs::Dir::read_from(&shared)?.flatten().map(|entry| entry.file_name().to_owned());
    for name in names.filter(|name| !is_dots(name)).collect::<Vec<_>>() {
        if let Ok(inner) = rustix::fs::openat(&shared, &name, flags, Mode::empty()) {
            open_one(&inner, owner, group)?;
        }
    }
    Ok(())
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

fn open_one(directory: &OwnedFd, owner: Uid, group: Gid) -> io::Result<()> {
    let found = rustix::fs::fstat(directory)?;
    let mode = found.st_mode & 0o7777;
    // What its administrator gave to somebody else is theirs to open.
    if found.st_uid != owner.as_raw() || (found.st_gid == group.as_raw() && mode & 0o2070 == 0o2070) {
        return Ok(());
    }
    rustix::fs::fchown(directory, None, Some(group))?;
    rustix::fs::fchmod(directory, Mode::from_raw_mode(mode | 0o2070))?;
    Ok(())
}

/// The group of steps: that of the directory into which requests are put.
pub(super) fn group(requests: &Path) -> io::Result<u32> {
    Ok(fs::metadata(requests)?.gid())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_pin_that_others_may_write_or_that_is_no_file_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let places = Places { root: directory.path().to_owned(), logs: directory.path().join("logs") };
        let own = rustix::process::geteuid();
        assert!(Pin::load_of(&places, own).unwrap_err().contains("setup-steps"));
        let pin = Pin {
            application: AppName::new("shop").unwrap(),
            environment: EnvName::new("production").unwrap(),
            root: "{}".to_owned(),
        };
        pin.save(&places).unwrap();
        assert_eq!(Pin::load_of(&places, own).unwrap(), pin);
        let other = Uid::from_raw(own.as_raw() + 1);
        assert!(Pin::load_of(&places, other).unwrap_err().contains("somebody else than root"));
        fs::set_permissions(places.pin(), fs::Permissions::from_mode(0o664)).unwrap();
        assert!(Pin::load_of(&places, own).unwrap_err().contains("somebody else than root"));
        fs::rename(places.pin(), directory.path().join("mine")).unwrap();
        std::os::unix::fs::symlink(directory.path().join("mine"), places.pin()).unwrap();
        Pin::load_of(&places, own).unwrap_err();
    }
}
