//! The apply machine: pure decisions on one host.
