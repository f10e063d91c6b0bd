#!/bin/sh
# Makes the application's own repository, with a history to release from:
#
#   sh make-history.sh DIR            v1.3 to v1.7, each with an annotated tag
#   sh make-history.sh --servers DIR  the same, released as in servers/: on the
#                                     servers' own systemd and Supervisor
#   sh make-history.sh --base DIR     only the files of v1.3, without a repository
#
# The files beside this script are v1.3; history/*/*.patch turn them into the
# later releases. Names and dates are fixed and the user's Git configuration is
# left out, so the commits are the same each time and everywhere.
set -eu

only_base= servers=
case "${1:-}" in
--base) only_base=yes && shift ;;
--servers) servers=yes && shift ;;
esac
if [ $# -ne 1 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
if [ -e "$1" ] && [ -n "$(ls -A "$1")" ]; then
    echo "$1 is not empty; name a new directory." >&2
    exit 2
fi
mkdir -p "$1"
cd "$1"

# What the guide, its tests and a local build leave beside the application.
tar -C "$here" -cf - --exclude=./history --exclude=./make-history.sh --exclude=./test.sh \
    --exclude=./servers \
    --exclude=./README.md --exclude=./.build --exclude=./.venv --exclude=./node_modules \
    --exclude=./wheels --exclude=./static --exclude=./housing/static --exclude=./.env \
    --exclude=./db --exclude=./media --exclude='*.mo' --exclude=__pycache__ . | tar -xf -
[ -z "$only_base" ] || exit 0
[ -z "$servers" ] || cp -R "$here/servers/landfall.toml" "$here/servers/deploy" .

unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_AUTHOR_DATE GIT_COMMITTER_DATE
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null TZ=UTC LC_ALL=C
export GIT_COMMITTER_NAME="Ada Keller" GIT_COMMITTER_EMAIL=ada@tenants.example
# A user's name in the repository's own configuration, for commits made later.
git init --quiet --initial-branch=main --object-format=sha1 .
git config user.name "$GIT_COMMITTER_NAME"
git config user.email "$GIT_COMMITTER_EMAIL"
git config core.autocrlf false

# commit DATE SUBJECT PATH...
commit() {
    date=$1 subject=$2
    shift 2
    git add -- "$@"
    GIT_AUTHOR_NAME=$GIT_COMMITTER_NAME GIT_AUTHOR_EMAIL=$GIT_COMMITTER_EMAIL \
        GIT_AUTHOR_DATE=$date GIT_COMMITTER_DATE=$date git commit --quiet -m "$subject"
}

# release NAME DATE: applies the patches of this release, then tags it. The
# message of the tag is what `ctl release` takes as the release notes.
release() {
    for patch in "$here/history/$1"/*.patch; do
        [ ! -e "$patch" ] || git am --quiet --committer-date-is-author-date "$patch"
    done
    GIT_COMMITTER_DATE=$2 git tag -a "$1" -F "$here/history/$1/notes"
}

commit 2026-09-07T09:12:00Z "Condominiums, their tenants and charges" \
    .gitignore manage.py requirements.in requirements.txt requirements-build.txt tenants \
    housing ':!housing/locale' assets package.json package-lock.json tailwind.config.js
commit 2026-09-09T14:40:00Z "German and Spanish" housing/locale
commit 2026-09-14T08:05:00Z "Release with Landfall" landfall.toml gunicorn.conf.py smoke.py deploy
if [ -n "$(git status --porcelain)" ]; then
    echo "make-history.sh: these files belong to no commit:" >&2
    git status --short >&2
    exit 1
fi

release v1.3 2026-09-14T08:30:00Z
release v1.4 2026-10-12T09:00:00Z
release v1.5 2026-10-26T10:00:00Z
release v1.6 2026-11-02T09:30:00Z
release v1.7 2026-11-09T11:00:00Z
