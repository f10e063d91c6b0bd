//! The agent: fetches, verifies and applies releases on one host.

pub mod drivers;
pub mod figures;
pub mod holder;
pub mod probes;
pub mod steps;
