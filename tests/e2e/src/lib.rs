//! End to end: real processes, killed for real.
