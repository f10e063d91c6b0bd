//! What a draft changes, as its next signer is told it before he signs.
//!
//! A signature holds for all of a document, so that what is told must be all that changes. It is not enough to look
//! for differences: what nobody thought of looking at would be signed unseen. Instead the document is made anew, out
//! of what this machine trusts and of the changes that are told, by the same means by which `ctl` makes one; where
//! the draft is not exactly that, it is refused.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::manifest::Manifest;
use landfall_common::{AppName, ReleaseCounter, Timestamp};
use landfall_trust::metadata::{Header, Root, TOP_LEVEL, TargetFile, Targets};
use landfall_trust::policy::{AppPolicy, POLICY_ROLE, ReleaseCustom, app_role, release_path};
use landfall_trust::repository::PublishError;
use landfall_trust::{Authority, Envelope, KeyId, PublicKey};
use serde::Serialize;
use serde_json::Value;

use super::draft::{Draft, short};
use super::{Trusted, lifetime, release};
use crate::error::Error;
use crate::output::format;

impl Draft {
    /// What it changes against what is trusted: a line for each thing, and nothing else.
    ///
    /// # Errors
    /// [`Error::Usage`] for a draft that was overtaken, and for one that changes what no command of `ctl` changes or
    /// what cannot be told in a line; [`Error::Trust`] for one that cannot be read.
    pub fn review(&self, trusted: &Trusted, now: Timestamp) -> Result<Vec<String>, Error> {
        if self.is_empty() {
            return Err(refused("the draft holds nothing that could be signed"));
        }
        let release = self.release.as_ref().map(|release| release.read()).transpose()?;
        if let Some(manifest) = &release {
            let role = app_role(&manifest.application);
            if self.documents().keys().any(|document| *document != role) {
                return Err(refused(format!(
                    "the draft of a release of {0} signs more than {role}",
                    manifest.application
                )));
            }
        }
        let mut lines = Vec::new();
        let mut until = Vec::new();
        for (role, envelope) in self.documents() {
            let header = match role.as_str() {
                "root" => self.review_root(envelope, trusted, &mut lines)?,
                "targets" => self.review_targets(envelope, trusted, &mut lines)?,
                POLICY_ROLE => self.review_policy(envelope, trusted, &mut lines)?,
                _ => self.review_releases(role, envelope, trusted, release.as_ref(), &mut lines)?,
            };
            until.push(expiry(role, &header, now)?);
        }
        lines.extend(until);
        Ok(lines)
    }

    fn review_root(
        &self,
        envelope: &Envelope,
        trusted: &Trusted,
        lines: &mut Vec<String>,
    ) -> Result<Header, Error> {
        let (old, new) = (&trusted.root, self.read_root()?.expect("it is one of the documents"));
        follows("root", old.header.version, &new.header)?;
        let mut expected: Root = old.next(new.header.expires);
        for role in TOP_LEVEL {
            let (before, after) = (old.authority(role), new.authority(role));
            let keys = keys_of(role, &after)?;
            if !is_same(&before, &after) {
                lines.extend(keys_changed(role, Some(&before), &after));
                expected.set_role(role, &keys, after.threshold);
            }
        }
        is_exactly("root", &expected, envelope)?;
        Ok(new.header)
    }

    fn review_targets(
        &self,
        envelope: &Envelope,
        trusted: &Trusted,
        lines: &mut Vec<String>,
    ) -> Result<Header, Error> {
        let (old, new) = (&trusted.targets, self.read("targets")?.expect("it is one of the documents"));
        follows("targets", old.header.version, &new.header)?;
        let mut expected: Targets = old.next(new.header.expires);
        for delegated in new.delegations.iter().flat_map(|delegations| &delegations.roles) {
            let role = &delegated.name;
            let before = old.authority("targets", role);
            let after = new.authority("targets", role).expect("it is one of the delegations");
            let keys = keys_of(role, &after)?;
            if before.as_ref().is_some_and(|before| is_same(before, &after)) {
                continue;
            }
            match application_of(role) {
                Some(application) => expected.delegate_app(&application, &keys, after.threshold),
                None if role == POLICY_ROLE => expected.delegate_policy(&keys, after.threshold),
                None => {
                    return Err(refused(format!(
                        "the draft trusts a role {role:?}, of which ctl knows nothing"
                    )));
                }
            }
            lines.extend(keys_changed(role, before.as_ref(), &after));
            lines.extend(paths_changed(role, old, &expected));
        }
        is_exactly("targets", &expected, envelope)?;
        Ok(new.header)
    }

    fn review_policy(
        &self,
        envelope: &Envelope,
        trusted: &Trusted,
        lines: &mut Vec<String>,
    ) -> Result<Header, Error> {
        let (old, new, mut expected) = self.targets_role(POLICY_ROLE, trusted)?;
        for (path, file) in &new.targets {
            let before = old.and_then(|old| old.targets.get(path));
            let (false, Some(application), Some(floor)) =
                (before == Some(file), floor_path(path), floor_of(file))
            else {
                continue;
            };
            expected
                .set_floor(&application, floor)
                .map_err(|error: PublishError| refused(error.to_string()))?;
            let before = before.and_then(floor_of).unwrap_or_default();
            lines.push(format!(
                "{path}: releases below number {floor} ({}) are refused everywhere, before {before}",
                at_number(trusted, &application, floor)
            ));
        }
        is_exactly(POLICY_ROLE, &expected, envelope)?;
        Ok(new.header)
    }

    /// The list of an application's releases: as it is, or with the release in it whose manifest the draft carries.
    fn review_releases(
        &self,
        role: &str,
        envelope: &Envelope,
        trusted: &Trusted,
        manifest: Option<&Manifest>,
        lines: &mut Vec<String>,
    ) -> Result<Header, Error> {
        if application_of(role).is_none() {
            return Err(refused(format!("the draft holds a role {role:?}, of which ctl knows nothing")));
        }
        let (old, new, mut expected) = self.targets_role(role, trusted)?;
        if let (Some(manifest), Some(draft)) = (manifest, &self.release) {
            let (app, release) = (manifest.application.clone(), manifest.release.clone());
            let listed = expected.releases().into_iter().find(|custom| custom.release == release);
            let is_listed = listed.is_some();
            let custom = listed.unwrap_or_else(|| {
                let counter = ReleaseCounter(expected.highest_counter().0.saturating_add(1));
                ReleaseCustom { app, release, counter, environments: None }
            });
            follows_an_earlier_one(manifest, &custom, &expected)?;
            let added = expected.add_release(draft.manifest.as_bytes(), &custom);
            added.map_err(|error| refused(error.to_string()))?;
            let path = release_path(&custom.app, &custom.release);
            let word = if is_listed { "is listed already" } else { "is listed" };
            let digest = landfall_common::Sha256::of(draft.manifest.as_bytes());
            lines.extend(release::lines(manifest));
            lines.push(format!("{path} {word} as number {}: manifest {digest}", custom.counter));
        } else if let Some(path) =
            new.targets.keys().find(|path| old.is_none_or(|old| !old.targets.contains_key(*path)))
        {
            return Err(refused(format!("the draft lists {path}, and does not hold the manifest of it")));
        }
        is_exactly(role, &expected, envelope)?;
        Ok(new.header)
    }

    /// A delegated role as it is, as the draft has it, and as it is to be without any change.
    fn targets_role<'t>(
        &self,
        role: &str,
        trusted: &'t Trusted,
    ) -> Result<(Option<&'t Targets>, Targets, Targets), Error> {
        let new = self.read(role)?.expect("it is one of the documents");
        let old = trusted.roles.get(role);
        follows(role, old.map_or(0, |old| old.header.version), &new.header)?;
        let expires = new.header.expires;
        let expected = old.map_or_else(|| Targets::first(expires), |old| old.next(expires));
        Ok((old, new, expected))
    }
}

/// What a release says it follows is listed under that number, which is a lower one: hosts go by it.
fn follows_an_earlier_one(
    manifest: &Manifest,
    custom: &ReleaseCustom,
    expected: &Targets,
) -> Result<(), Error> {
    let Some(follows) = &manifest.program.follows else { return Ok(()) };
    let listed = expected.releases().into_iter().find(|listed| listed.release == follows.release);
    let listed = listed.filter(|listed| listed.counter == follows.counter);
    if listed.is_some_and(|listed| listed.counter < custom.counter) {
        return Ok(());
    }
    Err(refused(format!(
        "the draft's release says that it follows {} as number {}, and no earlier release is listed as that",
        follows.release, follows.counter
    )))
}

fn refused(what: impl Into<String>) -> Error {
    Error::usage(
        what,
        "do not sign it; ask the one who made it how it came about, or make it anew with this ctl",
    )
}

/// Demands the next version of what is in force.
fn follows(role: &str, current: u64, header: &Header) -> Result<(), Error> {
    if header.version.checked_sub(1) == Some(current) {
        return Ok(());
    }
    Err(Error::usage(
        format!("the draft holds version {} of {role}, and version {current} is in force", header.version),
        "somebody was faster: make it anew, and have it signed anew",
    ))
}

/// Until when it is in force; nothing is signed for longer than `ctl` signs it.
fn expiry(role: &str, header: &Header, now: Timestamp) -> Result<String, Error> {
    header.check_expiry(role, now).map_err(Error::trust("the draft cannot be used"))?;
    let expires = header.expires;
    if expires > lifetime::latest(role, now) {
        return Err(refused(format!(
            "the draft has {role} in force until {}, and it is signed for {} at most",
            format::time(expires),
            format::duration(lifetime::of(role))
        )));
    }
    Ok(format!(
        "{role}: version {} is in force until {} ({})",
        header.version,
        format::time(expires),
        format::relative(expires, now)
    ))
}

/// Demands the document that was made anew.
fn is_exactly<T: Serialize>(role: &str, expected: &T, envelope: &Envelope) -> Result<(), Error> {
    let expected = Envelope::unsigned(expected).map_err(Error::trust("the metadata cannot be written"))?;
    match difference("", &expected.signed, &envelope.signed) {
        None => Ok(()),
        Some(place) => {
            Err(refused(format!("the draft changes {role} at {place}, which no command of ctl does so")))
        }
    }
}

/// Where two values begin to differ.
fn difference(place: &str, expected: &Value, found: &Value) -> Option<String> {
    let here = || Some(if place.is_empty() { "its top".to_owned() } else { place.to_owned() });
    let below = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
            names.into_iter().find_map(|name| match (expected.get(name), found.get(name)) {
                (Some(expected), Some(found)) => difference(&below(name), expected, found),
                _ => Some(format!("{:?}", below(name))),
            })
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            let mut pairs = expected.iter().zip(found).enumerate();
            pairs.find_map(|(index, (expected, found))| {
                difference(&below(&index.to_string()), expected, found)
            })
        }
        _ if expected == found => None,
        _ => here(),
    }
}

fn is_same(before: &Authority<'_>, after: &Authority<'_>) -> bool {
    let keys = |authority: &Authority<'_>| -> BTreeMap<KeyId, Option<PublicKey>> {
        authority.keyids.iter().map(|id| (id.clone(), authority.keys.get(id).cloned())).collect()
    };
    before.threshold == after.threshold && keys(before) == keys(after)
}

/// The keys of a role in the draft. TUF lets metadata call a key by any id; here the id is what people compare, and
/// so it must be the key's own.
fn keys_of(role: &str, authority: &Authority<'_>) -> Result<Vec<PublicKey>, Error> {
    let mut keys = Vec::new();
    let mut identities = BTreeSet::new();
    for id in authority.keyids {
        let key = authority.keys.get(id).filter(|key| key.keyid() == *id);
        let key = key.ok_or_else(|| {
            refused(format!("{role}: what the draft calls key {} is another key", short(id)))
        })?;
        let identity =
            key.identity().ok_or_else(|| refused(format!("{role}: key {} can sign nothing", short(id))))?;
        if !identities.insert(identity) {
            return Err(refused(format!("{role}: key {} is there twice, under two ids", short(id))));
        }
        keys.push(key.clone());
    }
    if authority.threshold == 0 || authority.threshold > keys.len() {
        let (threshold, keys) = (authority.threshold, keys.len());
        return Err(refused(format!("{role}: {threshold} of {keys} key(s) could never be met")));
    }
    Ok(keys)
}

fn keys_changed(role: &str, old: Option<&Authority<'_>>, new: &Authority<'_>) -> Vec<String> {
    let ids = |authority: &Authority<'_>| -> BTreeSet<KeyId> { authority.keyids.iter().cloned().collect() };
    let (before, after) = (old.map(ids).unwrap_or_default(), ids(new));
    let mut lines = Vec::new();
    // Whole ids of new keys: a key with the same first digits can be made.
    lines.extend(after.difference(&before).map(|id| format!("{role}: key {id} may sign")));
    lines.extend(before.difference(&after).map(|id| format!("{role}: key {} may no longer sign", short(id))));
    let threshold = old.map_or(0, |old| old.threshold);
    if threshold != new.threshold || before.len() != after.len() {
        lines.push(format!(
            "{role}: {} of {} key(s) must sign, before {threshold} of {}",
            new.threshold,
            after.len(),
            before.len()
        ));
    }
    lines
}

/// A role that was trusted for something else before, or not at all.
fn paths_changed(role: &str, old: &Targets, expected: &Targets) -> Option<String> {
    let rule = |targets: &Targets| {
        let found = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
        let found = found.into_iter().find(|delegated| delegated.name == *role)?.clone();
        Some((found.terminating, found.paths, found.path_hash_prefixes, found.extra))
    };
    let after = rule(expected)?;
    if rule(old).as_ref() == Some(&after) {
        return None;
    }
    Some(format!("{role} is trusted for {}", after.1.unwrap_or_default().join(", ")))
}

fn application_of(role: &str) -> Option<AppName> {
    AppName::new(role.strip_prefix("apps/")?).ok()
}

fn floor_path(path: &str) -> Option<AppName> {
    AppName::new(path.strip_prefix("_policy/")?).ok()
}

fn floor_of(file: &TargetFile) -> Option<ReleaseCounter> {
    serde_json::from_value::<AppPolicy>(file.custom.clone()?).ok().map(|policy| policy.min_release_counter)
}

/// The release that a floor is at.
fn at_number(trusted: &Trusted, application: &AppName, floor: ReleaseCounter) -> String {
    let releases = trusted.roles.get(&app_role(application)).map(Targets::releases).unwrap_or_default();
    match releases.iter().find(|custom| custom.counter == floor) {
        Some(custom) => custom.release.to_string(),
        None if releases.iter().all(|custom| custom.counter < floor) => "ALL that are listed".to_owned(),
        None => "no release has it".to_owned(),
    }
}
