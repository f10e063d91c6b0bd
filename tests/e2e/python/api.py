"""A program of somebody else's that releases through the controller's API: nothing here is Landfall's but the
.proto files, from which the client is generated, and the rules that their comments state.

    api.py STATE enrol TOKEN ADDRESS      trades an operator's token for a certificate
    api.py STATE publish-root             makes keys and a trust root for the application `site`
    api.py STATE host-token NAME          prints a token with which a host joins
    api.py STATE release NAME DIRECTORY   uploads the directory as an artifact, publishes, rolls out, follows

STATE is a directory that this program keeps its keys and certificates in.
"""

import base64
import hashlib
import json
import os
import socket
import ssl
import stat
import sys
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc
import zstandard
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

STATE = Path(sys.argv[1])
APP, ENVIRONMENT, ROLE = "site", "production", "apps/site"
CHUNK = 256 * 1024


def generate():
    """Generates the client from the project's .proto files."""
    from grpc_tools import protoc

    out = STATE / "generated"
    out.mkdir(parents=True, exist_ok=True)
    protos = Path(__file__).resolve().parents[3] / "proto"
    files = [f"landfall/v1/{name}.proto" for name in ("types", "agent", "operator")]
    code = protoc.main(["", f"-I{protos}", f"--python_out={out}", f"--grpc_python_out={out}", *files])
    assert code == 0, "the .proto files do not compile"


def b64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def request_id():
    return str(uuid.uuid4())


def pinned_ca(address, digest):
    """The CA certificate that the server presents, if its key is the one that the token names."""
    host, port = address.rsplit(":", 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, int(port))) as raw, context.wrap_socket(raw) as stream:
        # CPython shows the whole chain since 3.13 publicly, before only through the SSL object itself.
        chain = stream._sslobj.get_unverified_chain()
    for certificate in chain:
        der = ssl.PEM_cert_to_DER_cert(certificate.public_bytes())
        parsed = x509.load_der_x509_certificate(der)
        key = parsed.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        if hashlib.sha256(key).hexdigest() == digest:
            return der
    raise SystemExit("the controller does not present the CA that the token names")


def pem(der):
    return ssl.DER_cert_to_PEM_cert(der).encode()


def channel():
    credentials = grpc.ssl_channel_credentials(
        (STATE / "ca.pem").read_bytes(),
        *(((STATE / "key.pem").read_bytes(), (STATE / "certificate.pem").read_bytes())
          if (STATE / "certificate.pem").exists() else ()),
    )
    options = [("grpc.ssl_target_name_override", "landfall-controller")]
    return grpc.secure_channel((STATE / "address").read_text(), credentials, options)


def enrol(token, address):
    from landfall.v1 import agent_pb2, agent_pb2_grpc

    fields = json.loads(b64(token.removeprefix("lft1_")))
    (STATE / "ca.pem").write_bytes(pem(pinned_ca(address, fields["ca"])))
    (STATE / "address").write_text(address)
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    answer = agent_pb2_grpc.EnrolmentStub(channel()).Join(
        agent_pb2.JoinRequest(
            token_id=fields["id"],
            secret=fields["secret"],
            csr=csr.public_bytes(serialization.Encoding.DER),
            version="api.py",
        )
    )
    (STATE / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (STATE / "certificate.pem").write_bytes(pem(answer.certificate))
    print(f"{answer.operator} is {answer.role}")


def operators():
    from landfall.v1 import operator_pb2, operator_pb2_grpc

    return operator_pb2, operator_pb2_grpc.OperatorsStub(channel())


def signer(name):
    """This program's own signing keys, made on first use."""
    path = STATE / f"{name}.private"
    if path.exists():
        private = ed25519.Ed25519PrivateKey.from_private_bytes(path.read_bytes())
    else:
        private = ed25519.Ed25519PrivateKey.generate()
        path.touch(mode=0o600)
        path.write_bytes(private.private_bytes_raw())
    return CryptoSigner(private)


def signed(body, *signers):
    metadata = Metadata(body)
    for each in signers:
        metadata.sign(each, append=True)
    return metadata.to_bytes()


def expires(days):
    return (datetime.now(timezone.utc) + timedelta(days=days)).replace(microsecond=0)


def publish_root():
    pb, stub = operators()
    info = stub.GetInfo(pb.GetInfoRequest())

    def online(text):
        fields = json.loads(text)
        encoded = encode_canonical(fields).encode()
        return SSlibKey.from_dict(hashlib.sha256(encoded).hexdigest(), fields)

    root = Root(expires=expires(365), consistent_snapshot=True)
    root.add_key(signer("root").public_key, Root.type)
    root.add_key(signer("root").public_key, Targets.type)
    root.add_key(online(info.snapshot_key), Snapshot.type)
    root.add_key(online(info.timestamp_key), Timestamp.type)
    release_key = signer("release").public_key
    role = DelegatedRole(ROLE, [release_key.keyid], 1, True, paths=[f"{APP}/*"])
    targets = Targets(
        expires=expires(365), delegations=Delegations({release_key.keyid: release_key}, {ROLE: role})
    )
    raw_root = signed(root, signer("root"))
    (STATE / "root.json").write_bytes(raw_root)
    answer = stub.PublishRoot(
        pb.PublishRootRequest(
            request_id=request_id(),
            root=raw_root,
            targets=signed(targets, signer("root")),
            roles={ROLE: signed(Targets(expires=expires(90)), signer("release"))},
        )
    )
    print(f"root version {answer.root_version}")


def host_token(name):
    pb, stub = operators()
    answer = stub.CreateToken(
        pb.CreateTokenRequest(
            request_id=request_id(),
            host=pb.HostToken(application=APP, environment=ENVIRONMENT, name=name),
        )
    )
    fields = {
        "id": answer.token_id,
        "secret": answer.secret,
        "ca": answer.ca,
        # From this program's own trusted file, never from the controller.
        "root": hashlib.sha256((STATE / "root.json").read_bytes()).hexdigest(),
        "kind": "host",
        # What the host is pinned to, whatever the controller says.
        "application": APP,
        "environment": ENVIRONMENT,
        "host": name,
    }
    print("lft1_" + base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("="))


def canonical(value):
    return encode_canonical(value).encode()


def pack(directory, objects):
    """The digest and size of a directory object; every object on the way goes to `objects`."""
    entries = {}
    for path in sorted(directory.iterdir()):
        if path.is_symlink():
            entries[path.name] = {"type": "symlink", "target": os.readlink(path)}
        elif path.is_dir():
            digest, size = pack(path, objects)
            entries[path.name] = {"type": "directory", "digest": digest, "size": size}
        else:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            objects[digest] = content
            executable = bool(path.stat().st_mode & stat.S_IXUSR)
            entries[path.name] = {
                "type": "file", "digest": digest, "size": len(content), "executable": executable
            }
    content = canonical({"entries": entries})
    digest = hashlib.sha256(content).hexdigest()
    objects[digest] = content
    return digest, len(content)


def manifest(name, tree, directory):
    files = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    check = {"type": "exec", "command": ["test", "-s", "{current}/index.html"]}
    return {
        "format": 1,
        "application": APP,
        "release": name,
        "origin": {"type": "artifact"},
        "tree": tree,
        "file_count": len(files),
        "total_bytes": sum(path.stat().st_size for path in files),
        "program": {
            "checks": [{"name": "page", "probe": check, "interval_ms": 200, "timeout_ms": 2000}],
            "shared": {},
            "retention": {"releases": 3},
        },
        "environments": {
            ENVIRONMENT: {
                "kind": "rolling",
                "canary": 1,
                "batch": {"percent": 50},
                "max_unavailable": {"count": 1},
                "min_healthy_ms": 500,
                "healthy_deadline_ms": 30000,
                "progress_deadline_ms": 60000,
                "failure_budget": {"count": 0},
                "auto_rollback": True,
            }
        },
    }


def upload(pb, stub, objects):
    missing = stub.MissingObjects(pb.MissingObjectsRequest(digests=sorted(objects))).missing

    def chunks():
        for item in missing:
            data = zstandard.ZstdCompressor().compress(objects[item.digest])[item.offset:]
            starts = range(0, max(len(data), 1), CHUNK)
            for start in starts:
                yield pb.PutObjectsRequest(
                    digest=item.digest if start == 0 else "",
                    offset=item.offset if start == 0 else 0,
                    data=data[start:start + CHUNK],
                    last=start == starts[-1],
                )

    answer = stub.PutObjects(chunks())
    print(f"{answer.stored} objects stored, {len(objects) - len(missing)} were there")


def release(name, directory):
    pb, stub = operators()
    objects = {}
    tree, _ = pack(directory, objects)
    content = canonical(manifest(name, tree, directory))
    upload(pb, stub, objects)

    # The application's role metadata as it stands, by way of timestamp and snapshot.
    def file(name):
        return stub.GetRepositoryFile(pb.GetRepositoryFileRequest(name=name)).content

    timestamp = Metadata[Timestamp].from_bytes(file("timestamp.json")).signed
    snapshot = Metadata[Snapshot].from_bytes(file(f"{timestamp.snapshot_meta.version}.snapshot.json")).signed
    version = snapshot.meta[f"{ROLE}.json"].version
    role = Metadata[Targets].from_bytes(file(f"{version}.apps%2Fsite.json"))
    body = role.signed
    body.version += 1
    body.expires = expires(90)
    target = TargetFile.from_data(f"{APP}/{name}", content, ["sha256"])
    target.unrecognized_fields["custom"] = {"app": APP, "release": name, "counter": len(body.targets) + 1}
    body.targets[target.path] = target
    published = stub.PublishRelease(
        pb.PublishReleaseRequest(
            request_id=request_id(),
            manifest=content,
            role_metadata=signed(body, signer("release")),
            notes="From a program of somebody else's.",
        )
    )
    print(f"{published.release.name} is release {published.release.counter}")

    plan = stub.PlanRollout(pb.PlanRolloutRequest(application=APP, environment=ENVIRONMENT, release=name))
    assert not plan.refusals, plan.refusals
    request = pb.StartRolloutRequest(
        request_id=request_id(), application=APP, environment=ENVIRONMENT, release=name, plan_id=plan.plan_id
    )
    rollout = stub.StartRollout(request).rollout
    again = stub.StartRollout(request).rollout
    assert again.id == rollout.id, "the same request began a second rollout"
    last = None
    for update in stub.WatchRollout(pb.WatchRolloutRequest(rollout=rollout.id), timeout=120):
        last = update.rollout
        print(pb.RolloutStatus.Name(last.status), "; ".join(last.reasons))
    assert last is not None and last.status == pb.ROLLOUT_STATUS_SUCCEEDED, last
    entries = stub.ReadLog(pb.ReadLogRequest(last=True, limit=50)).entries
    kinds = [entry.kind for entry in entries]
    assert "rollout_started" in kinds and "rollout_finished" in kinds, kinds
    print("succeeded")


def refused(name):
    """What a client is told that asks for something that is not there."""
    pb, stub = operators()
    try:
        stub.StartRollout(
            pb.StartRolloutRequest(
                request_id=request_id(), application=APP, environment=ENVIRONMENT, release=name
            )
        )
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
        assert details, "no google.rpc details"
        print(error.code().name, error.details())
    else:
        raise SystemExit("a release that does not exist was taken")


def main():
    STATE.mkdir(parents=True, exist_ok=True)
    if not (STATE / "generated").exists():
        generate()
    sys.path.insert(0, str(STATE / "generated"))
    command, *arguments = sys.argv[2:]
    if command == "release":
        release(arguments[0], Path(arguments[1]))
    else:
        {"enrol": enrol, "publish-root": publish_root, "host-token": host_token, "refused": refused}[command](
            *arguments
        )


main()
