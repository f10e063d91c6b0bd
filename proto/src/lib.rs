//! The landfall.v1 gRPC interface.
