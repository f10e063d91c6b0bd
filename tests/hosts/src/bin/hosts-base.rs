//! Makes the base of the test hosts, so that the first test does not seem to hang: `make test` runs it.

use std::io;

fn main() -> io::Result<()> {
    landfall_hosts::base::ensure().map(|_| ())
}
