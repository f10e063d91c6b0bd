//! Drift: what on this host is not as it was applied.
//!
//! [`Scan`] walks what must be beside what is, one directory at a time: the shell answers its questions, and it
//! answers with [`Findings`]. What must be is known from three sources and no others:
//!
//! - the *signed* directory objects of the active release, with the links to what is shared laid over them;
//! - the *record* of what preparation had made when it ended, which nobody signed but this host;
//! - the ledger: which release `current` names.
//!
//! What the release runs by, and what lies beside its files, is held against what must be in [`beside`].
//!
//! What applications keep in `shared/` is theirs and not looked at. Bytecode that an interpreter writes beside its
//! sources is counted and not reported ([`scan`]).
//!
//! How often to look, and how to stay out of everybody's way while looking, is in [`pace`].

pub mod beside;
mod bytecode;
pub mod finding;
pub mod pace;
pub mod question;
pub mod scan;

pub use finding::{Finding, Findings, Kind, Remedy};
pub use pace::{Depth, Looked, Rhythm};
pub use question::{Area, Ask, Content, Expected, Place, Read, Seen, SeenKind, Target, Unseen};
pub use scan::{Scan, Summary};
