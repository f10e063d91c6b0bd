#!/bin/sh
# Build: every package of requirements.txt into site-packages/, checked against the hashes there.
#
# Packages with compiled code are for one version of Python and one kind of processor: those of the hosts. Most come
# as wheels. The few that are published as source only are built here, with the tools of requirements-build.txt.
set -eu

python=python3.11
"$python" -m pip --version >/dev/null 2>&1 || {
    echo "$python with pip is missing; the hosts run $python, and the packages must be made for it." >&2
    echo "On Debian 12: apt-get install -y python3 python3-pip" >&2
    exit 1
}
# A release that changes nothing of the lists takes what the last one has made.
kept=${XDG_CACHE_HOME:-$HOME/.cache}/ephios-packages
name=$(cat requirements-build.txt requirements.txt | sha256sum | cut -c1-16)
if [ ! -d "$kept/$name" ]; then
    install() {
        "$python" -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
            --no-deps --require-hashes --no-compile "$@"
    }
    mkdir -p "$kept" && rm -rf "$kept/partial"
    find "$kept" -mindepth 1 -maxdepth 1 -mtime +30 -exec rm -rf {} +
    install --only-binary :all: --target .build/tools -r requirements-build.txt
    # Not in an environment of their own, for which pip would fetch whatever version of the tools is the newest.
    PYTHONPATH=$PWD/.build/tools install --no-build-isolation --target "$kept/partial" -r requirements.txt
    # Programs that name this machine's Python in their first line; hosts use `python3 -m`.
    rm -rf "$kept/partial/bin" .build
    mv "$kept/partial" "$kept/$name"
fi
cp -R "$kept/$name" site-packages
