//! What has to be proven elsewhere before it begins here: in the environments that the release names, in those that the
//! release in force names, and in those that were named with the request.
//!
//! Proven in an environment is a release, by its digest, that came to run on every host there, its watch over, and from
//! which nobody has gone back since. What came after it does not matter.

use std::collections::BTreeSet;
use std::fmt;

use landfall_common::assignment::ReleaseRef;
use landfall_common::{EnvName, ReleaseName, RolloutId};
use serde::{Deserialize, Serialize};

use crate::command::RollRequest;
use crate::entry::entries;
use crate::record::{Place, PlaceRecord, Proven};
use crate::rollout::RolloutKind;
use crate::state::State;

/// A release that is not proven where it has to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproven {
    /// Which.
    pub release: ReleaseName,
    /// Where it has to be.
    pub there: Place,
    /// What is known of it there.
    pub found: Found,
}

/// What is known of a release in a place where it is not proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Found {
    /// It was never in force.
    Nothing {
        /// What is, if anything.
        in_force: Option<ReleaseName>,
    },
    /// A rollout brings it, and is not over.
    UnderWay {
        /// Which.
        rollout: RolloutId,
    },
    /// It came to be in force without all hosts.
    InPart {
        /// By which rollout.
        rollout: RolloutId,
    },
    /// It was proven, and somebody has gone back from it.
    GoneBack {
        /// What is in force.
        in_force: Option<ReleaseName>,
    },
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { release, there, found } = self;
        match found {
            Found::Nothing { in_force: None } => {
                write!(f, "{release} is not proven for {there}, where nothing is in force")
            }
            Found::Nothing { in_force: Some(name) } => {
                write!(f, "{release} is not proven for {there}, where {name} is in force")
            }
            Found::UnderWay { rollout } => {
                write!(
                    f,
                    "{release} is not proven for {there} yet, where rollout {rollout} of it is under way"
                )
            }
            Found::InPart { rollout } => write!(
                f,
                "{release} is not proven for {there}, where rollout {rollout} did not bring it to every host"
            ),
            Found::GoneBack { in_force } => {
                write!(
                    f,
                    "{release} is not proven for {there} any more, since that place has gone back from it"
                )?;
                in_force.as_ref().map_or(Ok(()), |name| write!(f, " to {name}"))
            }
        }
    }
}

impl Unproven {
    /// The next command.
    #[must_use]
    pub fn next(&self) -> String {
        format!("`ctl release {} --env {}` proves it there", self.release, self.there.environment)
    }
}

/// The environments in which a release must be proven before it begins in a place, and those of the request.
#[must_use]
pub fn asked(
    state: &State,
    place: &PlaceRecord,
    release: &ReleaseRef,
    request: &RollRequest,
) -> BTreeSet<EnvName> {
    let after = entries(state, place, release).flat_map(|entry| entry.after.iter().cloned());
    after.chain(request.proven_in.iter().cloned()).collect()
}

/// The first environment in which a release has to be proven before it begins in a place, and is not. A reason to do
/// without holds for what `landfall.toml` asks for: whoever names an environment with the request means it.
pub(crate) fn missing(
    state: &State,
    place: &PlaceRecord,
    release: &ReleaseRef,
    request: &RollRequest,
) -> Option<Unproven> {
    let after = lacking(state, place, release).filter(|_| request.unproven.is_empty());
    let mut named = request.proven_in.iter();
    after.or_else(|| named.find_map(|environment| unproven(state, place, release, environment)))
}

/// The same by what the two releases ask for alone.
pub(crate) fn lacking(state: &State, place: &PlaceRecord, release: &ReleaseRef) -> Option<Unproven> {
    let mut after = entries(state, place, release).flat_map(|entry| &entry.after);
    after.find_map(|environment| unproven(state, place, release, environment))
}

/// By what a release was proven in an environment of the same application.
///
/// # Errors
/// Why it is not.
pub fn proof<'s>(
    state: &'s State,
    place: &Place,
    release: &ReleaseRef,
    environment: &EnvName,
) -> Result<&'s Proven, Box<Unproven>> {
    let there = Place { environment: environment.clone(), ..place.clone() };
    let record = state.place(&there);
    let proven = record.map_or(&[][..], |record| &record.proven);
    let name = |proven: &Proven| proven.release.name.clone();
    let in_force = proven.last().filter(|last| last.release.digest != release.digest).map(name);
    let not = |found| Err(Box::new(Unproven { release: release.name.clone(), there: there.clone(), found }));
    let Some(at) = proven.iter().rposition(|proven| proven.release.digest == release.digest) else {
        let holder = record.and_then(|record| state.rollout(record.holder.as_ref()?));
        let brings = |rollout: &&crate::rollout::Rollout| {
            rollout.release.digest == release.digest && rollout.kind != RolloutKind::Drill
        };
        return match holder.filter(brings) {
            Some(rollout) => not(Found::UnderWay { rollout: rollout.id.clone() }),
            None => not(Found::Nothing { in_force }),
        };
    };
    let found = &proven[at];
    // An older one after it is a way back. That is noted as well; what an older version has written is not.
    let gone_back = proven[at + 1..].iter().any(|later| later.release.counter < found.release.counter);
    if found.gone_back || gone_back {
        return not(Found::GoneBack { in_force });
    }
    if !found.whole {
        return not(Found::InPart { rollout: found.rollout.clone() });
    }
    Ok(found)
}

fn unproven(
    state: &State,
    place: &PlaceRecord,
    release: &ReleaseRef,
    environment: &EnvName,
) -> Option<Unproven> {
    proof(state, &place.place, release, environment).err().map(|unproven| *unproven)
}
