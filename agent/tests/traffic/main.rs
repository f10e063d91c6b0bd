//! Requests led around releases by a real proxy: the agent's program, its holders, Supervisor or (with root) Docker,
//! nginx and HAProxy from Debian, and a constant load.

#![allow(clippy::unwrap_used, reason = "a test states what it expects with unwrap")]
#![allow(dead_code, reason = "what is shared with other tests is not used as a whole")]

mod command;
#[path = "../session/controller.rs"]
mod controller;
mod docker;
mod drift;
mod haproxy;
mod hold;
mod host;
#[path = "../../../tests/e2e/src/load.rs"]
mod load;
mod nginx;
mod supervisor;
#[path = "../support/world.rs"]
mod world;
