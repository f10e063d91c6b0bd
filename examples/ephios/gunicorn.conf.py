"""Gunicorn, so that a release loses no request: examples/tenants says why each of these is as it is."""
import os

bind = os.environ.get("BIND", "127.0.0.1:8000")
worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
threads = 4
keepalive = 0
graceful_timeout = 25
timeout = 30
preload_app = False
control_socket_disable = True
errorlog = "-"
accesslog = None
