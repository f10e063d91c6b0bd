//! The release that a host must have run before it takes another one: a required stop.

use serde::{Deserialize, Serialize};

use crate::ReleaseCounter;
use crate::ids::ReleaseName;

/// A release may be taken only by a host that comes from this one or a newer one: what it converts on each host, the
/// release after it expects to find converted.
///
/// Its number stands beside its name, so that whoever holds a host against it (the planner, and the agent, which need not
/// have it on its disk) needs nothing but what is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follows {
    /// Its name.
    pub release: ReleaseName,
    /// Its number among the releases of the application.
    pub counter: ReleaseCounter,
}

impl Follows {
    /// Whether a host that runs release number `counter` has been there: it runs a newer one, or this one and it is proven.
    #[must_use]
    pub fn is_met_by(&self, counter: ReleaseCounter, proven: bool) -> bool {
        counter > self.counter || (counter == self.counter && proven)
    }
}
