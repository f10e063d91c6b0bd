//! The controller: store, authority, log and the gRPC services.
