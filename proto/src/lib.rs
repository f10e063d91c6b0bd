//! The `landfall.v1` interface: what is generated from `landfall/v1/*.proto`, and nothing else.
//!
//! Each field is documented in the .proto files, which are the interface's reference.

/// Messages, clients and servers of `landfall.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("landfall.v1");
}

/// The file descriptor set of the interface, for gRPC reflection and for tests that walk its methods.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
