#!/bin/sh
# Preparation, on each host, before anything that runs is touched:
#
#   sh deploy/prepare.sh PREPARED
#
# makes PREPARED/venv from the release's own wheels (no network), then loads the
# application once. Compiled code goes to PREPARED/pycache.
set -eu

prepared=$1
python3 -B deploy/unpack_wheels.py wheels "$prepared/venv"
"$prepared/venv/bin/python" deploy/warm.py
