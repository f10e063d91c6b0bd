//! The controller: store, authority, log and the gRPC services.
//!
//! [`serve`] puts it together. What decides is in `landfall-controller-core`; here is what does.

pub mod admin;
pub mod asker;
pub mod authorise;
pub mod backup;
pub mod ca;
pub mod cli;
pub mod clock;
pub mod collection;
pub mod config;
pub mod enrolment;
pub mod error;
pub mod identity;
pub mod initialise;
pub mod keys;
pub mod log;
pub mod maintenance;
pub mod objects;
pub mod ownership;
pub mod private_file;
pub mod reactor;
pub mod repository;
pub mod rpc;
pub mod serve;
pub mod state;
pub mod store;
pub mod tls;
pub mod writer;

pub use error::ControllerError;
