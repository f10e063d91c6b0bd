# Two instances of hand@.service and a proxy before them: slots.sh nginx|haproxy hand|kamal
#
# hand: what an operator types. kamal: what `kamal deploy` and its proxy do (kamal-deploy.org, "Proxy", "Roles"): the new
# container beside the old one, GET on the health path each second, five seconds for an answer, thirty for all of it; the
# target is changed; requests that the old one has are waited for, thirty seconds at most; the old one is stopped. Its
# proxy is a program of its own; what stands in front here is the same as in the other rows.
set -eu
proxy=$1 who=$2
cd /srv/hand
case $(cat slot) in
blue) old=blue new=green old_port=9001 port=9002 ;;
*) old=green new=blue old_port=9002 port=9001 ;;
esac
ln -sfn "$(readlink current)" "slot-$new"
systemctl start "hand@$new"
case $who in
hand) pause=0.2 ;;
kamal) pause=1 ;;
esac
for _ in $(seq 150); do
    curl --fail --silent --max-time 5 --output /dev/null "http://127.0.0.1:$port/up" && break
    sleep "$pause"
done
case $proxy in
nginx)
    echo "upstream hand { server 127.0.0.1:$port; }" >/etc/nginx/hand.upstream
    systemctl reload nginx
    ;;
haproxy)
    python3 - "enable server hand/$new; disable server hand/$old" <<'PYTHON'
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/haproxy/admin.sock")
connection.sendall(sys.argv[1].encode() + b"\n")
connection.recv(4096)
PYTHON
    ;;
esac
echo "$new" >slot
if [ "$who" = kamal ]; then
    for _ in $(seq 300); do
        [ -n "$(ss -Htn state established "sport = :$old_port")" ] || break
        sleep 0.1
    done
fi
systemctl stop "hand@$old"
