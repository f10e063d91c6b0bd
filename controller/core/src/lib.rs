//! The planner: pure decisions about rollouts.

pub mod log;
