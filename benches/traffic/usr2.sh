# Gunicorn's "Upgrading to a new binary on the fly": usr2.sh UNIT DIRECTORY
# A new master and its workers beside the old ones; the old ones go once the new ones have loaded the application.
set -eu
unit=$1 run=$2
if ! systemctl --quiet is-active "$unit"; then
    systemctl start "$unit"
    exit
fi
old=$(cat "$run/pid")
kill -USR2 "$old"
until [ -s "$run/pid.2" ] && [ -e "$run/ready.$(cat "$run/pid.2")" ]; do sleep 0.05; done
kill -WINCH "$old"
kill -TERM "$old"
# The new one takes the name of the pid file once it sees that the old one has gone.
while kill -0 "$old" 2>/dev/null || [ -e "$run/pid.2" ]; do sleep 0.05; done
