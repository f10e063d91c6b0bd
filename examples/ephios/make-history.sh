#!/bin/sh
# Makes the repository of a team that runs ephios:
#
#   sh make-history.sh DIR
#
# The files beside this script, and a tag for each version. From 0.26.1 to 0.27.1
# nothing changes but the list of packages; 0.27.1-gevent is what somebody tried
# next, with workers that the list does not have.
set -eu

if [ $# -ne 1 ]; then
    sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
if [ -e "$1" ] && [ -n "$(ls -A "$1")" ]; then
    echo "$1 is not empty; name a new directory." >&2
    exit 2
fi
mkdir -p "$1"
cd "$1"
cp -R "$here/.gitignore" "$here/landfall.toml" "$here/deploy" "$here"/*.py "$here/requirements-build.txt" .

unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null TZ=UTC LC_ALL=C
export GIT_AUTHOR_NAME="Ada Keller" GIT_AUTHOR_EMAIL=ada@ephios.example
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
git init --quiet --initial-branch=main --object-format=sha1 .

# release NAME DATE MESSAGE: commits all that changed, and tags it.
release() {
    export GIT_AUTHOR_DATE=$2 GIT_COMMITTER_DATE=$2
    git add .
    git commit --quiet -m "$3"
    git tag -a "$1" -m "$3"
}

cp "$here/requirements/0.26.1.txt" requirements.txt
release 0.26.1 2026-09-21T09:00:00Z "ephios 0.26.1"
cp "$here/requirements/0.27.1.txt" requirements.txt
release 0.27.1 2026-11-09T09:00:00Z "ephios 0.27.1"
sed -i 's/"gthread"/"gevent"/' gunicorn.conf.py
release 0.27.1-gevent 2026-11-10T15:00:00Z "Workers that serve more at the same time"
