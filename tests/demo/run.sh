#!/usr/bin/env bash
# A Django application released to four hosts on this machine, under load. KEEP=1 leaves it running;
# PROFILE=checked releases it with optimised programs.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/setup.sh demo
echo "Building Landfall (the first time takes a few minutes)…"
profile=${PROFILE:-dev}
cargo build --locked --quiet --profile "$profile" --bins
directory=$profile
[[ $profile == dev ]] && directory=debug
# The program itself ends all that it started, also on Ctrl-C, and also when this script is gone.
exec "${CARGO_TARGET_DIR:-target}/$directory/demo" "$@"
