//! The targets roles: files, and delegations to further roles (TUF §4.5).

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{Sha256, Timestamp as Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Hashes, Header, Role, TOP_LEVEL, check_bytes, hashes_of};
use crate::envelope::Authority;
use crate::error::TrustError;
use crate::key::{KeyId, PublicKey};

/// Metadata of the top-level targets role, or of a role delegated to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Targets {
    /// Type, version, expiry.
    #[serde(flatten)]
    pub header: Header,
    /// The files, by target path.
    pub targets: BTreeMap<String, TargetFile>,
    /// Roles that this one trusts further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Delegations>,
    /// Fields unknown here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A file that a role vouches for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetFile {
    /// In bytes.
    pub length: u64,
    /// At least one of a known kind, or the file is never accepted.
    pub hashes: Hashes,
    /// What the application says about the file; signed with the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
    /// Fields unknown here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Whom a targets role trusts further. The order of `roles` is the order of trust.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Delegations {
    /// Every key that a role below uses.
    pub keys: BTreeMap<KeyId, PublicKey>,
    /// The roles, the more trusted first.
    #[serde(default)]
    pub roles: Vec<DelegatedRole>,
    /// Fields unknown here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// One role trusted for some target paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DelegatedRole {
    /// Its name, which is none of the four top-level ones.
    pub name: String,
    /// Ids of keys that are listed beside.
    pub keyids: Vec<KeyId>,
    /// How many distinct ones must sign; at least 1.
    pub threshold: usize,
    /// Whether the search ends with this role for the paths that match.
    pub terminating: bool,
    /// Shell patterns of target paths: `*` and `?`, which match no `/`. Exactly one of this and the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Prefixes of the hexadecimal SHA-256 of target paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hash_prefixes: Option<Vec<String>>,
    /// Fields unknown here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl TargetFile {
    /// Vouches for these bytes with length and SHA-256.
    #[must_use]
    pub fn of(bytes: &[u8], custom: Option<Value>) -> Self {
        Self { length: bytes.len() as u64, hashes: hashes_of(bytes), custom, extra: BTreeMap::new() }
    }

    /// Demands the length and every digest of a known kind (TUF §5.7.2).
    ///
    /// # Errors
    /// [`TrustError::WrongDigest`], [`TrustError::UnknownDigests`].
    pub fn check(&self, what: &str, bytes: &[u8]) -> Result<(), TrustError> {
        check_bytes(what, bytes, Some(self.length), Some(&self.hashes))
    }

    /// The names under which a repository with consistent snapshots may keep the file: `dir/DIGEST.name`, one
    /// for each digest (TUF §6.2). Without consistent snapshots the name is the path itself.
    #[must_use]
    pub fn consistent_names(&self, path: &str) -> Vec<String> {
        let (dir, name) = path.rsplit_once('/').map_or(("", path), |(dir, name)| (dir, name));
        let slash = if path.contains('/') { "/" } else { "" };
        self.hashes.values().map(|digest| format!("{dir}{slash}{digest}.{name}")).collect()
    }
}

impl Targets {
    /// A first version without files or delegations.
    #[must_use]
    pub fn first(expires: Time) -> Self {
        Self {
            header: Header::first("targets", expires),
            targets: BTreeMap::new(),
            delegations: None,
            extra: BTreeMap::new(),
        }
    }

    /// The next version, with the same files and delegations.
    #[must_use]
    pub fn next(&self, expires: Time) -> Self {
        Self { header: self.header.next(expires), ..self.clone() }
    }

    /// Trusts a role for paths matching these patterns, ending the search with it; one of the same name is
    /// replaced in its place, a new one goes last. Keys that nobody uses any more are dropped.
    pub fn delegate(&mut self, name: &str, paths: &[String], keys: &[PublicKey], threshold: usize) {
        let role = DelegatedRole {
            name: name.to_owned(),
            keyids: keys.iter().map(PublicKey::keyid).collect(),
            threshold,
            terminating: true,
            paths: Some(paths.to_vec()),
            path_hash_prefixes: None,
            extra: BTreeMap::new(),
        };
        let delegations = self.delegations.get_or_insert_default();
        delegations.keys.extend(keys.iter().map(|key| (key.keyid(), key.clone())));
        match delegations.roles.iter_mut().find(|old| old.name == name) {
            Some(old) => *old = role,
            None => delegations.roles.push(role),
        }
        let used: BTreeSet<_> = delegations.roles.iter().flat_map(|role| role.keyids.clone()).collect();
        delegations.keys.retain(|id, _| used.contains(id));
    }

    /// Who may sign a role that this one (called `delegator`) delegates to.
    #[must_use]
    pub fn authority<'a>(&'a self, delegator: &'a str, role: &str) -> Option<Authority<'a>> {
        let delegations = self.delegations.as_ref()?;
        let role = delegations.roles.iter().find(|candidate| candidate.name == role)?;
        let (keyids, threshold) = (role.keyids.as_slice(), role.threshold);
        Some(Authority { delegator, keys: &delegations.keys, keyids, threshold })
    }

    /// The roles to ask for this path, in order of trust.
    pub fn roles_for<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a DelegatedRole> {
        self.delegations.iter().flat_map(|delegations| &delegations.roles).filter(|role| role.covers(path))
    }
}

impl DelegatedRole {
    /// Whether the role is trusted for this target path.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        if let Some(patterns) = &self.paths {
            return patterns.iter().any(|pattern| path_matches(pattern, path));
        }
        let digest = Sha256::of(path.as_bytes()).to_string();
        self.path_hash_prefixes
            .iter()
            .flatten()
            .any(|prefix| digest.starts_with(&*prefix.to_ascii_lowercase()))
    }
}

impl Role for Targets {
    const TYPE: &'static str = "targets";

    fn header(&self) -> &Header {
        &self.header
    }

    fn validate(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for role in self.delegations.iter().flat_map(|delegations| &delegations.roles) {
            let name = &role.name;
            if name.is_empty() || TOP_LEVEL.contains(&&**name) {
                return Err(format!("it delegates to {name:?}, which is not a name for a delegated role"));
            }
            if !names.insert(name) {
                return Err(format!("it delegates to {name:?} twice"));
            }
            if role.threshold == 0 {
                return Err(format!("role {name:?} has a threshold of 0"));
            }
            if role.paths.is_some() == role.path_hash_prefixes.is_some() {
                return Err(format!("role {name:?} needs either paths or path_hash_prefixes"));
            }
        }
        Ok(())
    }
}

/// Whether a shell pattern matches a target path: `*` any run of characters and `?` any one, neither a `/`
/// (TUF §4.5, PATHPATTERN). Everything else stands for itself.
#[must_use]
pub fn path_matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if segment_matches(pattern, segment) => {}
            _ => return false,
        }
    }
}

/// Greedy with one point to go back to, so that a hostile pattern costs its length times the text's.
fn segment_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p, t));
                p += 1;
            }
            Some('?') => (p, t) = (p + 1, t + 1),
            Some(c) if *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (p, t) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_specification_says() {
        for (pattern, path, expected) in [
            ("*", "a", true),
            ("*", "a/b", false),
            ("*", "", true),
            ("targets/*.tgz", "targets/foo.tgz", true),
            ("targets/*.tgz", "targets/foo.txt", false),
            ("targets/*.tgz", "targets/a/foo.tgz", false),
            ("foo-version-?.tgz", "foo-version-2.tgz", true),
            ("foo-version-?.tgz", "foo-version-alpha.tgz", false),
            ("a?c", "a/c", false),
            ("?", "é", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxcxxb", false),
            ("**", "anything", true),
            ("README.md", "README.MD", false),
            ("[ab]", "a", false),
            ("/a", "a", false),
            ("shop/*", "shop/v1.4", true),
            ("shop/*", "shop", false),
        ] {
            assert_eq!(path_matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn hash_prefixes_are_of_the_path() {
        let digest = Sha256::of(b"file").to_string();
        let mut role = DelegatedRole {
            name: "bin".to_owned(),
            keyids: Vec::new(),
            threshold: 1,
            terminating: false,
            paths: None,
            path_hash_prefixes: Some(vec![digest[..2].to_owned()]),
            extra: BTreeMap::new(),
        };
        assert!(role.covers("file"));
        role.path_hash_prefixes = Some(vec!["x".to_owned()]);
        assert!(!role.covers("file"));
    }

    #[test]
    fn a_consistent_name_has_the_digest_before_the_file() {
        let file = TargetFile::of(b"", None);
        let digest = Sha256::of(b"");
        assert_eq!(file.consistent_names("a/b/c"), [format!("a/b/{digest}.c")]);
        assert_eq!(file.consistent_names("c"), [format!("{digest}.c")]);
    }
}
