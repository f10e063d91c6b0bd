//! TUF and director metadata: verification and signing, without I/O.
