//! What a release does to requests: for each way of restarting a service, ours beside what an operator types and beside
//! scripts that do what other tools do.
//!
//! One test host with systemd serves, from within this process requests are sent to it, and in between the release
//! changes, again and again. What is asked of the results is in [`figures`], and needs no host.

pub mod figures;
pub mod place;
pub mod trial;
pub mod ways;
