#!/bin/sh
systemctl restart gunicorn
