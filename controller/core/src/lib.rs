//! The planner: pure decisions about rollouts.
