//! The client against repositories that lie, disks that forget and clocks that jump.

mod attacks;
mod bytes;
mod clocks;
mod disks;
mod recovery;
mod repository;
mod world;
