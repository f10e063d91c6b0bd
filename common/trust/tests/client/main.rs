//! The client against repositories that lie, disks that forget and clocks that jump.

#![expect(clippy::unwrap_used, reason = "the whole crate is a test, its helpers too")]

mod attacks;
mod bytes;
mod clocks;
mod delegations;
mod disks;
mod forgery;
mod limits;
mod recovery;
mod repository;
mod vouching;
mod world;
