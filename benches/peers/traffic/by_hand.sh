# What an operator types who has copied the new release to the server: by_hand.sh RELEASE COMMAND...
set -eu
release=$1
shift
cd "${HAND:-/srv/hand}"
cp -r incoming "releases/$release"
echo "$release" >"releases/$release/release.txt"
ln -sfn "releases/$release" current
"$@"
