//! What happens to the machine, and what it wants done.

use std::collections::BTreeSet;

use landfall_common::assignment::{Assignment, ReleaseRef};
use landfall_common::manifest::traffic::Slot;
use landfall_common::report::Failure;
use landfall_common::{Generation, ReleaseName, Sha256, StepName};
use serde::{Deserialize, Serialize};

use crate::outline::Outline;
use crate::placement::Aim;
use crate::plan::Action;
use crate::state::Migrating;

/// What the shell does for the machine. Those that [`crate::State::awaits`] names are answered by
/// [`Event::Done`] with the very same value; the others have no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an effect that is not carried out leaves the machine waiting"]
pub enum Effect {
    /// Get the manifest and what is lacking of its objects. Answered by [`Finish::Fetched`].
    Fetch {
        /// Of the assignment.
        generation: Generation,
        /// What to get.
        release: ReleaseRef,
    },
    /// Lay out `releases/<release>` with its links, durably, by a rename.
    Unpack {
        /// Of the assignment.
        generation: Generation,
        /// Which.
        release: ReleaseRef,
    },
    /// Run a step of preparation. Before the first, what an earlier attempt left in `prepared/` is removed.
    Prepare {
        /// Of the assignment.
        generation: Generation,
        /// Of which release.
        release: ReleaseName,
        /// Its index.
        step: usize,
    },
    /// Make what preparation wrote durable.
    Seal {
        /// Of the assignment.
        generation: Generation,
        /// Of which release.
        release: ReleaseName,
    },
    /// Run the migration, ending it before its deadline. Its exit status is kept durably by the program that
    /// supervises it, which outlives the agent.
    Migrate {
        /// What.
        migrating: Migrating,
    },
    /// Find out how a migration ended that was begun before the agent restarted. Never begins one.
    ResumeMigration {
        /// What.
        migrating: Migrating,
    },
    /// One step of an activation or of its undoing.
    Act {
        /// Of the assignment.
        generation: Generation,
        /// What.
        action: Action,
    },
    /// Run a smoke test.
    Smoke {
        /// Of the assignment.
        generation: Generation,
        /// Of which release.
        release: ReleaseName,
        /// Its index.
        step: usize,
    },
    /// Begin the checks of a release, and end those of any other. Their answers come as [`Event::Checked`], or
    /// [`Event::Unwatched`] if they cannot be begun.
    Watch {
        /// Returned with each answer, so that an answer to an earlier watch is known as such.
        watch: u64,
        /// Of which release.
        release: ReleaseName,
    },
    /// Make `current` name the active release, where something else has left it otherwise: a swap that failed
    /// after its rename, or a person. Answered by [`Event::Named`].
    NameActive {
        /// The active release.
        release: ReleaseName,
    },
    /// Lead requests where the record wants them, unless they go there already. Answered by [`Event::Aimed`].
    Aim {
        /// Where.
        aim: Aim,
    },
    /// End what runs in a slot that requests are not led to any more, after those that are under way have
    /// ended or have run out of time. Answered by [`Event::Retired`].
    Retire {
        /// Which.
        slot: Slot,
        /// The release that runs there.
        release: ReleaseName,
    },
    /// Start those services of the active release that do not run (the host was rebooted, or one died). Answered
    /// by [`Event::Ensured`].
    Ensure {
        /// The active release.
        release: ReleaseName,
    },
    /// Give up what the machine no longer awaits: end fetches and steps that run.
    Cancel,
    /// Remove every release from the disk but these, when there is time.
    Sweep {
        /// What stays.
        keep: BTreeSet<ReleaseName>,
    },
    /// Tell the controller how things stand.
    Report,
}

/// How an effect ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Finish {
    /// It was done.
    Ok,
    /// The release is here, and this is what it consists of.
    Fetched {
        /// From its manifest.
        outline: Box<Outline>,
    },
    /// It ran to an end and failed.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// Whether it took effect is not known.
    Unknown {
        /// Why.
        failure: Failure,
    },
}

/// What happens to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The agent has started and read its record. Always the first.
    Started,
    /// An assignment arrived, and its signature and its release were verified.
    Assigned {
        /// Its body.
        assignment: Box<Assignment>,
        /// The digest of the body's canonical form.
        digest: Sha256,
    },
    /// An assignment arrived that does not hold: its signature, or its release, is not trusted.
    Distrusted {
        /// Which.
        generation: Generation,
        /// Why.
        failure: Failure,
    },
    /// How far a fetch is.
    Progress {
        /// Of the assignment.
        generation: Generation,
        /// Bytes that are here.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// An effect has ended. One that is not awaited is ignored.
    Done {
        /// Which.
        effect: Box<Effect>,
        /// How.
        finish: Finish,
    },
    /// How [`Effect::NameActive`] ended.
    Named {
        /// The reason, if `current` may name something else.
        result: Result<(), String>,
    },
    /// How [`Effect::Ensure`] ended.
    Ensured {
        /// The release that was active.
        release: ReleaseName,
        /// The reason, if one of its services may not run.
        result: Result<(), String>,
    },
    /// [`Effect::Watch`] could not be carried out.
    Unwatched {
        /// Its number.
        watch: u64,
        /// Why.
        reason: String,
    },
    /// How [`Effect::Aim`] ended.
    Aimed {
        /// Where.
        aim: Aim,
        /// The reason, if requests may go elsewhere.
        result: Result<(), String>,
    },
    /// How [`Effect::Retire`] ended.
    Retired {
        /// Which slot.
        slot: Slot,
        /// What ran there.
        release: ReleaseName,
        /// The reason, if it may still run.
        result: Result<(), String>,
    },
    /// A check has answered.
    Checked {
        /// From [`Effect::Watch`].
        watch: u64,
        /// Which check.
        check: StepName,
        /// What it saw.
        answer: Result<(), String>,
    },
    /// Somebody says that requests may be led elsewhere than the record says, by whoever changed the proxy by hand.
    Misled,
    /// Time has passed.
    Tick,
}
