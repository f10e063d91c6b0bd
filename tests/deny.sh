#!/usr/bin/env bash
# Bans, licences and sources of our dependencies. Installs cargo-deny into target/ when it is not there.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/target/tools/bin:$PATH"
if ! cargo deny --version >/dev/null 2>&1; then
    echo "cargo-deny is not installed: installing it into target/tools"
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        cargo install --quiet --locked --root target/tools cargo-deny@0.20.2
fi
cargo fetch --locked --quiet
cargo deny check bans licenses sources
