#!/usr/bin/env bash
# Everything: unit tests, laws, the simulated world, the application's own tests, real processes.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/setup.sh
# The application of the demo has tests of its own, in Python; it takes each release of its history in turn.
sh examples/tenants/test.sh
# The end-to-end tests run the programs from target/debug.
cargo build --locked --workspace --bins
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --workspace --no-fail-fast
else
    cargo test --locked --workspace --no-fail-fast
fi
