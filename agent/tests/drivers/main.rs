//! One suite, and every driver against the real thing: holders, commands, Supervisor, and (with root) Docker
//! and, on a test host, systemd.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "all of this is tests")]

#[path = "../support/world.rs"]
mod world;

mod docker;
mod exec;
mod moves;
mod process;
mod stage;
mod suite;
mod supervisor;
mod systemd;
