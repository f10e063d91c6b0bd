//! Metadata on its way from signer to signer: a file to which each adds a signature, until there are enough.
//!
//! Whoever signs looks at what changes against what his own machine trusts, and never at what somebody wrote
//! beside it: there is nothing beside it. What he is shown is made in [`review`](super::review).

use std::collections::{BTreeMap, BTreeSet};

use landfall_trust::metadata::{Root, TOP_LEVEL, Targets};
use landfall_trust::{Authority, Envelope, KeyId, KeyPair, PublicKey, Signed};
use serde::{Deserialize, Serialize};

use super::Trusted;
use crate::error::Error;

/// The form of the file.
const FORMAT: u32 = 1;

/// Metadata to be signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    format: u32,
    /// By role: `root`, `targets`, `policy`, `apps/shop`.
    documents: BTreeMap<String, Envelope>,
    /// Where it publishes a release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<DraftRelease>,
}

/// A release that a draft publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftRelease {
    /// Its manifest: canonical JSON, whose digest the role's metadata lists.
    pub manifest: String,
    /// What changed, for people. Not signed.
    pub notes: String,
}

/// The content of a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Of `root`.
    Root(Box<Root>),
    /// Of every other.
    Targets(Targets),
}

/// Signatures that a document lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lack {
    /// The role.
    pub role: String,
    /// How many more keys must sign.
    pub count: usize,
    /// Those that may and have not.
    pub keys: Vec<String>,
}

impl Default for Draft {
    fn default() -> Self {
        Self { format: FORMAT, documents: BTreeMap::new(), release: None }
    }
}

impl Draft {
    /// One that publishes a release.
    #[must_use]
    pub fn of_release(release: DraftRelease) -> Self {
        Self { release: Some(release), ..Self::default() }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let draft: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if draft.format != FORMAT {
            return Err(format!("it is of form {}, and this ctl knows {FORMAT}", draft.format));
        }
        Ok(draft)
    }

    /// The file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain data with text keys");
        bytes.push(b'\n');
        bytes
    }

    /// Adds a document without signatures.
    ///
    /// # Errors
    /// [`Error::Trust`] if it cannot be written.
    pub fn put(&mut self, role: &str, body: &Body) -> Result<(), Error> {
        let envelope = match body {
            Body::Root(root) => Envelope::unsigned(&**root),
            Body::Targets(targets) => Envelope::unsigned(targets),
        };
        let envelope = envelope.map_err(Error::trust("the metadata cannot be written"))?;
        self.documents.insert(role.to_owned(), envelope);
        Ok(())
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// A document as it is published.
    #[must_use]
    pub fn bytes(&self, role: &str) -> Option<Vec<u8>> {
        self.documents.get(role).map(Envelope::to_bytes)
    }

    /// The delegated roles, as they are published.
    #[must_use]
    pub fn roles(&self) -> BTreeMap<String, Vec<u8>> {
        let delegated = self.documents.iter().filter(|(role, _)| !TOP_LEVEL.contains(&&***role));
        delegated.map(|(role, envelope)| (role.clone(), envelope.to_bytes())).collect()
    }

    /// The documents, by role.
    pub(super) fn documents(&self) -> &BTreeMap<String, Envelope> {
        &self.documents
    }

    pub(super) fn read_root(&self) -> Result<Option<Root>, Error> {
        let read = |envelope: &Envelope| Signed::<Root>::read("root", envelope.to_bytes());
        let root = self.documents.get("root").map(read).transpose();
        Ok(root.map_err(Error::trust("the draft cannot be used"))?.map(|signed| signed.body))
    }

    pub(super) fn read(&self, role: &str) -> Result<Option<Targets>, Error> {
        let read = |envelope: &Envelope| Signed::<Targets>::read(role, envelope.to_bytes());
        let targets = self.documents.get(role).map(read).transpose();
        Ok(targets.map_err(Error::trust("the draft cannot be used"))?.map(|signed| signed.body))
    }

    /// Adds the signatures of those keys that may sign; returns the roles that were signed.
    ///
    /// # Errors
    /// [`Error::Trust`] for a document that cannot be read.
    pub fn sign(&mut self, trusted: &Trusted, pairs: &[KeyPair]) -> Result<Vec<String>, Error> {
        let ground = Ground::of(self)?;
        let mut signed = Vec::new();
        for (role, envelope) in &mut self.documents {
            let authorities = ground.authorities(role, trusted);
            for pair in pairs {
                let may = authorities.iter().any(|authority| authority.keyids.contains(pair.keyid()));
                if may {
                    envelope.sign(pair).map_err(Error::trust("the draft cannot be signed"))?;
                    signed.push(role.clone());
                }
            }
        }
        signed.dedup();
        Ok(signed)
    }

    /// What must still be signed.
    ///
    /// # Errors
    /// [`Error::Trust`] for a document that cannot be read, or with a signature that stands twice.
    pub fn lacks(&self, trusted: &Trusted) -> Result<Vec<Lack>, Error> {
        let ground = Ground::of(self)?;
        let mut lacks = Vec::new();
        for (role, envelope) in &self.documents {
            for authority in ground.authorities(role, trusted) {
                let count = envelope.missing(&authority).map_err(Error::trust("the draft cannot be used"))?;
                if count > 0 {
                    let signed: BTreeSet<&KeyId> = envelope.signatures.iter().map(|s| &s.keyid).collect();
                    let keys = authority.keyids.iter().filter(|id| !signed.contains(id));
                    let keys = keys.map(ToString::to_string).collect();
                    lacks.push(Lack { role: role.clone(), count, keys });
                }
            }
        }
        lacks.dedup();
        Ok(lacks)
    }
}

/// The roots and targets that decide who may sign, once the draft is published.
struct Ground {
    root: Option<Root>,
    targets: Option<Targets>,
}

impl Ground {
    fn of(draft: &Draft) -> Result<Self, Error> {
        Ok(Self { root: draft.read_root()?, targets: draft.read("targets")? })
    }

    /// Each of these must be met: a new root takes the old keys and its own (TUF §5.3.4).
    fn authorities<'a>(&'a self, role: &'a str, trusted: &'a Trusted) -> Vec<Authority<'a>> {
        let root = self.root.as_ref().unwrap_or(&trusted.root);
        match role {
            "root" => vec![trusted.root.authority("root"), root.authority("root")],
            "targets" => vec![root.authority("targets")],
            _ => {
                let targets = self.targets.as_ref().unwrap_or(&trusted.targets);
                targets.authority("targets", role).into_iter().collect()
            }
        }
    }
}

/// The first digits of a key's id, enough for people to tell keys apart.
#[must_use]
pub fn short(id: &KeyId) -> &str {
    id.0.get(..12).unwrap_or(&id.0)
}

/// Reads a public key, as `ctl trust key` shows it.
///
/// # Errors
/// Why it is none.
pub fn public_key(text: &str) -> Result<PublicKey, String> {
    let key: PublicKey = serde_json::from_str(text.trim()).map_err(|error| error.to_string())?;
    key.identity().map(|_| key).ok_or_else(|| "it is of a kind that cannot be used".to_owned())
}
