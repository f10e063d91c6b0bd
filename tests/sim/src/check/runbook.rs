//! P10: whoever reads the runbook and types what it says is answered as it says, in the same moment: what can be done is
//! done, by the rollout that it names and to that release, and what is refused is refused in those words.

use landfall_common::{OperatorName, ReleaseName, RequestId, RolloutId, Timestamp};
use landfall_controller_core::command::{Action, Answer, Command};
use landfall_controller_core::log::Actor;
use landfall_controller_core::record::Place;
use landfall_controller_core::runbook::{How, Runbook};
use landfall_controller_core::{State, decide};

use super::Violation;

/// Holds a page against what would be answered now. Nothing is carried out.
///
/// # Errors
/// [`Violation`].
pub fn is_kept(page: &Runbook, state: &State, now: Timestamp) -> Result<(), Violation> {
    let told = page.way.as_ref().map_err(ToString::to_string).map(|way| way.how.clone());
    let answered = ask(state, &page.place, None, now);
    let kept = match (&told, &answered) {
        (Ok(How::Begins), Ok(rollout)) => *rollout == fresh(),
        (Ok(How::Turns { rollout: told } | How::GoesBack { rollout: told, .. }), Ok(rollout)) => {
            told == rollout
        }
        (Err(told), Err(refused)) => told == refused,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    };
    if !kept {
        let what =
            format!("the runbook of {} says {told:?}, and a rollback is answered {answered:?}", page.place);
        return Err(Violation::new("P10", what));
    }
    for other in &page.others {
        let name = &other.release.name;
        let told = other.refused.as_ref().map(ToString::to_string);
        let answered = ask(state, &page.place, Some(name.clone()), now).err();
        if told != answered {
            let what = format!(
                "the runbook of {} says {told:?} of {name}, and a rollback is answered {answered:?}",
                page.place
            );
            return Err(Violation::new("P10", what));
        }
    }
    Ok(())
}

fn fresh() -> RolloutId {
    RolloutId::new("r-runbook").expect("a valid name")
}

fn ask(state: &State, place: &Place, to: Option<ReleaseName>, now: Timestamp) -> Result<RolloutId, String> {
    let command = Command {
        request: RequestId::new("q-runbook").expect("a valid name"),
        by: Actor::Operator(OperatorName::new("carla").expect("a valid name")),
        origin: "192.0.2.9".to_owned(),
        fresh: fresh(),
        action: Action::RollBack { place: place.clone(), to, reason: String::new() },
    };
    match decide(state, &command, now) {
        Ok(decided) => match decided.answer {
            Answer::Rollout { id } => Ok(id),
            Answer::Accepted => Err("no rollout is named".to_owned()),
        },
        Err(refusal) => Err(refusal.to_string()),
    }
}
