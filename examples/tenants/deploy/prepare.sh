#!/bin/sh
# Preparation, on each host, before anything that runs is touched:
#
#   sh deploy/prepare.sh PREPARED
#
# makes PREPARED/venv from the release's own wheels (no network), then loads the
# application once: a release that cannot even be imported on this host fails
# here, and the server that starts later finds its code compiled.
set -eu

prepared=$1
python3 -B deploy/unpack_wheels.py wheels "$prepared/venv"
DJANGO_SECRET_KEY=unused-while-preparing \
    "$prepared/venv/bin/python" -c '
import gunicorn.app.wsgiapp, gunicorn.workers.gthread
import tenants.wsgi
from django.core.management import call_command
call_command("check")
'
