#!/bin/sh
curl --fail --silent --retry 10 --retry-connrefused http://127.0.0.1:8000/healthz
