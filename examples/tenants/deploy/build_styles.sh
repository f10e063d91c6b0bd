#!/bin/sh
# Build: compiles assets/tenants.css with Tailwind CSS. Needs Node.js 14 or
# newer and npm, on the operator's machine only.
set -eu

for tool in node npm; do
    command -v "$tool" >/dev/null || {
        echo "$tool is missing; Tailwind CSS needs Node.js and npm to compile the styles." >&2
        echo "Install them: apt-get install -y nodejs npm" >&2
        exit 1
    }
done
# Exactly what package-lock.json names; no package may run a script of its own.
npm ci --ignore-scripts --prefer-offline --no-audit --no-fund --loglevel error
BROWSERSLIST_IGNORE_OLD_DATA=1 npm run --silent styles
# 16 MB that no host needs.
rm -rf node_modules
