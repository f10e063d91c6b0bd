//! The operator command line.

pub mod builder;
pub mod client;
pub mod error;
pub mod git;
pub mod pack;
