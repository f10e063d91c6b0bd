//! What Landfall trusts, and why: TUF 1.0.34 metadata and the director's documents, verified and signed.
//!
//! Nothing here reads a file, a socket or a clock. A caller passes bytes and the time, and carries out what
//! comes back:
//!
//! - [`updater::Updater`] is the client: it says which file it needs next and which one must be made durable,
//!   until the repository's metadata is trusted; then it finds targets through delegations.
//! - [`offline`] asks only who signed: for a program that verifies for itself what the updater has accepted.
//! - [`repository`] is the other side: root, targets, delegations, snapshot and timestamp as they are made.
//! - [`envelope::Envelope`] carries signatures, collected one by one where a threshold wants several.
//! - [`director`] signs and verifies Landfall's own documents (assignments, log checkpoints).
//! - [`policy`] says which releases an application accepts.
//!
//! # From keys to a trusted release
//!
//! ```
//! use std::collections::BTreeMap;
//! use landfall_common::time::Duration;
//! use landfall_common::{AppName, EnvName, ReleaseCounter, ReleaseName, Timestamp};
//! use landfall_trust::metadata::{Root, TOP_LEVEL, Targets};
//! use landfall_trust::policy::{AppPolicy, ReleaseCustom, accept_target, app_role, policy_path, release_path};
//! use landfall_trust::repository::{Lifetimes, Repository};
//! use landfall_trust::{Envelope, KeyPair, Limits, Need, TrustError, TrustedStore, Updater};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now: Timestamp = "2026-11-21T16:00:00Z".parse()?;
//! let year = now + Duration::from_secs(365 * 86_400);
//! let app = AppName::new("shop")?;
//! let (root_key, release_key, online_key) = (KeyPair::generate()?, KeyPair::generate()?, KeyPair::generate()?);
//!
//! // Offline: who may say what.
//! let mut root = Root::first(year);
//! for role in TOP_LEVEL {
//!     let key = if matches!(role, "root" | "targets") { &root_key } else { &online_key };
//!     root.set_role(role, &[key.public().clone()], 1);
//! }
//! let mut targets = Targets::first(year);
//! targets.delegate_policy(&[root_key.public().clone()], 1);
//! targets.delegate_app(&app, &[release_key.public().clone()], 1);
//! let mut signed_root = Envelope::unsigned(&root)?;
//! signed_root.sign(&root_key)?;
//! let mut signed_targets = Envelope::unsigned(&targets)?;
//! signed_targets.sign(&root_key)?;
//! let mut policy = Envelope::unsigned(&Targets::first(year))?;
//! policy.sign(&root_key)?;
//!
//! // A release signer: a release.
//! let release = ReleaseName::new("v1.4")?;
//! let counter = ReleaseCounter(1);
//! let custom = ReleaseCustom { app: app.clone(), release: release.clone(), counter, environments: None };
//! let mut shop = Targets::first(year);
//! shop.add_release(b"the manifest", &custom)?;
//! let mut signed_shop = Envelope::unsigned(&shop)?;
//! signed_shop.sign(&release_key)?;
//!
//! // The controller: what was submitted becomes visible. Every file is kept under its name.
//! let mut repository = Repository::new(signed_root.to_bytes())?;
//! let mut files = repository.files();
//! files.push(repository.submit("targets", signed_targets.to_bytes(), now)?);
//! files.push(repository.submit("policy", policy.to_bytes(), now)?);
//! files.push(repository.submit(&app_role(&app), signed_shop.to_bytes(), now)?);
//! files.extend(repository.publish(&[&online_key], &[&online_key], now, &Lifetimes::default())?);
//! let served: BTreeMap<_, _> = files.into_iter().map(|file| (file.name, file.bytes)).collect();
//!
//! // The agent: pinned root, refresh, release, policy. `store` must write durably.
//! let mut disk = TrustedStore::initialise(&served["1.root.json"])?;
//! let mut updater = Updater::start(disk.clone(), now, Limits::default())?;
//! let fetch = |need: &Need| Ok::<_, TrustError>(served.get(&need.name).cloned());
//! let mut store = |name: &str, bytes: &[u8]| Ok(disk.put(name, bytes.to_vec()));
//! updater.drive(fetch, &mut store)?;
//! let floor = AppPolicy::of(updater.find_with(&policy_path(&app), fetch, &mut store)?.as_ref())?;
//! let target = updater.find_with(&release_path(&app, &release), fetch, &mut store)?.ok_or("no such release")?;
//! accept_target(&target, floor.min_release_counter, &app, &EnvName::new("production")?)?;
//! target.check(b"the manifest")?;
//! # Ok(())
//! # }
//! ```
//!
//! # Departures from TUF 1.0.34, each towards refusing more, except the first
//! - A key id need not be the digest of its key (TAP 12): what counts towards a threshold is the number of
//!   *distinct public keys*, however many ids they go by.
//! - A local file counts only if the [floor record](store::Floors) vouches for it, and a floor is reset only
//!   when a newer root takes a key away from the role; the specification deletes both the timestamp and the
//!   snapshot when either rotates (§5.3.11).

pub mod director;
pub mod envelope;
pub mod error;
pub mod evidence;
pub mod key;
pub mod metadata;
pub mod offline;
pub mod policy;
pub mod repository;
pub mod store;
pub mod updater;

pub use envelope::{Authority, Envelope, Signature, Signed};
pub use error::TrustError;
pub use key::{KeyId, KeyPair, PublicKey};
pub use store::TrustedStore;
pub use updater::{Limits, Lookup, Need, Next, Updater};
