//! What a release runs by and what lies beside its files: programs of Supervisor, servers of a proxy, containers, the
//! links of slots.
//!
//! Each room holds what must be against what was seen, and answers with [findings](super::Finding). What must be comes
//! from what is signed, from the host's record, or, for what the host's administrator configures and nobody signs, from
//! what was *applied*: how it was when the release became active ([`Things`]).
//!
//! Nothing here is put right by an interruption. What could be only so is told with the command that does it, for a
//! person who chooses the moment.

pub mod container;
pub mod program;
pub mod proxy;
pub mod seat;
pub mod setting;

pub use setting::{Settings, Things, Value};

use std::path::PathBuf;

use super::finding::{Finding, Kind, Remedy};

fn finding(path: String, kind: Kind, detail: String, remedy: Remedy) -> Finding {
    Finding { path: PathBuf::from(path), kind, detail, remedy }
}
