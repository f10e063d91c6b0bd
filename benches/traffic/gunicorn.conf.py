"""Gunicorn as docs/recipes/gunicorn.md has it. Where it listens is said by who starts it."""

import os

worker_class = "gthread"
workers = 2
threads = 16
keepalive = 5
graceful_timeout = 25
control_socket_disable = True
accesslog = None
# Not on a disk: a worker shows there that it lives.
worker_tmp_dir = "/dev/shm"


def post_worker_init(worker):
    """The application is loaded: told to who upgrades Gunicorn by USR2 (usr2.sh)."""
    if "READY" in os.environ:
        with open(f"{os.environ['READY']}.{worker.ppid}", "w"):
            pass
