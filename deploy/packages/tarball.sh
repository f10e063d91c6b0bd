#!/usr/bin/env bash
# The three programs with all that belongs to them in one archive, for machines without dpkg, into target/packages:
# tarball.sh [PROFILE [VERSION [DIRECTORY]]]
#
# PROFILE is release, or dev for the tests: then the programs in target/debug are packed, and nothing is built. Those of
# a release are linked statically, so that they run on any distribution with systemd. Two runs on the same tree give the
# same bytes.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
profile=${1:-release}
version=${2:-$(cargo pkgid --offline -p landfall-packages | sed 's/.*[#@]//')}
out=${3:-$target/packages}
triple=$(rustc -vV | sed -n 's/^host: //p')
if [ "$profile" = dev ]; then
    programs=$target/debug
    level=1
else
    programs=$target/$triple/release
    level=9
    # Where it was built is nobody's affair, and would differ from one machine to the next.
    sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
    export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$PWD=. --remap-path-prefix=$sources=crates"
    export CFLAGS="-ffile-prefix-map=$PWD=. -ffile-prefix-map=$sources=crates"
    cargo build --locked --release --target "$triple" \
        -p landfall-agent -p landfall-controller -p landfall-ctl -p landfall-packages
fi

name=landfall-$version-${triple%%-*}-linux
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/$name
mkdir -p "$root/bin" "$root/etc" "$out"
for program in ctl landfall-agent landfall-controller; do
    strip -o "$root/bin/$program" "$programs/$program"
done
deploy/packages/texts.sh "$programs" "$programs/texts"
cp -R "$programs/texts/man" "$programs/texts/completion" "$root/"
cp -R deploy/systemd deploy/polkit "$root/"
cp deploy/etc/*.toml "$root/etc/"
cp deploy/packages/install.sh "$root/"

# One order, one owner, one date, one set of modes, whoever packs it.
chmod -R u=rwX,go=rX "$root"
date=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
tar --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime="@$date" -C "$work" -cf - "$name" |
    gzip "-${level}n" >"$work/$name.tar.gz"
mv "$work/$name.tar.gz" "$out/"
ls "$out/$name.tar.gz"
