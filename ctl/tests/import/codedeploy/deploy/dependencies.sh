#!/bin/sh
set -e
cd /srv/site
python3 -m venv venv
venv/bin/pip install --quiet -r requirements.txt
venv/bin/python manage.py collectstatic --noinput
