//! The operator's own copy of the release repository's metadata: what this machine trusts, on its own word.
//!
//! The controller hands out files; whether they are believed is decided here, from the root that `ctl init`
//! made or a token named. Nothing is signed on top of metadata that did not pass.

use std::path::{Path, PathBuf};

use landfall_common::{AppName, ReleaseName, Sha256};
use landfall_trust::metadata::{Root, Targets};
use landfall_trust::policy::{app_role, release_path};
use landfall_trust::{Limits, Lookup, Next, TrustError, TrustedStore, Updater};

use crate::client::Client;
use crate::clock;
use crate::error::Error;
use crate::files::{self, Access};

/// No controller has had more roots than this; where to stop looking for one.
const MAX_ROOTS: u64 = 1000;

/// The trusted copy in a directory.
pub struct Trust {
    directory: PathBuf,
    updater: Updater,
}

/// Whether a directory holds a trusted root.
#[must_use]
pub fn is_initialised(directory: &Path) -> bool {
    directory.join("root.json").is_file()
}

/// The trusted root file itself, raw.
///
/// # Errors
/// [`Error::Missing`].
pub fn root_file(directory: &Path) -> Result<Vec<u8>, Error> {
    files::read(&directory.join("root.json"))?.ok_or_else(no_root)
}

fn no_root() -> Error {
    Error::missing(
        "this machine has no trusted release root",
        "ctl init makes one; where there is one already, get root.json from a colleague: ctl login TOKEN --root FILE",
    )
}

/// Trusts a root from now on.
///
/// # Errors
/// [`Error::Trust`] if it is none, [`Error::Io`].
pub fn initialise(directory: &Path, root: &[u8]) -> Result<(), Error> {
    let store = TrustedStore::initialise(root).map_err(Error::trust("this root cannot be trusted"))?;
    for (name, bytes) in store.files() {
        files::write(&directory.join(name), bytes, Access::Public)?;
    }
    Ok(())
}

/// Trusts the root with this digest, which the controller must have among its roots.
///
/// # Errors
/// [`Error::Answer`] if it has none such.
pub async fn initialise_by_digest(directory: &Path, digest: &Sha256, client: &Client) -> Result<(), Error> {
    for version in 1..=MAX_ROOTS {
        let Some(root) = client.repository_file(&format!("{version}.root.json")).await? else { break };
        if Sha256::of(&root) == *digest {
            return initialise(directory, &root);
        }
    }
    Err(Error::Answer(format!("it has no release root with the digest {digest} that the token names")))
}

fn load(directory: &Path) -> Result<TrustedStore, Error> {
    if !is_initialised(directory) {
        return Err(no_root());
    }
    let mut found = Vec::new();
    for below in ["", "root_history"] {
        let folder = directory.join(below);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::io("read", &folder, source)),
        };
        for entry in entries {
            let path = entry.map_err(|source| Error::io("read", &folder, source))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if path.is_file() {
                let content = std::fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
                found.push((crate::git::join(below, name), content));
            }
        }
    }
    Ok(TrustedStore::from_files(found))
}

impl Trust {
    /// Brings the copy up to date with the controller, verifying every step.
    ///
    /// # Errors
    /// [`Error::Missing`] without a trusted root, [`Error::Trust`] for metadata that does not pass.
    pub async fn refresh(directory: PathBuf, client: &Client) -> Result<Self, Error> {
        let store = load(&directory)?;
        let doing = "the controller's release metadata is refused";
        let updater = Updater::start(store, clock::now(), Limits::default()).map_err(Error::trust(doing))?;
        let mut trust = Self { directory, updater };
        trust.drive(client).await?;
        Ok(trust)
    }

    async fn drive(&mut self, client: &Client) -> Result<(), Error> {
        let refused = || Error::trust("the controller's release metadata is refused");
        loop {
            match self.updater.advance().map_err(refused())? {
                Next::Store { name, bytes } => {
                    files::write(&self.directory.join(&name), &bytes, Access::Public)?;
                }
                Next::Fetch(need) => {
                    let answer = client.repository_file(&need.name).await?;
                    self.updater.feed(answer).map_err(refused())?;
                }
                Next::Ready => return Ok(()),
            }
        }
    }

    /// The trusted root.
    #[must_use]
    pub fn root(&self) -> &Root {
        self.updater.root()
    }

    /// The trusted top-level targets.
    ///
    /// # Errors
    /// [`Error::Trust`]: after a refresh they are always there.
    pub fn targets(&self) -> Result<&Targets, Error> {
        let missing = || TrustError::NotFound { file: "targets.json".to_owned() };
        self.updater
            .targets_role("targets")
            .ok_or_else(|| Error::trust("there are no trusted targets")(missing()))
    }

    /// The trusted metadata of an application's role; none if nobody may sign its releases.
    ///
    /// # Errors
    /// [`Error::Trust`].
    pub async fn application(
        &mut self,
        application: &AppName,
        release: &ReleaseName,
        client: &Client,
    ) -> Result<Option<Targets>, Error> {
        let path = release_path(application, release);
        loop {
            let found = self.updater.find(&path).map_err(Error::trust("the release metadata is refused"))?;
            match found {
                Lookup::Incomplete => self.drive(client).await?,
                Lookup::Found(_) | Lookup::Absent => break,
            }
        }
        Ok(self.updater.targets_role(&app_role(application)).cloned())
    }

    /// Every role with its version and expiry.
    #[must_use]
    pub fn roles(&self) -> Vec<(String, u64, landfall_common::Timestamp)> {
        self.updater.roles()
    }
}
