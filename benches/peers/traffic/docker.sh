# Two containers and nginx before them, in the directory HAND: docker.sh hand|kamal
#
# hand and kamal are those of slots.sh; Kamal stops the old container with `docker stop` and its drain timeout too.
set -eu
who=$1
cd "$HAND"
case $(cat slot) in
blue) old=blue new=green old_port=9001 port=9002 ;;
*) old=green new=blue old_port=9002 port=9001 ;;
esac
image=$(docker load --quiet --input web.tar | sed 's/.*: //')
docker run --detach --name "hand-$new" --publish "127.0.0.1:$port:8000" --env PYTHONPATH=/packages \
    --env PYTHONDONTWRITEBYTECODE=1 --volume /usr:/usr:ro --volume "$PACKAGES:/packages:ro" \
    --volume "$PWD/$(readlink current):/app:ro" "$image" \
    /usr/bin/python3 -m gunicorn --config /app/gunicorn.conf.py --chdir /app --bind 0.0.0.0:8000 app:application >/dev/null
case $who in
hand) pause=0.2 ;;
kamal) pause=1 ;;
esac
for _ in $(seq 150); do
    curl --fail --silent --max-time 5 --output /dev/null "http://127.0.0.1:$port/up" && break
    sleep "$pause"
done
echo "upstream hand { server 127.0.0.1:$port; }" >"$HAND/upstream"
nginx -e stderr -c "$NGINX" -s reload
echo "$new" >slot
if [ "$who" = kamal ]; then
    for _ in $(seq 300); do
        [ -n "$(ss -Htn state established "sport = :$old_port")" ] || break
        sleep 0.1
    done
fi
docker stop --time 30 "hand-$old" >/dev/null 2>&1 || true
docker rm "hand-$old" >/dev/null 2>&1 || true
