//! What the tests of the holder share.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "this is all of tests")]

#[path = "agent.rs"]
pub mod agent;
#[path = "docker.rs"]
pub mod docker;
#[path = "load.rs"]
pub mod load;
#[path = "registry.rs"]
pub mod registry;
#[path = "roles.rs"]
pub mod roles;
#[path = "server.rs"]
pub mod server;
#[path = "site.rs"]
pub mod site;
#[path = "supervisor.rs"]
pub mod supervisor;
