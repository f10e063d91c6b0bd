#!/bin/sh
rm -rf /srv/site/*
