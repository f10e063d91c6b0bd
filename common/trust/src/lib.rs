//! What Landfall trusts, and why: TUF 1.0.34 metadata and the director's documents, verified and signed.
//!
//! Nothing here reads a file, a socket or a clock. A caller passes bytes and the time, and carries out what
//! comes back:
//!
//! - [`updater::Updater`] is the client: it says which file it needs next and which one must be made durable,
//!   until the repository's metadata is trusted; then it finds targets through delegations.
//! - [`repository`] is the other side: root, targets, delegations, snapshot and timestamp as they are made.
//! - [`envelope::Envelope`] carries signatures, collected one by one where a threshold wants several.
//! - [`director`] signs and verifies Landfall's own documents (assignments, log checkpoints).
//! - [`policy`] says which releases an application accepts.
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
pub mod key;
pub mod metadata;
pub mod policy;
pub mod repository;
pub mod store;
pub mod updater;

pub use envelope::{Authority, Envelope, Signature, Signed};
pub use error::TrustError;
pub use key::{KeyId, KeyPair, PublicKey};
pub use store::TrustedStore;
pub use updater::{Limits, Lookup, Need, Next, Updater};
