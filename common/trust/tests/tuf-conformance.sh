#!/bin/sh
# Runs the public TUF conformance suite (github.com/theupdateframework/tuf-conformance) against
# examples/tuf_client.rs. The suite is not on PyPI and is not part of this project: give the directory of a
# checkout.
#
#     common/trust/tests/tuf-conformance.sh /path/to/tuf-conformance [pytest options]
#
# Needs python3 with venv and the program `faketime` (apt-get install faketime). The suite's own
# dependencies are installed into target/venv-tuf-conformance.
set -eu

suite=${1:?"usage: $0 DIRECTORY-OF-THE-SUITE [pytest options]"}
shift
suite=$(cd "$suite" && pwd)
cd "$(dirname "$0")/../../.."

command -v faketime >/dev/null || { echo "faketime is missing; install it: apt-get install faketime" >&2; exit 1; }
target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
venv=$target/venv-tuf-conformance
if [ ! -e "$venv/complete" ]; then
    python3 -m venv --clear "$venv"
    # The versions that the suite itself pins.
    python3 - "$suite/pyproject.toml" >"$venv/requirements.txt" <<'END'
import sys, tomllib
print("\n".join(tomllib.load(open(sys.argv[1], "rb"))["project"]["dependencies"]))
END
    "$venv/bin/python" -m pip install -q -r "$venv/requirements.txt"
    touch "$venv/complete"
fi

cargo build -p landfall-trust --example tuf_client
PYTHONPATH=$suite "$venv/bin/python" -m pytest "$suite/tuf_conformance" \
    --entrypoint "$target/debug/examples/tuf_client" -p no:cacheprovider "$@"
