//! The controller, as `ctl` sees it.

pub mod status;
