//! The operator command line.
//!
//! `cli` says what can be typed and `command` does it, one file each; only `output` prints. `client` talks to
//! the controller, `pack`, `git` and `builder` make what is released, `ssh` reaches new hosts, `trust`, `keys` and
//! `config` are what the operator keeps on this machine. `import` reads other tools' files.

pub mod builder;
pub mod cli;
pub mod client;
pub mod clock;
pub mod command;
pub mod config;
pub mod error;
pub mod files;
pub mod git;
pub mod import;
pub mod interrupt;
pub mod keys;
pub mod output;
pub mod pack;
pub mod ssh;
pub mod trust;
pub mod view;
