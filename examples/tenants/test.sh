#!/bin/sh
# Runs the application's tests: sh examples/tenants/test.sh
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

{ python3 --version; cat requirements.txt; } >"$work/wanted"
if ! cmp -s "$work/wanted" "$work/installed"; then
    rm -rf "$work/installed" "$work/wheels"
    sh deploy/build_wheels.sh
    mv wheels "$work/wheels"
    python3 -B deploy/unpack_wheels.py "$work/wheels" "$work/venv"
    mv "$work/wanted" "$work/installed"
fi
python3 -B deploy/build_messages.py >/dev/null
"$work/venv/bin/python" -B -m unittest discover --start-directory deploy
"$work/venv/bin/python" -B manage.py test
# The releases that history/ makes of it, each with its own behaviour.
"$work/venv/bin/python" -B "$here/history/test_history.py"
