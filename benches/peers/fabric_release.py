"""The same release done by Fabric over SSH: upload a tar.gz, unpack it beside, swap `current`, look.

    fabric_release.py ARCHIVE RELEASE PORT KEY DIRECTORY HOSTS

Hosts are directories DIRECTORY/1 … DIRECTORY/HOSTS on this machine behind one sshd; as many connections.
"""

import sys

from fabric import Connection, ThreadingGroup

archive, release, port, key, directory, hosts = sys.argv[1:]
connections = [
    Connection(
        "127.0.0.1",
        user="root",
        port=int(port),
        connect_kwargs={"key_filename": key, "look_for_keys": False, "allow_agent": False},
    )
    for _ in range(int(hosts))
]


def deploy(number, connection):
    home = f"{directory}/{number}"
    incoming = f"{home}/{release}.tar.gz"
    connection.run(f"mkdir -p {home}/releases/{release}", hide=True)
    connection.put(archive, incoming)
    connection.run(f"tar -xzf {incoming} -C {home}/releases/{release} && rm {incoming}", hide=True)
    connection.run(f"ln -s releases/{release} {home}/next && mv -T {home}/next {home}/current", hide=True)
    connection.run(f"test -e {home}/current/package000/module00000.py", hide=True)


class Deploying(ThreadingGroup):
    """Runs the whole deployment of each host in a thread of its own, as ThreadingGroup runs one command."""

    def deploy(self):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(max_workers=len(self)) as pool:
            list(pool.map(deploy, range(1, len(self) + 1), self))


with Deploying.from_connections(connections) as group:
    group.deploy()
