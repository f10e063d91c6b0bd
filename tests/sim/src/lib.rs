//! The simulated world: real cores, ledger and journal over faulty disks and networks.

pub mod disk;
