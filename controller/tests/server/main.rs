//! The controller over loopback, with real TLS and real gRPC.

#![expect(clippy::unwrap_used, reason = "a test states what it expects with unwrap")]

mod agent;
mod drift;
mod enrolment;
mod evidence;
mod fleet;
mod full;
mod large;
mod limits;
mod online_keys;
mod outputs;
mod queue;
mod releases;
mod removal;
mod republish;
mod retention;
mod rollouts;
mod scopes;
mod state;
