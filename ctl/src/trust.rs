//! The operator's own copy of the release repository's metadata: what this machine trusts, on its own word.
//!
//! The controller hands out files; whether they are believed is decided here, from the root that `ctl init`
//! made or a token named. Nothing is signed on top of metadata that did not pass.

pub mod change;
pub mod draft;
pub mod lifetime;
mod release;
mod review;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landfall_common::Sha256;
use landfall_trust::metadata::{Root, Targets, file_name};
use landfall_trust::policy::POLICY_ROLE;
use landfall_trust::{Limits, Lookup, Next, Signed, TrustError, TrustedStore, Updater};

use crate::client::Client;
use crate::clock;
use crate::error::Error;
use crate::files::{self, Access};
use crate::output::Output;

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

/// How a machine comes to sign releases, in words.
pub const LET_ME_SIGN: &str =
    "ctl trust key release > me.json; then, where the root key is: ctl trust change release --add me.json";

/// Reads a root file that somebody brought.
///
/// # Errors
/// [`Error::Usage`] if there is none, [`Error::Io`].
pub fn read_root(path: &Path) -> Result<Vec<u8>, Error> {
    files::read(path)?.ok_or_else(|| {
        Error::usage(
            format!("there is no file {}", path.display()),
            "it is root.json from the trust directory of a colleague: ctl context show",
        )
    })
}

fn no_root() -> Error {
    Error::missing(
        "this machine has no trusted release root",
        "ctl init, which makes one for a new controller, and says how to get it where there is one already",
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

/// Trusts no root any more.
///
/// # Errors
/// [`Error::Io`].
pub fn forget(directory: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", directory, error))
        }
        _ => Ok(()),
    }
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

/// Everything that is kept in the directory.
///
/// # Errors
/// [`Error::Missing`] without a trusted root, [`Error::Io`].
pub fn load(directory: &Path) -> Result<TrustedStore, Error> {
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

/// What is trusted at one moment: the ground on which a change is made, signed and judged.
#[derive(Debug, Clone)]
pub struct Trusted {
    /// Who may sign what.
    pub root: Root,
    /// Whom root's signers trust further.
    pub targets: Targets,
    /// The roles delegated to, by name.
    pub roles: BTreeMap<String, Targets>,
}

impl Trusted {
    /// What is trusted now; where what the controller hands out is refused, what was trusted last. What mends the
    /// repository would be stuck otherwise: signing anew what has expired, new keys for a controller that was in other
    /// hands. Nothing is lost by it: a next version of something older is refused by whoever has seen the newer.
    ///
    /// # Errors
    /// Those of [`Trust::refresh`] but [`Error::Trust`], and those of [`Trusted::local`].
    pub async fn seen(output: Output, directory: PathBuf, client: &Client) -> Result<Self, Error> {
        let refreshed = match Trust::refresh(directory.clone(), client).await {
            Ok(trust) => trust.all(client).await,
            Err(error) => Err(error),
        };
        match refreshed {
            Err(Error::Trust { source, .. }) => {
                output.note(format!(
                    "the controller's release metadata is refused: {source}\nthis goes by what this machine trusted last"
                ));
                Self::local(&directory)
            }
            other => other,
        }
    }

    /// What this machine trusted last, without asking anybody: for a machine that has no network.
    ///
    /// # Errors
    /// [`Error::Missing`] if it has never seen the metadata, [`Error::Trust`] for a damaged file.
    pub fn local(directory: &Path) -> Result<Self, Error> {
        let store = load(directory)?;
        let damaged = || Error::trust("this machine's copy of the release metadata is damaged");
        let role = |name: &str| match store.get(&file_name(name, None)) {
            Some(bytes) => {
                Signed::<Targets>::read(name, bytes.to_vec()).map(|read| Some(read.body)).map_err(damaged())
            }
            None => Ok(None),
        };
        let root = Signed::<Root>::read("root", root_file(directory)?).map_err(damaged())?.body;
        let targets = role("targets")?.ok_or_else(|| {
            Error::missing(
                "this machine has not seen the release metadata yet",
                "ctl trust show, where the controller is",
            )
        })?;
        let mut roles = BTreeMap::new();
        for delegated in targets.delegations.iter().flat_map(|delegations| &delegations.roles) {
            if let Some(found) = role(&delegated.name)? {
                roles.insert(delegated.name.clone(), found);
            }
        }
        Ok(Self { root, targets, roles })
    }
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

    /// Loads the roles that may speak for a target.
    async fn search(&mut self, path: &str, client: &Client) -> Result<(), Error> {
        loop {
            let found = self.updater.find(path).map_err(Error::trust("the release metadata is refused"))?;
            match found {
                Lookup::Incomplete => self.drive(client).await?,
                Lookup::Found(_) | Lookup::Absent => return Ok(()),
            }
        }
    }

    /// Root, targets and every role that targets delegates to.
    ///
    /// # Errors
    /// [`Error::Trust`] for a role that does not pass.
    pub async fn all(mut self, client: &Client) -> Result<Trusted, Error> {
        let targets = self.targets()?.clone();
        let mut roles = BTreeMap::new();
        for role in targets.delegations.iter().flat_map(|delegations| &delegations.roles) {
            let within = match role.name.strip_prefix("apps/") {
                Some(application) => application,
                None if role.name == POLICY_ROLE => "_policy",
                None => continue,
            };
            // No release can have this name: the search visits the role and finds nothing.
            self.search(&format!("{within}/ "), client).await?;
            if let Some(found) = self.updater.targets_role(&role.name) {
                roles.insert(role.name.clone(), found.clone());
            }
        }
        Ok(Trusted { root: self.root().clone(), targets, roles })
    }

    /// Every role with its version and expiry.
    #[must_use]
    pub fn roles(&self) -> Vec<(String, u64, landfall_common::Timestamp)> {
        self.updater.roles()
    }
}

#[cfg(test)]
mod tests;
