#!/usr/bin/env bash
# The Debian packages, into target/packages: build.sh [PROFILE [VERSION [DIRECTORY]]]
#
# PROFILE is release, or dev for the tests: then the programs in target/debug are packed, and nothing is built.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
profile=${1:-release}
version=${2:-}
out=${3:-$target/packages}
export PATH="$PWD/$target/tools/bin:$target/tools/bin:$PATH"
if ! cargo deb --version >/dev/null 2>&1; then
    echo "cargo-deb is not installed: installing it into $target/tools"
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        cargo install --quiet --locked --root "$target/tools" cargo-deb@3.8.0
fi
if [ "$profile" = dev ]; then
    programs=$target/debug
    packing=(--profile dev --fast -Z gz --compress-system)
else
    programs=$target/release
    packing=(--profile "$profile")
    cargo build --locked --release -p landfall-agent -p landfall-controller -p landfall-ctl -p landfall-packages
fi

# Where Cargo.toml says that they are: what it calls target/release is where the programs are.
deploy/packages/texts.sh "$programs" "$programs/texts"
mkdir -p "$out"
for variant in agent controller ctl; do
    cargo deb --quiet --no-build -p landfall-packages --variant "$variant" "${packing[@]}" \
        ${version:+--deb-version "$version"} --output "$out/"
done
ls "$out"/*.deb
