# A host's life with power: boot.sh DIRECTORY BASE CGROUP NAME NETWORK [OPTION OF NSPAWN]...
# Runs in a mount namespace of its own, with which all of its mounts end.
set -eu
directory=$1 base=$2 cgroup=$3 name=$4 network=$5
shift 5
echo $$ >"$directory/supervisor"
echo $$ >"$cgroup/cgroup.procs"

mount -o loop "$directory/image" "$directory/disk"
mkdir -p "$directory/disk/upper" "$directory/disk/work"
mount -t overlay overlay \
    -o lowerdir="$base",upperdir="$directory/disk/upper",workdir="$directory/disk/work" "$directory/root"
if [ ! -e "$directory/disk/seeded" ]; then
    cp -r "$directory/seed/." "$directory/root/"
    sync -f "$directory/disk"
    : >"$directory/disk/seeded"
fi

# The journal lies outside of the host's disk: a test reads it also when that one is full or has lost its power.
mkdir -p "$directory/journal"

# The host sees one hierarchy of control groups, v2, whatever this machine mounts.
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn

# 133: it asked for a reboot. The filter of nspawn knows fewer system calls than a server: pidfd_getfd, by which a
# holder takes a socket over, is allowed too.
code=133
while [ $code = 133 ]; do
    code=0
    systemd-nspawn --quiet --directory="$directory/root" --boot --register=no --keep-unit --console=read-only \
        --machine="$name" --hostname="$name" --network-namespace-path="/run/netns/$network" \
        --resolv-conf=off --timezone=off --link-journal=no --system-call-filter=pidfd_getfd \
        --bind="$directory/journal:/var/log/journal" "$@" || code=$?
done
