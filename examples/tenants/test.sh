#!/bin/sh
# Runs the application's tests: sh examples/tenants/test.sh [arguments of `manage.py test`]
#
# Works in a copy under the repository's target/ directory, so that nothing is
# written here. Needs Python 3.11 with pip, and git; no Node.js.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=${TENANTS_TEST_DIR:-$here/../../target/tenants-tests}
mkdir -p "$work"
work=$(cd "$work" && pwd)

# The files of the application alone; wheels and environment of the last run stay.
rm -rf "$work/tree"
sh "$here/make-history.sh" --base "$work/tree"
cd "$work/tree"

if ! cmp -s requirements.txt "$work/requirements.txt"; then
    rm -rf "$work/wheels" "$work/venv" "$work/requirements.txt"
    sh deploy/build_wheels.sh
    mv wheels "$work/wheels"
    python3 -B deploy/unpack_wheels.py "$work/wheels" "$work/venv"
    cp requirements.txt "$work/requirements.txt"
fi
python3 -B deploy/build_messages.py >/dev/null
"$work/venv/bin/python" -B -m unittest discover --quiet -s deploy -p 'test_*.py'
"$work/venv/bin/python" -B manage.py test "$@"
sh "$here/history/test.sh" "$work"
