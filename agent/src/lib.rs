//! The agent: fetches, verifies and applies releases on one host.
