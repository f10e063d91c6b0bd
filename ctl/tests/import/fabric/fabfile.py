from datetime import datetime, timezone

from fabric import Connection, ThreadingGroup, task

HOSTS = ["web-1.example.org", "web-2.example.org"]
ROOT = "/srv/site"


@task
def deploy(c, branch="main"):
    release = f"{ROOT}/releases/{datetime.now(timezone.utc):%Y%m%d%H%M%S}"
    c.local(f"git archive {branch} | gzip > /tmp/site.tar.gz")
    for host in HOSTS:
        web = Connection(host)
        web.put("/tmp/site.tar.gz", "/tmp/site.tar.gz")
        web.run(f"mkdir -p {release} && tar -xzf /tmp/site.tar.gz -C {release}")
        web.run(f"ln -s {ROOT}/shared/.env {release}/.env")
        web.run(f"ln -s {ROOT}/shared/media {release}/media")
        web.run(f"python3 -m venv {release}/venv")
        web.run(f"{release}/venv/bin/pip install -r {release}/requirements.txt")
        web.run(f"cd {release} && venv/bin/python manage.py collectstatic --noinput")
        web.run(f"cd {release} && venv/bin/python manage.py migrate --noinput")
        web.run(f"ln -sfn {release} {ROOT}/current")
        web.sudo("systemctl restart gunicorn")
        web.run("curl --fail --retry 5 http://127.0.0.1:8000/healthz")
        web.run(f"cd {ROOT}/releases && ls -1t | tail -n +6 | xargs rm -rf")


@task
def rollback(c):
    for host in HOSTS:
        web = Connection(host)
        before = web.run(f"ls -1t {ROOT}/releases | sed -n 2p").stdout.strip()
        web.run(f"ln -sfn {ROOT}/releases/{before} {ROOT}/current")
        web.sudo("systemctl restart gunicorn")
