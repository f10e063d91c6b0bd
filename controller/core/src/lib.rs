//! The planner: pure decisions about rollouts.
//!
//! The shell (the controller's reactor) holds one [`State`] and goes through four doors:
//!
//! - [`State::observe`] takes in what was seen of a host. Volatile.
//! - [`State::questions`] says what gates are to be asked, and [`State::answered`] takes in what came of it. Volatile.
//! - [`decide`] answers a command of an operator.
//! - [`plan`] looks at everything and decides what happens next.
//!
//! The last two change nothing. They return an [`Output`]: the shell makes its `changes` and its `log`
//! durable in one commit, then calls [`State::apply`] with each change, then carries the `effects` out. If
//! the commit fails it drops the value, and nothing has happened (P8). After a start, [`State::load`] makes
//! the state from the records; every host is unknown until it reports.
//!
//! `now` should come from a clock that does not step (the wall clock at the start of the program plus a
//! monotonic one): a leap makes hosts look silent and deadlines fire early. That is safe, but rude.

pub mod analysis;
pub mod approval;
pub mod asked;
mod begin;
pub mod command;
pub mod comparison;
pub mod contract;
mod course;
mod decide;
mod drain;
pub mod entry;
pub mod evidence;
pub mod explain;
pub mod facts;
pub mod gate;
mod group;
pub mod groups;
pub mod holder;
pub mod label;
pub mod line;
pub mod log;
pub mod member;
pub mod observation;
pub mod output;
mod plan;
pub mod preview;
pub mod proof;
mod ranges;
pub mod reason;
pub mod record;
pub mod refusal;
mod regroup;
pub mod restart;
pub mod restored;
pub mod retention;
pub mod rollout;
pub mod runbook;
mod schema;
pub mod state;
mod stops;
pub mod timing;
mod turn;

pub use decide::decide;
pub use output::{Decided, Effect, Output, Planned};
pub use plan::{plan, plan_place};
pub use preview::{preview, preview_drill, preview_restart, preview_rollback};
pub use refusal::Refusal;
pub use state::State;
