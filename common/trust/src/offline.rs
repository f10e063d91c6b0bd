//! Whether a release is signed, without a repository to ask and without a clock: what a program needs that
//! verifies for itself what another has already accepted.
//!
//! Only what never runs out is asked: who signed. From the pinned root along the roots that follow it, the
//! top-level targets, the application's role and the signed floor are each held against the threshold of whoever
//! delegates to them. Timestamp, snapshot and every expiry gate the acceptance of news, which is the
//! [`Updater`](crate::Updater)'s affair. Instead of them the caller keeps what it has [`Seen`]: none of the roles
//! may go back, unless a newer root takes a key from the snapshot role, by which signers let clients recover
//! (TUF 1.0.34 §5.3.11), here as there.

use std::collections::BTreeMap;

use landfall_common::{AppName, EnvName, ReleaseName, Sha256};

use crate::envelope::Signed;
use crate::error::TrustError;
use crate::metadata::{Root, Targets, file_name};
use crate::policy::{
    AppPolicy, POLICY_ROLE, PolicyError, accept_target, app_role, policy_path, release_path,
};
use crate::store::{Floor, TrustedStore, root_history};
use crate::updater::Target;

/// So many roots are followed: as many as a client follows in one refresh.
const MAX_ROOTS: u32 = 256;

/// The newest version of each role that was vouched for, by its name.
pub type Seen = BTreeMap<String, Floor>;

/// Why a release is not vouched for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotVouched {
    /// The metadata does not hold.
    #[error("the release metadata is not trusted")]
    Trust(#[from] TrustError),
    /// The signers do not list it.
    #[error("the release signers of {app} list no release {release}")]
    Unlisted {
        /// The application.
        app: AppName,
        /// The release.
        release: ReleaseName,
    },
    /// They do, but not for this host.
    #[error("the release is not for this host")]
    Policy(#[from] PolicyError),
}

/// A release that is vouched for.
#[derive(Debug, Clone, PartialEq)]
pub struct Vouched {
    /// Its manifest's length and digests; [`Target::check`] holds the manifest against them.
    pub target: Target,
    /// What to keep: the next call must be given it.
    pub seen: Seen,
}

/// Demands that the signers of an application vouch for a release on a host of this environment. `store` holds
/// the files of a client under their names there; nothing in it is believed unless it follows from `root`.
///
/// # Errors
/// [`NotVouched`].
pub fn vouch(
    root: &[u8],
    store: &TrustedStore,
    seen: &Seen,
    app: &AppName,
    env: &EnvName,
    release: &ReleaseName,
) -> Result<Vouched, NotVouched> {
    let mut seen = seen.clone();
    let root = newest_root(root, store, &mut seen)?;
    let targets = read::<Targets>(store, "targets", &mut seen, |targets| {
        targets.envelope.verify("targets", &root.body.authority("targets"))
    })?;
    let mut delegated = |role: &str, path: &str| -> Result<Option<Target>, TrustError> {
        let trusted = targets.body.roles_for(path).any(|delegated| delegated.name == role);
        let Some(authority) = targets.body.authority("targets", role).filter(|_| trusted) else {
            return Ok(None);
        };
        let signed =
            read::<Targets>(store, role, &mut seen, |signed| signed.envelope.verify(role, &authority))?;
        let file = signed.body.targets.get(path).cloned();
        Ok(file.map(|file| Target { path: path.to_owned(), role: role.to_owned(), file }))
    };
    let policy = delegated(POLICY_ROLE, &policy_path(app))?;
    let floor = AppPolicy::of(policy.as_ref())?.min_release_counter;
    let target = delegated(&app_role(app), &release_path(app, release))?;
    let target = target.ok_or_else(|| NotVouched::Unlisted { app: app.clone(), release: release.clone() })?;
    accept_target(&target, floor, app, env)?;
    Ok(Vouched { target, seen })
}

/// Follows the roots that are in the store, each signed by the one before and by itself.
fn newest_root(pinned: &[u8], store: &TrustedStore, seen: &mut Seen) -> Result<Signed<Root>, TrustError> {
    let mut root = Signed::<Root>::read("root", pinned.to_vec())?;
    root.envelope.verify("root", &root.body.authority("root"))?;
    let newest_seen = seen.get("root").map_or(root.version(), |floor| floor.version);
    for _ in 0..MAX_ROOTS {
        let next = root.version() + 1;
        let Some(bytes) = store.get(&root_history(next)) else { break };
        let newer = Signed::<Root>::read("root", bytes.to_vec())?;
        newer.envelope.verify("root", &root.body.authority("root"))?;
        newer.envelope.verify("root", &newer.body.authority("root"))?;
        if newer.version() != next {
            let (what, offered) = ("root".to_owned(), newer.version());
            return Err(TrustError::WrongVersion { what, offered, expected: next });
        }
        if next > newest_seen && root.body.loses_key(&newer.body, "snapshot") {
            seen.retain(|role, _| role == "root");
        }
        root = newer;
    }
    let digest = root.envelope.digest("root")?;
    note(seen, "root", root.version(), digest)?;
    Ok(root)
}

fn read<T: crate::metadata::Role>(
    store: &TrustedStore,
    role: &str,
    seen: &mut Seen,
    verify: impl FnOnce(&Signed<T>) -> Result<(), TrustError>,
) -> Result<Signed<T>, TrustError> {
    let name = file_name(role, None);
    let bytes = store.get(&name).ok_or(TrustError::NotFound { file: name })?;
    let signed = Signed::<T>::read(role, bytes.to_vec())?;
    verify(&signed)?;
    let digest = signed.envelope.digest(role)?;
    note(seen, role, signed.version(), digest)?;
    Ok(signed)
}

/// Refuses a version below the one seen, or the same with other content.
fn note(seen: &mut Seen, role: &str, version: u64, digest: Sha256) -> Result<(), TrustError> {
    let floor = seen.get(role).copied();
    crate::updater::check_floor(role, floor, version, digest)?;
    seen.insert(role.to_owned(), Floor { version, digest: Some(digest) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use landfall_common::{ReleaseCounter, Timestamp};
    use serde::Serialize;

    use super::*;
    use crate::metadata::TOP_LEVEL;
    use crate::policy::ReleaseCustom;
    use crate::{Envelope, KeyPair};

    const MANIFEST: &[u8] = b"the manifest";

    struct Signers {
        root: KeyPair,
        release: KeyPair,
    }

    /// All of it expired long ago: expiry must not matter here.
    fn expired() -> Timestamp {
        Timestamp::from_ms(1_000)
    }

    impl Signers {
        fn new() -> Self {
            let pair = |seed| KeyPair::from_seed(&[seed; 32]).unwrap();
            Self { root: pair(1), release: pair(2) }
        }

        fn root(&self) -> Vec<u8> {
            let mut root = Root::first(expired());
            for role in TOP_LEVEL {
                root.set_role(role, &[self.root.public().clone()], 1);
            }
            self.sign(&root, &[&self.root])
        }

        fn next_root(&self, key: &KeyPair) -> Vec<u8> {
            let mut root = Signed::<Root>::read("root", self.root()).unwrap().body.next(expired());
            for role in TOP_LEVEL {
                root.set_role(role, &[key.public().clone()], 1);
            }
            self.sign(&root, &[&self.root, key])
        }

        fn sign(&self, body: &impl Serialize, keys: &[&KeyPair]) -> Vec<u8> {
            let mut envelope = Envelope::unsigned(body).unwrap();
            for key in keys {
                envelope.sign(key).unwrap();
            }
            envelope.to_bytes()
        }

        fn store(&self, floor: u64) -> TrustedStore {
            let (app, mut targets) = (app(), Targets::first(expired()));
            targets.delegate_policy(&[self.root.public().clone()], 1);
            targets.delegate_app(&app, &[self.release.public().clone()], 1);
            let mut policy = Targets::first(expired());
            policy.set_floor(&app, ReleaseCounter(floor)).unwrap();
            let mut store = TrustedStore::default();
            store.put("targets.json", self.sign(&targets, &[&self.root]));
            store.put("policy.json", self.sign(&policy, &[&self.root]));
            store.put(file_name(&app_role(&app), None), self.releases(&self.release, 1));
            store
        }

        fn releases(&self, by: &KeyPair, version: u64) -> Vec<u8> {
            let mut releases = Targets::first(expired());
            while releases.header.version < version {
                releases = releases.next(expired());
            }
            let (release, counter) = (release("v1"), ReleaseCounter(4));
            let custom = ReleaseCustom { app: app(), release, counter, environments: None };
            releases.add_release(MANIFEST, &custom).unwrap();
            self.sign(&releases, &[by])
        }
    }

    fn app() -> AppName {
        AppName::new("shop").unwrap()
    }

    fn release(name: &str) -> ReleaseName {
        ReleaseName::new(name).unwrap()
    }

    fn ask(root: &[u8], store: &TrustedStore, seen: &Seen, name: &str) -> Result<Vouched, String> {
        let env = EnvName::new("production").unwrap();
        vouch(root, store, seen, &app(), &env, &release(name)).map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            format!("{error}{}", source.unwrap_or_default())
        })
    }

    #[test]
    fn a_listed_release_is_vouched_for_although_everything_has_expired() {
        let signers = Signers::new();
        let vouched = ask(&signers.root(), &signers.store(4), &Seen::new(), "v1").unwrap();
        vouched.target.check(MANIFEST).unwrap();
        vouched.target.check(b"another manifest").unwrap_err();
        assert_eq!(vouched.seen.keys().collect::<Vec<_>>(), ["apps/shop", "policy", "root", "targets"]);
    }

    #[test]
    fn what_does_not_follow_from_the_pinned_root_is_refused() {
        let (signers, thief) = (Signers::new(), KeyPair::from_seed(&[9; 32]).unwrap());
        let (root, seen) = (signers.root(), Seen::new());
        let role = file_name(&app_role(&app()), None);
        let mut forged = signers.store(0);
        forged.put(&*role, signers.releases(&thief, 1));
        let error = ask(&root, &forged, &seen, "v1").unwrap_err();
        assert!(error.contains("apps/shop has 0 valid signature(s) of 1"), "{error}");

        // A whole repository of the thief's own, with the pinned root in its place.
        let theirs = Signers { root: thief, release: KeyPair::from_seed(&[8; 32]).unwrap() };
        let error = ask(&root, &theirs.store(0), &seen, "v1").unwrap_err();
        assert!(error.contains("targets has 0 valid signature(s) of 1"), "{error}");

        let mut without = signers.store(0);
        without.put("policy.json", theirs.sign(&Targets::first(expired()), &[&theirs.root]));
        assert!(ask(&root, &without, &seen, "v1").unwrap_err().contains("policy has 0"));
        let error = ask(&root, &signers.store(0), &seen, "v2").unwrap_err();
        assert_eq!(error, "the release signers of shop list no release v2");
        let error = ask(&root, &signers.store(5), &seen, "v1").unwrap_err();
        assert!(error.contains("refuses everything below 5"), "{error}");
    }

    #[test]
    fn no_role_goes_back_behind_what_was_seen() {
        let signers = Signers::new();
        let role = file_name(&app_role(&app()), None);
        let mut newer = signers.store(0);
        newer.put(&*role, signers.releases(&signers.release, 3));
        let seen = ask(&signers.root(), &newer, &Seen::new(), "v1").unwrap().seen;
        let error = ask(&signers.root(), &signers.store(0), &seen, "v1").unwrap_err();
        assert!(error.contains("apps/shop version 1 is below version 3"), "{error}");
    }

    #[test]
    fn a_new_root_counts_and_cannot_be_withheld_afterwards() {
        let signers = Signers::new();
        let new = KeyPair::from_seed(&[3; 32]).unwrap();
        let rotated = Signers { root: new, release: KeyPair::from_seed(&[2; 32]).unwrap() };
        let mut store = rotated.store(0);
        store.put(root_history(2), signers.next_root(&rotated.root));
        let seen = ask(&signers.root(), &store, &Seen::new(), "v1").unwrap().seen;
        let error = ask(&signers.root(), &signers.store(0), &seen, "v1").unwrap_err();
        assert!(error.contains("root version 1 is below version 2"), "{error}");
    }

    #[test]
    fn a_new_root_that_takes_the_snapshot_key_away_lowers_what_was_seen_once() {
        let signers = Signers::new();
        let rotated = Signers {
            root: KeyPair::from_seed(&[3; 32]).unwrap(),
            release: KeyPair::from_seed(&[2; 32]).unwrap(),
        };
        let role = file_name(&app_role(&app()), None);
        let mut ahead = signers.store(0);
        ahead.put(&*role, signers.releases(&signers.release, 1_000));
        let seen = ask(&signers.root(), &ahead, &Seen::new(), "v1").unwrap().seen;
        let mut store = rotated.store(0);
        store.put(root_history(2), signers.next_root(&rotated.root));
        store.put(&*role, signers.releases(&signers.release, 5));
        let seen = ask(&signers.root(), &store, &seen, "v1").unwrap().seen;
        assert_eq!(seen["apps/shop"].version, 5);
        // The same root again lowers nothing.
        store.put(&*role, signers.releases(&signers.release, 4));
        let error = ask(&signers.root(), &store, &seen, "v1").unwrap_err();
        assert!(error.contains("apps/shop version 4 is below version 5"), "{error}");
    }
}
