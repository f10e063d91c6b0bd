//! P10, every wait has a reason: a rollout for which the planner does nothing now has a sentence that says what it waits
//! for.

use landfall_controller_core::State;
use landfall_controller_core::reason::PlanningReport;

use super::{Checks, Violation};

impl Checks {
    /// The planner has nothing to do, and this is what it tells.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn says_what_it_waits_for(
        &mut self,
        state: &State,
        report: &PlanningReport,
    ) -> Result<(), Violation> {
        for place in state.places() {
            let Some(holder) = &place.holder else { continue };
            self.waits += 1;
            let told = report.of(&place.place).and_then(|report| report.of_holder().next());
            if told.is_none_or(|told| told.trim().is_empty()) {
                let word = state.rollout(holder).map(|rollout| rollout.status.word());
                let what = format!("rollout {holder} is {word:?} in {}, and nobody says why", place.place);
                return Err(Violation::new("P10", what));
            }
        }
        Ok(())
    }
}
