//! Gates that the controller asks: they answer, at once or late, this and then that, or not at all.

use landfall_controller_core::asked::{Allowed, Question, Word};
use landfall_controller_core::gate::{self, GateVerdict};
use landfall_controller_core::observation::Attention;

use super::{Event, World};
use crate::sabotage::Sabotage;

/// Where all of them are.
pub const GATES_AT: &str = "https://ci.example.org/gates";

/// Where the controller of a world may ask.
pub fn allowed() -> Allowed {
    Allowed::below(vec![GATES_AT.parse().expect("a valid URL")])
}

impl World {
    /// Asks what is due.
    pub(super) fn ask_gates(&mut self) {
        let (now, process) = (self.controller_now(), self.controller.process);
        let Some(controller) = &mut self.controller.running else { return };
        for question in controller.state.questions(now) {
            self.checks.asks_gate(&question, process, self.now);
            let Question { number, about, .. } = &question;
            self.note(format_args!(
                "question {number}: gate {} before {} of {}",
                about.gate,
                gate::moment(about.batch),
                about.rollout
            ));
            if self.keeps_an_answer(&question) {
                continue;
            }
            let Some((delay, came)) = self.what_comes_of_it() else { continue };
            self.after(delay, Event::GateAnswers { process, question: Box::new(question), came });
        }
    }

    /// When, and what; nothing if the question gets lost.
    fn what_comes_of_it(&mut self) -> Option<(u64, Result<Word, String>)> {
        let word = |verdict| Ok(Word { verdict, reason: "it was measured".to_owned() });
        if self.healed {
            return Some((self.dice.between(1, 500), word(GateVerdict::Open)));
        }
        // The shell ends a question in time; what comes later all the same must be nobody's.
        let delay = if self.dice.chance(150_000) { 90_000 } else { 4_000 };
        let delay = self.dice.between(1, delay);
        let came = match self.dice.between(0, 99) {
            0..45 => word(GateVerdict::Open),
            45..70 => word(GateVerdict::Closed),
            70..73 => word(GateVerdict::Failed),
            73..95 => Err("it answered 503".to_owned()),
            _ => return None,
        };
        Some((delay, came))
    }

    pub(super) fn gate_answers(&mut self, process: u64, question: &Question, came: Result<Word, String>) {
        if self.controller.process != process {
            return;
        }
        let now = self.controller_now();
        self.checks.gate_answers(question, &came);
        let number = question.number;
        let Some(controller) = &mut self.controller.running else { return };
        let taken = controller.state.answered(question, came.clone(), now);
        self.note(format_args!("question {number} comes to {came:?}, which is {taken:?}"));
        if taken == Attention::Plan {
            self.plan_within(20);
        }
    }

    /// The planted defect: what a gate may have said once it is taken to say again.
    fn keeps_an_answer(&mut self, question: &Question) -> bool {
        if self.scenario.sabotage != Some(Sabotage::AnswersKept) || question.about.batch < 2 {
            return false;
        }
        let now = self.controller_now();
        let Some(controller) = &mut self.controller.running else { return false };
        let open = Word { verdict: GateVerdict::Open, reason: "it was open before".to_owned() };
        controller.state.answered(question, Ok(open), now) == Attention::Plan
    }
}
