# Makes the base: make.sh ROOT SUITE MIRROR PACKAGES
set -eu
root=$1 suite=$2 mirror=$3 packages=$4
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# Nothing is started while packages are installed, and its disk need not outlive a power cut in the meantime.
mmdebstrap --mode=root --variant=minbase --include="$packages" \
    --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --essential-hook='printf "#!/bin/sh\nexit 101\n" >"$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"' \
    "$suite" "$root" "$mirror"

# From here on a package behaves as on any server.
rm -f "$root/usr/sbin/policy-rc.d" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
# A test starts what it needs: what these packages have enabled is disabled.
rm -rf "$root"/etc/systemd/system/*.wants
ln -sf /dev/null "$root/etc/systemd/system/console-getty.service"
# Each host gets its own.
: >"$root/etc/machine-id"
rm -f "$root/etc/hostname" "$root/etc/resolv.conf" "$root/etc/fstab" "$root/var/lib/dbus/machine-id"
# The journal is kept over a power cut: it is what a test reads afterwards.
mkdir -p "$root/var/log/journal"
