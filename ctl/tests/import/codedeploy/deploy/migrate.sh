#!/bin/sh
cd /srv/site && venv/bin/python manage.py migrate --noinput
