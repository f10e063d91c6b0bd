//! The agent: fetches, verifies and applies releases on one host.

pub mod agent;
pub mod apply;
pub mod clock;
pub mod config;
pub mod drivers;
pub mod engine;
pub mod enrolment;
pub mod error;
pub mod executor;
pub mod fetch;
pub mod figures;
pub mod holder;
pub mod identity;
pub mod latency;
pub mod layout;
pub mod ledger;
pub mod probes;
pub mod renewal;
pub mod runtime;
pub mod session;
pub mod status;
pub mod steps;
pub mod tls;
pub mod trust;
pub mod wire;
