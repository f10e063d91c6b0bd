//! What the controller signs of its log: how long it is, and the root of its tree.

use serde::{Deserialize, Serialize};

use crate::{Sha256, Timestamp};

/// The `_type` of the signed document.
pub const CHECKPOINT_TYPE: &str = "landfall-checkpoint";

/// The body of a signed checkpoint. Two of the same size with different roots prove that the log was forked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// How many entries the log has.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Sha256,
    /// When it was signed.
    pub at: Timestamp,
}
