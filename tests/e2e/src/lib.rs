//! End to end: the real programs as real processes, killed for real.

pub mod load;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod python;
pub mod recipe;
pub mod scene;
pub mod stage;
pub mod tenants;
