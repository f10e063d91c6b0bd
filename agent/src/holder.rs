//! The holder: a small process per service that owns its listening socket and its running program.
//!
//! It outlives the agent's restart, upgrade and SIGKILL. It is told what to run by a *handover* and
//! finishes or undoes that by itself: the new process is started beside the old one with the same listening
//! socket and must show that it is ready; only then is the old one asked to finish. If it never is, it is
//! ended and the old one stays. The agent asks for the outcome, before or after a restart of its own.
//!
//! While the new process starts it already accepts connections from the shared socket, since a process
//! cannot be given a socket later: a program should accept only once it can serve. With
//! [`Ready::Http`](landfall_common::manifest::Ready::Http) it is asked on a private socket (descriptor 4, of
//! the same family as descriptor 3), so that the answer is its own and not the old one's.
//!
//! `Http` is the sign to prefer: Gunicorn, for one, sends `READY=1` when it listens, before its workers have
//! loaded the application.
//!
//! A service stays in the foreground. If it ends without having been asked to, it is started again, at
//! growing intervals. If the *holder* dies, its service goes on serving; the agent reports it, and the next
//! holder takes the running process and its socket over (`pidfd_getfd`).
//!
//! [`machine`] decides and is pure; [`server`] carries out, synchronously, without a runtime: a holder
//! should cost little more than the program text that it shares with the agent. Not here: replacing the
//! program of a holder that runs. It keeps the version of the agent that started it until its service is
//! stopped, or its host restarted.

mod adopt;
pub mod client;
mod control;
pub mod launcher;
pub mod machine;
mod ready;
pub(crate) mod record;
mod refusal;
mod server;
mod service;
pub mod socket;
pub mod spec;
mod written;

pub use client::{Client, ClientError};
pub use launcher::{Launcher, Places};
pub use server::{HolderError, run};
pub use spec::{ChildKey, ChildSpec, HolderSpec, Reply, Request, Status};
