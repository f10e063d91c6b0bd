"""The Python side of tests/interop.rs: PyPI's `tuf` reads a repository, or writes one.

    interop.py read DIR TARGET...   DIR/root.json is trusted, DIR/metadata and DIR/targets are served;
                                    prints a JSON object: target path -> [custom, downloaded text] or null
    interop.py write DIR            makes DIR/root.json, DIR/metadata and DIR/targets
"""

import functools
import http.server
import json
import sys
import tempfile
import threading
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.ngclient import Updater


class Raw(http.server.SimpleHTTPRequestHandler):
    """Serves files by the name in the request as it is: `%2F` is part of a role's file name."""

    def __init__(self, *args, root, **kwargs):
        self.root = root
        super().__init__(*args, **kwargs)

    def translate_path(self, path):
        return str(self.root / path.lstrip("/"))

    def log_message(self, format, *args):
        pass


def read(directory: Path, paths: list[str]) -> None:
    handler = functools.partial(Raw, root=directory)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_address[1]}"
    found = {}
    with tempfile.TemporaryDirectory() as local:
        updater = Updater(
            metadata_dir=local,
            metadata_base_url=f"{base}/metadata",
            target_dir=local,
            target_base_url=f"{base}/targets",
            bootstrap=(directory / "root.json").read_bytes(),
        )
        updater.refresh()
        for path in paths:
            info = updater.get_targetinfo(path)
            if info is None:
                found[path] = None
            else:
                text = Path(updater.download_target(info)).read_text()
                found[path] = [info.custom, text]
    print(json.dumps(found))


def write(directory: Path) -> None:
    metadata, targets_dir = directory / "metadata", directory / "targets"
    metadata.mkdir()
    targets_dir.mkdir()
    expires = (datetime.now(timezone.utc) + timedelta(days=30)).replace(microsecond=0)
    ed25519 = [CryptoSigner.generate_ed25519() for _ in range(6)]
    ecdsa, rsa = CryptoSigner.generate_ecdsa(), CryptoSigner.generate_rsa()

    def save(role, body, signers, version=None):
        signed = Metadata(body)
        for signer in signers:
            signed.sign(signer, append=True)
        name = f"{version}.{quote(role, '')}.json" if version else f"{role}.json"
        signed.to_file(str(metadata / name))
        return (metadata / name).read_bytes()

    def add(role_targets, path, custom=None):
        content = f"content of {path}".encode()
        target = TargetFile.from_data(path, content, ["sha256", "sha512"])
        if custom:
            target.unrecognized_fields["custom"] = custom
        role_targets.targets[path] = target
        # Under the name of each digest, as a client may ask for either.
        folder, _, name = path.rpartition("/")
        (targets_dir / folder).mkdir(parents=True, exist_ok=True)
        for digest in target.hashes.values():
            (targets_dir / folder / f"{digest}.{name}").write_bytes(content)

    # Root 1: an ed25519, an ECDSA and an RSA key, two of which must sign.
    root = Root(expires=expires, consistent_snapshot=True)
    for signer in (ed25519[0], ecdsa, rsa):
        root.add_key(signer.public_key, Root.type)
    root.roles[Root.type].threshold = 2
    root.add_key(ed25519[1].public_key, Timestamp.type)
    root.add_key(rsa.public_key, Snapshot.type)
    root.add_key(ecdsa.public_key, Targets.type)
    (directory / "root.json").write_bytes(save("root", root, [ecdsa, rsa], 1))
    # Root 2 takes the RSA key away from the root role.
    root.version = 2
    root.revoke_key(rsa.public_key.keyid, Root.type)
    save("root", root, [ed25519[0], ecdsa], 2)

    # By pattern, by digest of the path, and from role to role; names that need care.
    top = Targets(expires=expires)
    add(top, "plain.txt")
    bins, team, nested = (Targets(expires=expires) for _ in range(3))
    add(bins, "binned file.txt", {"ä": ["é", {"n": -3}]})
    add(team, "team/a.txt")
    add(nested, "team/nested/b.txt", {"deep": True})
    prefix = sha256(b"binned file.txt").hexdigest()[:2]
    top.delegations = Delegations(
        {},
        {
            "bin": DelegatedRole("bin", [], 1, False, path_hash_prefixes=[prefix]),
            "teams/one": DelegatedRole("teams/one", [], 2, True, paths=["team/*", "team/*/*"]),
        },
    )
    top.add_key(ed25519[2].public_key, "bin")
    top.add_key(ed25519[3].public_key, "teams/one")
    top.add_key(ed25519[4].public_key, "teams/one")
    team.delegations = Delegations(
        {}, {"../nested": DelegatedRole("../nested", [], 1, False, paths=["team/nested/*"])}
    )
    team.add_key(ed25519[5].public_key, "../nested")

    snapshot = Snapshot(expires=expires)
    for role, body, signers in (
        ("targets", top, [ecdsa]),
        ("bin", bins, [ed25519[2]]),
        ("teams/one", team, [ed25519[3], ed25519[4]]),
        ("../nested", nested, [ed25519[5]]),
    ):
        data = save(role, body, signers, 1)
        snapshot.meta[f"{role}.json"] = MetaFile.from_data(1, data, ["sha256", "sha512"])
    timestamp = Timestamp(expires=expires)
    data = save("snapshot", snapshot, [rsa], 1)
    timestamp.snapshot_meta = MetaFile.from_data(1, data, ["sha256"])
    save("timestamp", timestamp, [ed25519[1]])


if __name__ == "__main__":
    command, directory, *rest = sys.argv[1:]
    {"read": lambda: read(Path(directory), rest), "write": lambda: write(Path(directory))}[command]()
