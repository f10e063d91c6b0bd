#!/bin/sh
# Starts Gunicorn with the release in whose directory it stands; systemd and
# Supervisor start it in /srv/tenants/current, which they resolve as they do so.
# What they set up (the listening socket, the user) is theirs.
set -eu

release=$(basename "$(pwd -P)")
export LANDFALL_RELEASE="$release"
exec "/srv/tenants/prepared/$release/venv/bin/gunicorn" --config gunicorn.conf.py tenants.wsgi
