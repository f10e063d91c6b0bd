# What Capistrano 3's `deploy` does on a server (capistranorb.com, "Flow" and "Structure"): capistrano_like.sh RELEASE COMMAND...
# Its own SSH connections, one for each of these lines, are left out: they are not on the way of a request.
set -eu
release=$1
shift
cd /srv/hand
# deploy:check, :linked_dirs
mkdir -p shared/log releases
# git:create_release: what `git archive` gives of the commit
mkdir "releases/$release"
tar -c -C incoming . | tar -x -f - -C "releases/$release"
echo "$release" >"releases/$release/release.txt"
# git:set_current_revision
echo "$release" >"releases/$release/REVISION"
# deploy:symlink:linked_dirs
ln -s /srv/hand/shared/log "releases/$release/log"
# deploy:symlink:release: beside, and moved over
ln -s "/srv/hand/releases/$release" releases/current
mv releases/current .
# deploy:restart, the team's own task
"$@"
# deploy:cleanup, keep_releases 5; deploy:log_revision
ls -1dt releases/*/ | tail -n +6 | xargs -r rm -rf
echo "Branch main deployed as release $release" >>revisions.log
