#!/usr/bin/env bash
# Everything: unit tests, laws, the simulated world, the application's own tests, real processes.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/setup.sh tests
# The application of the demo has tests of its own, in Python; it takes each release of its history in turn.
sh examples/tenants/test.sh
# The end-to-end tests run the programs from target/debug.
cargo build --locked --workspace --bins
# The test hosts are booted by root only.
hosts=true
[ "$(id -u)" = 0 ] || hosts=false
if $hosts; then
    "${CARGO_TARGET_DIR:-target}/debug/hosts-base"
fi
# The same cases on every machine: what fails here was not there before. Another seed, or more PROPTEST_CASES, look
# further.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-20261121}
left_out=()
if cargo nextest --version >/dev/null 2>&1; then
    $hosts || left_out=(-E 'not (package(landfall-hosts) and kind(test) or test(on_a_host))')
    cargo nextest run --locked --workspace --no-fail-fast "${left_out[@]}"
else
    left_out=(--)
    $hosts || left_out=(--exclude landfall-hosts -- --skip on_a_host)
    cargo test --locked --workspace --no-fail-fast "${left_out[@]}"
fi
if ! $hosts; then
    cat >&2 <<'END'

################################################################################
NOT RUN: the tests on hosts with systemd (tests/hosts, the driver "systemd") and with containers
(the driver "docker"). They need root:

    sudo --preserve-env=PATH,HOME make test
################################################################################
END
    # Nothing lands on the word of a run that left something out.
    [ -z "${LANDFALL_LEAVE_NOTHING_OUT:-}" ] || exit 1
fi
