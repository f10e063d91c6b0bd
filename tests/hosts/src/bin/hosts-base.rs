//! Makes what all test hosts need, so that the first test does not seem to hang: `make test` runs it.

use std::io;

fn main() -> io::Result<()> {
    landfall_hosts::base::ensure()?;
    landfall_hosts::packages::ensure(landfall_hosts::installed::VERSION)?;
    landfall_hosts::fetched::of_ephios()?;
    Ok(())
}
