#!/usr/bin/env bash
# Builds the programs of the version before this one (tests/previous) into target/previous/COMMIT, once. Exits with 3 if
# that commit is not here: in a shallow clone, or an archive without history.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$(grep -v '^#' tests/previous | head -n 1)
mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
programs=$target/previous/$commit
exec 9>"$target/previous.lock"
flock 9
[ ! -d "$programs" ] || exit 0
git cat-file -e "$commit^{commit}" 2>/dev/null || exit 3
echo "Building the programs of the version before, $commit"
rm -rf "$target/previous"
work=$target/previous/build
mkdir -p "$work/src" "$work/programs" "$work/target/debug"
git archive "$commit" | tar -x -C "$work/src"
# What both versions depend on has been built already: by a second name for its files it is here too. What is our own
# has the same names in both, and stays away.
if [ -d "$target/debug/deps" ]; then
    (cd "$target/debug" && find .fingerprint build deps -mindepth 1 -maxdepth 1 -not -name '*landfall*' -print0 |
        xargs -0 cp -al --parents -t "$work/target/debug") || rm -rf "$work/target/debug"
fi
(cd "$work/src" && cargo build --locked --quiet --target-dir "$work/target" --bins \
    -p landfall-controller -p landfall-agent -p landfall-ctl)
mv "$work"/target/debug/{ctl,landfall-agent,landfall-controller} "$work/programs"
# It has this name only once it is whole.
mv "$work/programs" "$programs"
rm -rf "$work"
