//! The agent: fetches, verifies and applies releases on one host.

pub mod apply;
pub mod drivers;
pub mod engine;
pub mod error;
pub mod figures;
pub mod holder;
pub mod layout;
pub mod ledger;
pub mod probes;
pub mod steps;
