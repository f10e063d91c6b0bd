#!/bin/sh
# Build: every package of requirements.txt as a wheel in wheels/, checked
# against the hashes there. Needs Python's pip and an index to fetch from.
set -eu

python3 -m pip --version >/dev/null 2>&1 || {
    echo "python3 has no pip, which fetches the packages of requirements.txt." >&2
    echo "Install it: apt-get install -y python3-pip" >&2
    exit 1
}
# Only wheels: building a source package would run its code and need a compiler.
exec python3 -m pip wheel --quiet --only-binary :all: --no-deps --require-hashes \
    --wheel-dir wheels -r requirements.txt
