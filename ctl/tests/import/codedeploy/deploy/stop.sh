#!/bin/sh
systemctl stop gunicorn
