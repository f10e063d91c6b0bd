#!/usr/bin/env bash
# Installs what the demo or the tests need beyond Rust, Git, Python 3 and make, or names the command.
#   tests/setup.sh demo|tests
set -euo pipefail

purpose=${1:-}
case $purpose in
demo | tests) ;;
*)
    echo "usage: tests/setup.sh demo|tests" >&2
    exit 2
    ;;
esac

missing=()
services=()
need() { # need COMMAND PACKAGE...
    command -v "$1" >/dev/null 2>&1 || missing+=("${@:2}")
}
need curl curl
need msgfmt gettext
need npm npm
need node nodejs
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
if [ "$purpose" = tests ]; then
    PATH=$PATH:/usr/sbin:/sbin
    # The proxies that requests are led by.
    command -v nginx >/dev/null 2>&1 || { missing+=(nginx-light); services+=(nginx); }
    command -v haproxy >/dev/null 2>&1 || { missing+=(haproxy); services+=(haproxy); }
    # Not in PATH: Debian keeps the programs of each version in a directory of its own.
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { missing+=(postgresql); services+=(postgresql); }
    # Certificates that have expired.
    need faketime faketime
    # The application servers of docs/recipes that pip does not bring.
    need go golang-go
    need puma puma
fi
# The test hosts, which only root can boot.
if [ "$purpose" = tests ] && [ "$(id -u)" = 0 ]; then
    need mmdebstrap mmdebstrap
    need systemd-nspawn systemd-container
    need mkfs.ext4 e2fsprogs
    need ip iproute2
    need nft nftables
    # An operator logs in to them.
    need ssh openssh-client
    # Containers, for the driver of that name: the tests start a dockerd of their own.
    command -v dockerd >/dev/null 2>&1 || { missing+=(docker.io); services+=(docker.socket docker.service containerd.service); }
    need unshare util-linux
    # Applications with compiled packages are built for the Python that they have.
    need python3.11 python3.11
    # Packages are made for them, with the dependencies that their programs have.
    need dpkg-shlibdeps dpkg-dev
    need strip binutils
fi
install_missing() {
    install="apt-get install -y --no-install-recommends ${missing[*]}"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "These packages are missing: ${missing[*]}" >&2
        echo "On Debian or Ubuntu: sudo apt-get update && sudo $install" >&2
        exit 1
    fi
    echo "Installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && $install; } >/tmp/landfall-setup.log 2>&1 || {
        tail -20 /tmp/landfall-setup.log >&2
        echo "Could not install: $install" >&2
        exit 1
    }
}
[ ${#missing[@]} = 0 ] || install_missing
[ "$purpose" = tests ] || exit 0
# The tests start their own; what the packages have started is not wanted.
if [ ${#services[@]} -gt 0 ] && [ -d /run/systemd/system ]; then
    systemctl disable --now "${services[@]}" >/dev/null 2>&1 || true
else
    for name in "${services[@]}"; do
        [ ! -x "/etc/init.d/${name%.service}" ] || "/etc/init.d/${name%.service}" stop >/dev/null 2>&1 || true
    done
fi

# Supervisor, for the driver of that name: beside the build, since the package of a distribution would start it.
tools=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/tools
if [ ! -x "$tools/supervisor/bin/supervisord" ]; then
    echo "Installing Supervisor into $tools/supervisor"
    { python3 -m venv "$tools/supervisor" && "$tools/supervisor/bin/pip" install -q supervisor==4.3.0; } \
        >/tmp/landfall-setup.log 2>&1 || {
        tail -20 /tmp/landfall-setup.log >&2
        echo "Could not install: $tools/supervisor/bin/pip install supervisor==4.3.0" >&2
        exit 1
    }
fi
