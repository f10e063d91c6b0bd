//! What takes away from a database what only older releases need: the `contract` of a release, once every host runs
//! that release (expand now, contract later). Nothing takes it back, so that it ends every way to what is older.

use landfall_common::assignment::ReleaseRef;
use landfall_common::time::duration_ms;
use landfall_common::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::record::{PlaceRecord, ReleaseRecord};
use crate::rollout::{Rollout, RolloutKind};

/// What the planner must know of the contract of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractFacts {
    /// How long the elected host holds the right to run it.
    #[serde(rename = "lease_ms", with = "duration_ms")]
    pub lease: Duration,
    /// Whether running it twice does no harm.
    pub idempotent: bool,
}

/// The contract that a rollout runs in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// What it means.
    #[serde(flatten)]
    pub facts: ContractFacts,
    /// Whether it has run.
    #[serde(default)]
    pub ran: bool,
}

/// A contract that has run on the database of a place, or may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contracted {
    /// Whose: no release before it runs there any more.
    pub release: ReleaseRef,
    /// Under which lease it was first handed out; a fencing number.
    pub fence: u64,
    /// Since when that is so.
    pub at: Timestamp,
    /// Whether it is known to have run to its end.
    pub known: bool,
}

impl PlaceRecord {
    /// What keeps a release off this database, if a contract of a newer one does.
    #[must_use]
    pub fn contracted_past(&self, release: &ReleaseRef) -> Option<&Contracted> {
        self.contracts.iter().rev().find(|contracted| contracted.release.counter > release.counter)
    }

    /// The contract of a release, if it has run here or may have.
    #[must_use]
    pub fn contract_of(&self, release: &ReleaseRef) -> Option<&Contracted> {
        self.contracts.iter().find(|contracted| contracted.release.digest == release.digest)
    }

    /// From now on it may run.
    pub(crate) fn contract_begins(&mut self, release: &ReleaseRef, fence: u64, at: Timestamp) {
        if self.contract_of(release).is_none() {
            self.contracts.push(Contracted { release: release.clone(), fence, at, known: false });
        }
    }

    /// The lease came to nothing: what was begun by it was not, unless there was one before.
    pub(crate) fn contract_never_began(&mut self, release: &ReleaseRef, fence: u64) {
        let began = |contracted: &Contracted| {
            contracted.release == *release && !contracted.known && contracted.fence == fence
        };
        self.contracts.retain(|contracted| !began(contracted));
    }

    /// Somebody has looked, and it did not take effect.
    pub(crate) fn contract_undone(&mut self, release: &ReleaseRef) {
        self.contracts.retain(|contracted| contracted.release != *release || contracted.known);
    }

    /// It has run. What older releases took away is behind it.
    pub(crate) fn contract_ran(&mut self, release: &ReleaseRef, fence: u64, at: Timestamp) {
        self.contracts.retain(|contracted| contracted.release.counter > release.counter);
        self.contracts.insert(0, Contracted { release: release.clone(), fence, at, known: true });
    }
}

/// What a rollout of this release has to contract in the end.
pub(crate) fn due(place: &PlaceRecord, release: &ReleaseRecord) -> Option<ContractFacts> {
    let has_run = place.contract_of(&release.release).is_some_and(|contracted| contracted.known);
    release.contract.clone().filter(|_| !has_run)
}

impl Rollout {
    /// The contract that it has still to run.
    #[must_use]
    pub fn contract_due(&self) -> Option<&ContractFacts> {
        let forward = self.kind == RolloutKind::Forward;
        self.contract.as_ref().filter(|contract| forward && !contract.ran).map(|contract| &contract.facts)
    }
}
