#!/usr/bin/env bash
# The figures of benches/README.md on this machine. As root it measures on a fresh ext4 with a journal and beside
# Fabric over SSH to loopback; otherwise below $TMPDIR and without Fabric, and says so. PART=one-host, fleets,
# idle, requests, swarm, planner or traffic measures only that; traffic (root only, an hour) is not part of all. WAYS="nginx
# haproxy" measures only those ways of it; ROUNDS, REQUESTS and RATE are what `traffic` says of them.
set -euo pipefail
cd "$(dirname "$0")/.."
part=${PART:-all}
if [ "$part" = traffic ]; then
    [ "$(id -u)" = 0 ] || { echo "PART=traffic boots hosts with systemd: run it as root." >&2; exit 1; }
    tests/setup.sh tests
    cargo build --locked --release -p landfall-agent -p landfall-controller -p landfall-ctl -p landfall-packages \
        -p landfall-hosts -p landfall-benches --bins
    target=$(realpath "${CARGO_TARGET_DIR:-target}")
    # What the hosts are given is what lies in `debug`: here, the programs of a release.
    mkdir -p "$target/bench"
    for name in debug=release hosts=hosts tools=tools; do
        ln -sfn "../${name#*=}" "$target/bench/${name%=*}"
    done
    # Hosts, servers and the requests go before all other work on this machine, and take turns among themselves as
    # often as ordinary work does: by default in turns of 100 ms.
    turns=/proc/sys/kernel/sched_rr_timeslice_ms
    before=$(cat "$turns")
    trap 'echo "$before" >"$turns"' EXIT
    echo 1 >"$turns"
    read -ra ways <<<"${WAYS:-}"
    CARGO_TARGET_DIR=$target/bench chrt --rr 1 "$target/release/traffic" "${ways[@]}"
    exit
fi
if [ "$part" = all ] || [ "$part" = planner ]; then
    printf '\n### One run of the planner\n\n'
    cargo run --quiet --locked --release -p landfall-controller-core --example plan_cost
    [ "$part" = all ] || exit 0
fi
tests/setup.sh demo
cargo build --locked --release -p landfall-controller -p landfall-agent -p landfall-ctl -p landfall-benches --bins
if [ "$part" = all ] || [ "$part" = swarm ]; then
    cargo build --locked --release -p landfall-controller --example swarm
    printf '\n### A controller with 1,000 simulated agents\n\n'
    target/release/examples/swarm target/release/landfall-controller 1000 60
    [ "$part" = all ] || exit 0
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/landfall-bench-XXXXXX")
sshd_pid=
cleanup() {
    [ -z "$sshd_pid" ] || kill "$sshd_pid" 2>/dev/null || true
    mountpoint -q "$work/disk" && umount -l "$work/disk"
    rm -rf "$work"
}
trap cleanup EXIT
mkdir "$work/disk"

if [ "$(id -u)" != 0 ]; then
    echo "Not root: measuring on this file system, and without Fabric." >&2
    target/release/bench "$part" "$work/disk"
    exit
fi

# A file system of its own, so that what lay there before does not count.
truncate -s 16G "$work/ext4"
mkfs.ext4 -q "$work/ext4"
mount -o loop "$work/ext4" "$work/disk"

command -v sshd >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -q openssh-server >/dev/null
venv=target/venv-fabric
[ -x "$venv/bin/fab" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q 'fabric==3.2.2'; }
ssh-keygen -q -t ed25519 -N '' -f "$work/key"
ssh-keygen -q -t ed25519 -N '' -f "$work/host_key"
mkdir -p "$work/home" /run/sshd
cp "$work/key.pub" "$work/authorized_keys"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
# A shell's own start-up is not the tool's work: a clean HOME.
cat >"$work/config" <<CONFIG
ListenAddress 127.0.0.1:$port
HostKey $work/host_key
AuthorizedKeysFile $work/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin yes
SetEnv HOME=$work/home
MaxStartups 200
Subsystem sftp internal-sftp
CONFIG
"$(command -v sshd)" -D -f "$work/config" -E "$work/sshd.log" &
sshd_pid=$!
echo "$sshd_pid" >"$work/sshd.pid"
sleep 1
target/release/bench "$part" "$work/disk" "$work/key" "$port" "$venv/bin/python"
