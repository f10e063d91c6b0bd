//! What is measured, against whom: the parts that the figures share.
//!
//! Machines are noisy: everything is measured in pairs, in turn, and reported as medians, ratios and counts.

pub mod cpu;
pub mod fabric;
pub mod floor;
pub mod probe;
pub mod table;
pub mod traffic;
pub mod tree;
