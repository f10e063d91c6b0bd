#!/bin/bash
# The simulated world: SEEDS=10000 from a random start (or START=N), or SEED=N to replay one with its trace.
# HOSTILE=NAME lets a hostile schedule strike in each of them; a name that is none tells all of them.
set -euo pipefail
cd "$(dirname "$0")/../.."
CARGO=${CARGO:-cargo}
"$CARGO" build --quiet --profile checked -p landfall-sim
sim="${CARGO_TARGET_DIR:-target}/checked/landfall-sim"
if [[ -n "${SEED:-}" ]]; then
    exec "$sim" --trace "$SEED" ${HOSTILE:+--hostile "$HOSTILE"}
fi
# Anywhere in 2^48, so that no two runs look at the same worlds.
start=${START:-$(od -An -N6 -tu8 /dev/urandom | tr -d ' ')}
exec "$sim" --seeds "${SEEDS:-1000}" --start "$start" --jobs "${JOBS:-$(nproc)}" ${HOSTILE:+--hostile "$HOSTILE"}
