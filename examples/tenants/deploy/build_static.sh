#!/bin/sh
# Build: collectstatic, with a hash in each file's name and a compressed copy
# beside it. Done once here, so that all hosts hold the very same files.
set -eu

python3 -B deploy/unpack_wheels.py wheels .build/venv
# -B: no .pyc may get into the release. They hold the path they were compiled
# in, so they would differ from one build directory to the next.
DJANGO_SECRET_KEY=unused-while-building \
    .build/venv/bin/python -B manage.py collectstatic --noinput --verbosity 1
rm -rf .build
