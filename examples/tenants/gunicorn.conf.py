"""Gunicorn, so that a release loses no request. The figures are in README.md.

Landfall holds the listening socket and passes it on (LISTEN_FDS, as systemd
does); gunicorn takes it and `bind` is for running by hand only.
"""
import os

bind = os.environ.get("BIND", "127.0.0.1:8000")

# Threads instead of sync workers: an idle connection waits in a poller, while a
# sync worker would wait in a read and answer nobody, health checks included.
worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
threads = 4

# Each answer closes its connection. With keep-alive the old server must one day
# close an idle connection, and a client that sends a request at that moment
# gets a reset instead of an answer. Behind nginx this costs nothing on loopback;
# a proxy that repeats such requests by itself may use keep-alive here.
keepalive = 0

# On SIGTERM: accept no more, finish what has begun, leave. Shorter than the
# service's stop_timeout in landfall.toml, after which it is killed.
graceful_timeout = 25
# A worker that has not been heard of for so long is killed and replaced.
timeout = 30

# Each release starts afresh: nothing to preload for, no reload to serve.
preload_app = False
# No second way in beside the agent's.
control_socket_disable = True
errorlog = "-"
accesslog = None
