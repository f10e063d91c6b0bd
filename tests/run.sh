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
# The version before this one is built from the history, which not every copy has.
history=true
tests/previous.sh || { [ $? = 3 ] && history=false; }
# The same cases on every machine: what fails here was not there before. Another seed, or more PROPTEST_CASES, look
# further.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-20261121}
if cargo nextest --version >/dev/null 2>&1; then
    filter='all()'
    $hosts || filter+=' - (package(landfall-hosts) & kind(test) | test(on_a_host))'
    $history || filter+=' - test(version_before)'
    cargo nextest run --locked --workspace --no-fail-fast -E "$filter"
else
    packages=() names=()
    $hosts || { packages+=(--exclude landfall-hosts) names+=(--skip on_a_host); }
    $history || names+=(--skip version_before)
    cargo test --locked --workspace --no-fail-fast "${packages[@]}" -- "${names[@]}"
fi
if ! $hosts; then
    cat >&2 <<'END'

################################################################################
NOT RUN: the tests on hosts with systemd (tests/hosts, the driver "systemd") and with containers
(the driver "docker"). They need root:

    sudo --preserve-env=PATH,HOME make test
################################################################################
END
fi
if ! $history; then
    cat >&2 <<'END'

################################################################################
NOT RUN: the tests of this version beside the one before it (tests/e2e/tests/versions.rs). They
need the commit that tests/previous names:

    git fetch --unshallow, or a clone instead of an archive
################################################################################
END
fi
# Nothing lands on the word of a run that left the hosts out. A shallow clone, which is what many CI services make, is no
# reason to refuse the rest.
if ! $hosts; then
    [ -z "${LANDFALL_LEAVE_NOTHING_OUT:-}" ] || exit 1
fi
