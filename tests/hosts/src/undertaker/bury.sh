# Ends one fleet: bury.sh DIRECTORY CGROUP ID, when standard input ends.
directory=$1 cgroup=$2 id=$3
trap '' INT TERM HUP
cat >/dev/null

# Nothing can be ended that waits for a frozen disk.
for file in "$directory"/*/supervisor; do
    nsenter -t "$(cat "$file")" -m fsfreeze -u "$(dirname "$file")/disk"
done
if [ -d "$cgroup" ]; then
    echo 1 >"$cgroup/cgroup.kill"
    tries=500
    while grep -q 'populated 1' "$cgroup/cgroup.events" && [ $tries -gt 0 ]; do
        sleep 0.02
        tries=$((tries - 1))
    done
    find "$cgroup" -depth -type d -exec rmdir {} \;
fi
for namespace in /run/netns/"$id".*; do
    [ -e "$namespace" ] && ip netns del "$(basename "$namespace")"
done
# The hosts' mounts have gone with the last process of their namespaces.
rm -rf --one-file-system "$directory"
rm -f "$directory.lock"
