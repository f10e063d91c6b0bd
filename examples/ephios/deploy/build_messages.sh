#!/bin/sh
# Build: ephios brings its translations as source. (`compilemessages` would do the same, and those of all packages
# below it as well.)
set -eu

command -v msgfmt >/dev/null || {
    echo "msgfmt is missing; ephios brings its translations as source." >&2
    echo "Install it: apt-get install -y gettext" >&2
    exit 1
}
for source in site-packages/ephios/locale/*/LC_MESSAGES/*.po; do
    msgfmt --check-format -o "${source%.po}.mo" "$source"
done
