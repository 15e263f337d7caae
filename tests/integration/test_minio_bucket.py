# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""minio_bucket against a real MinIO, run as Ansible runs a module: a process of its own with arguments as JSON.

MINIO_BINARY names the server's program. What the module says it did is checked with a client of the test's own.
"""

from __future__ import annotations

import datetime
import http.server
import io
import ipaddress
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import minio
import pytest
import urllib3
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _bucket
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import Reached
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from minio.commonconfig import GOVERNANCE
from minio.retention import Retention
from minio.versioningconfig import VersioningConfig

MODULE = "private_ai.model_monitoring.minio_bucket"
COLLECTIONS = str(Path(_bucket.__file__).parents[5])
SERVICE_HOST = "minio.model-storage.svc"


# Servers


def certificate_authority(folder: Path) -> SimpleNamespace:
    """A CA of its own: ``file`` is its PEM; ``issue(folder, *hosts)`` writes MinIO's public.crt and private.key."""
    now = datetime.datetime.now(datetime.timezone.utc)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test CA")])

    def build(name, key, *extensions):
        builder = x509.CertificateBuilder(
            issuer_name=ca_name, subject_name=name, public_key=key.public_key(), serial_number=x509.random_serial_number()
        )
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(target: Path, *hosts: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts]
        target.mkdir(parents=True)
        (target / "public.crt").write_bytes(build(x509.Name([]), key, (x509.SubjectAlternativeName(names), True)))
        (target / "private.key").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )

    file = folder / "ca.pem"
    file.write_bytes(build(ca_name, ca_key, (x509.BasicConstraints(ca=True, path_length=None), True)))
    return SimpleNamespace(file=str(file), issue=issue)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """A MinIO process of its own, with generated credentials."""

    def __init__(self, folder: Path, certs: Path | None = None) -> None:
        binary = os.environ.get("MINIO_BINARY")
        if not binary:
            pytest.fail("MINIO_BINARY is not set: build the lab (make lab-build) and name its MinIO program", pytrace=False)
        self.access_key, self.secret_key = "AK" + secrets.token_hex(9), secrets.token_hex(20)
        self.address, self.console = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.scheme = "https" if certs else "http"
        self.url = f"{self.scheme}://{self.address}"
        folder.mkdir()
        self._log = (folder / "log").open("w+")
        self._process = subprocess.Popen(
            [
                binary,
                "server",
                str(folder / "data"),
                "--address",
                self.address,
                "--console-address",
                self.console,
                "--certs-dir",
                str(certs or folder),
            ],
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 30
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                self._log.seek(0)
                pytest.fail(f"MinIO does not start:\n{self._log.read()}", pytrace=False)
            time.sleep(0.05)

    def _ready(self) -> bool:
        context = ssl._create_unverified_context() if self.scheme == "https" else None
        try:
            return urllib.request.urlopen(f"{self.url}/minio/health/ready", timeout=5, context=context).status == 200
        except OSError:
            return False

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def client(self) -> minio.Minio:
        pool = urllib3.PoolManager(cert_reqs="CERT_NONE", maxsize=32)
        return minio.Minio(self.address, self.access_key, self.secret_key, secure=self.scheme == "https", http_client=pool)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("minio") / "plain")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    return certificate_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def tls_server(tmp_path_factory, ca):
    """MinIO with TLS; its certificate is for localhost and for the name of a Service, not for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("minio-tls")
    ca.issue(folder / "certs", "localhost", SERVICE_HOST)
    server = Server(folder / "tls", folder / "certs")
    server.url = server.url.replace("127.0.0.1", "localhost")
    yield server
    server.stop()


@pytest.fixture
def bucket(request, server):
    """A name of its own for every test; whatever the test leaves there does not matter."""
    return f"b-{secrets.token_hex(8)}"


@pytest.fixture
def client(server):
    return server.client()


# The module


class Run:
    """One run of the module: ``result`` as it printed it, ``output`` all that it printed, ``seconds`` that it took."""

    def __init__(self, arguments: dict, check: bool = False) -> None:
        arguments = {**arguments, "_ansible_check_mode": check, "_ansible_diff": True, "_ansible_verbosity": 3}
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("K8S_AUTH_", "KUBE"))}
        environment["PYTHONPATH"] = COLLECTIONS
        begin = time.monotonic()
        process = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import runpy; runpy.run_module('ansible_collections.{MODULE.rsplit('.', 1)[0]}.plugins.modules.minio_bucket', run_name='__main__')",
            ],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.seconds = time.monotonic() - begin
        self.output = process.stdout + process.stderr
        try:
            self.result = json.loads(process.stdout)
        except ValueError:
            pytest.fail(f"no result: {self.output}")
        self.result.pop("invocation", None)
        assert process.returncode == (1 if self.result.get("failed") else 0)

    @property
    def changed(self) -> bool:
        assert not self.result.get("failed"), self.result
        return self.result["changed"]

    @property
    def message(self) -> str:
        """The error; it must be one line, without a traceback beside it."""
        assert self.result.get("failed"), self.result
        assert "\n" not in self.result["msg"]
        assert "Traceback" not in self.output
        return self.result["msg"]


@pytest.fixture
def run(server, bucket):
    """``run(check=..., **arguments)`` on the test's bucket with the right credentials, which must not show up in any output."""

    def run_module(check=False, **arguments):
        arguments = {"name": bucket, "endpoint": server.url, "access_key": server.access_key, "secret_key": server.secret_key, **arguments}
        done = Run(arguments, check)
        for key in ("access_key", "secret_key"):
            assert not arguments[key] or arguments[key] not in done.output
        return done

    return run_module


def versions_of(client, bucket):
    return list(client.list_objects(bucket, recursive=True, include_version=True))


def put(client, bucket, name, **kwargs):
    return client.put_object(bucket, name, io.BytesIO(b"x"), 1, **kwargs)


def lifecycle_of(client, bucket):
    """The rules as canonical XML by ID, read past the client's own classes (they do not know all there is)."""
    response = client._execute("GET", bucket, query_params={"lifecycle": ""})
    rules = [rule for rule in ElementTree.fromstring(response.data.decode()) if rule.tag.endswith("Rule")]
    return {
        next(part.text for part in rule if part.tag.endswith("ID")): ElementTree.canonicalize(ElementTree.tostring(rule, encoding="unicode"))
        for rule in rules
    }


def set_lifecycle(client, bucket, *rules):
    body = f"<LifecycleConfiguration>{''.join(rules)}</LifecycleConfiguration>".encode()
    headers = {"Content-MD5": minio.helpers.md5sum_hash(body)}
    client._execute("PUT", bucket, body=body, headers=headers, query_params={"lifecycle": ""})


# Creating and changing


def test_create_and_create_again(run, client, bucket):
    planned = run(check=True)
    assert planned.changed
    assert planned.result["actions"] == ["create"]
    assert planned.result["diff"] == {"before": {"name": bucket, "state": "absent"}, "after": {"name": bucket, "state": "present"}}
    assert not client.bucket_exists(bucket)

    done = run()
    assert {key: done.result[key] for key in ("changed", "actions", "bucket", "diff")} == {
        key: planned.result[key] for key in ("changed", "actions", "bucket", "diff")
    }
    assert client.bucket_exists(bucket)

    again = run()
    assert not again.changed
    assert again.result["actions"] == []
    assert again.result["diff"]["before"] == again.result["diff"]["after"] == {"name": bucket, "state": "present"}
    assert not run(check=True).changed


SETTINGS = {"versioning": "enabled", "object_lock": True, "lifecycle_expiry_days": 7, "tags": {"team": "monitoring", "cost centre": "a+b/c=1"}}


def test_all_settings_at_once(run, client, bucket):
    assert run(**SETTINGS).result["bucket"] == {"name": bucket, "state": "present", **SETTINGS}
    assert client.get_bucket_versioning(bucket).status == "Enabled"
    assert client.get_object_lock_config(bucket) is not None
    assert dict(client.get_bucket_tags(bucket)) == SETTINGS["tags"]
    assert client.get_bucket_lifecycle(bucket).rules[0].expiration.days == 7
    assert client.get_bucket_lifecycle(bucket).rules[0].noncurrent_version_expiration.noncurrent_days == 7
    again = run(**SETTINGS)
    assert not again.changed
    assert again.result["bucket"] == {"name": bucket, "state": "present", **SETTINGS}


@pytest.mark.parametrize(
    ("first", "then", "shown"),
    [
        ({"versioning": "enabled"}, {"versioning": "suspended"}, None),
        ({}, {"versioning": "suspended"}, {"versioning": "off"}),
        ({"versioning": "suspended"}, {"versioning": "enabled"}, None),
        ({}, {"lifecycle_expiry_days": 3}, {"lifecycle_expiry_days": 0}),
        ({"lifecycle_expiry_days": 3}, {"lifecycle_expiry_days": 4}, None),
        ({"lifecycle_expiry_days": 3}, {"lifecycle_expiry_days": 0}, None),
        ({}, {"tags": {"a": "1"}}, {"tags": {}}),
        ({"tags": {"a": "1"}}, {"tags": {"b": "2"}}, None),
        ({"tags": {"a": "1"}}, {"tags": {}}, None),
    ],
)
def test_change_of_one_setting(run, bucket, first, then, shown):
    run(**first)
    base = {"name": bucket, "state": "present"}
    expected = {"before": {**base, **(shown or first)}, "after": {**base, **then}}

    planned = run(check=True, **then)
    assert planned.changed
    assert planned.result["diff"] == expected
    assert run(check=True, **then).result["diff"] == expected  # nothing was changed by looking

    done = run(**then)
    assert done.changed
    assert done.result["diff"] == expected
    again = run(**then)
    assert not again.changed
    assert again.result["diff"] == {"before": expected["after"], "after": expected["after"]}


def test_what_is_not_asked_for_stays(run, client, bucket):
    run(**SETTINGS)
    assert not run().changed
    assert not run(tags=SETTINGS["tags"]).changed
    assert run(tags={}).result["actions"] == ["tags"]
    assert client.get_bucket_versioning(bucket).status == "Enabled"
    assert client.get_bucket_lifecycle(bucket).rules[0].expiration.days == 7


THEIRS = (
    "<Rule><ID>theirs</ID><Status>Enabled</Status><Filter><And><Prefix>logs/</Prefix><ObjectSizeGreaterThan>1024</ObjectSizeGreaterThan></And></Filter>"
    "<Expiration><Days>3</Days></Expiration></Rule>",
    "<Rule><ID>markers</ID><Status>Enabled</Status><Filter><Prefix>old/</Prefix></Filter><DelMarkerExpiration><Days>5</Days></DelMarkerExpiration></Rule>",
    "<Rule><ID>off</ID><Status>Disabled</Status><Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter><Expiration><Days>9</Days></Expiration></Rule>",
)


def test_tag_that_minio_does_not_accept(run):
    assert run(tags={"team": "grün"}).message.startswith("tags: the object store does not accept them (The TagValue you have provided is invalid)")


def test_lifecycle_rules_of_others_are_kept(run, client, bucket):
    client.make_bucket(bucket)
    set_lifecycle(client, bucket, *THEIRS)
    theirs = lifecycle_of(client, bucket)
    assert set(theirs) == {"theirs", "markers", "off"}

    for days in (7, 8):
        assert run(lifecycle_expiry_days=days).changed
        assert not run(lifecycle_expiry_days=days).changed
        rules = lifecycle_of(client, bucket)
        assert f"<Days>{days}</Days>" in rules.pop("private_ai.model_monitoring")
        assert rules == theirs
    assert run(lifecycle_expiry_days=0).changed
    assert not run(lifecycle_expiry_days=0).changed
    assert lifecycle_of(client, bucket) == theirs


def test_own_rule_that_somebody_changed_is_repaired(run, client, bucket):
    run(lifecycle_expiry_days=7)
    set_lifecycle(
        client,
        bucket,
        "<Rule><ID>private_ai.model_monitoring</ID><Status>Disabled</Status><Filter><Prefix/></Filter><Expiration><Days>7</Days></Expiration></Rule>",
    )
    done = run(lifecycle_expiry_days=7)
    assert done.changed
    assert "changed by somebody" in done.result["diff"]["before"]["lifecycle_expiry_days"]
    assert not run(lifecycle_expiry_days=7).changed


def test_bucket_with_dots(run, client):
    name = f"a.b-{secrets.token_hex(4)}.c"
    assert run(name=name).changed
    assert client.bucket_exists(name)
    assert not run(name=name).changed


# Object lock


def test_object_lock_only_when_created(run, client, bucket):
    client.make_bucket(bucket)
    assert "exists without object lock, which S3 can set only when a bucket is created" in run(object_lock=True).message
    assert "exists without object lock" in run(check=True, object_lock=True).message
    assert not run(object_lock=False).changed


def test_object_lock_cannot_be_taken_away(run, client, bucket):
    client.make_bucket(bucket, object_lock=True)
    assert "has object lock, which S3 cannot take away" in run(object_lock=False).message
    assert "has object lock, which needs versioning" in run(versioning="suspended").message
    assert not run(object_lock=True, versioning="enabled").changed


# Deleting


def test_delete_what_is_not_there(run):
    assert not run(state="absent").changed
    assert not run(state="absent", force=True).changed


def test_delete_an_empty_bucket(run, client, bucket):
    client.make_bucket(bucket)
    planned = run(check=True, state="absent")
    assert planned.changed
    assert planned.result["diff"] == {"before": {"name": bucket, "state": "present", "empty": True}, "after": {"name": bucket, "state": "absent"}}
    assert client.bucket_exists(bucket)
    assert run(state="absent").result["actions"] == ["delete"]
    assert not client.bucket_exists(bucket)


def an_object(client, bucket):
    put(client, bucket, "folder/object")


def only_a_delete_marker(client, bucket):
    client.set_bucket_versioning(bucket, VersioningConfig("Enabled"))
    version = put(client, bucket, "object").version_id
    client.remove_object(bucket, "object")
    client.remove_object(bucket, "object", version)
    assert [item.is_delete_marker for item in versions_of(client, bucket)] == [True]


def older_versions(client, bucket):
    client.set_bucket_versioning(bucket, VersioningConfig("Enabled"))
    for _ in range(3):
        put(client, bucket, "object")
    client.remove_object(bucket, "object")


def difficult_names(client, bucket):
    for name in ("a b", "a+b", "ü/ß", "a&b<c>", "%41", "quote\"'"):
        put(client, bucket, name)


def more_than_one_page(client, bucket):
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: put(client, bucket, f"object-{number}"), range(1100)))


@pytest.mark.parametrize("fill", [an_object, only_a_delete_marker, older_versions, difficult_names, more_than_one_page])
def test_a_bucket_that_is_not_empty_is_deleted_only_by_force(run, client, bucket, fill):
    client.make_bucket(bucket)
    fill(client, bucket)
    content = {(item.object_name, item.version_id) for item in versions_of(client, bucket)}

    assert f"bucket '{bucket}' is not empty" in run(state="absent").message
    assert f"bucket '{bucket}' is not empty" in run(check=True, state="absent").message
    planned = run(check=True, state="absent", force=True)
    assert planned.result["actions"] == ["empty", "delete"]
    assert {(item.object_name, item.version_id) for item in versions_of(client, bucket)} == content

    assert run(state="absent", force=True).changed
    assert not client.bucket_exists(bucket)


def test_what_is_under_retention_stays(run, client, bucket):
    client.make_bucket(bucket, object_lock=True)
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    put(client, bucket, "kept", retention=Retention(GOVERNANCE, until))
    message = run(state="absent", force=True).message
    assert f"bucket '{bucket}': 1 of its objects cannot be deleted, the first is 'kept'" in message
    assert "end its retention or legal hold" in message
    assert len(versions_of(client, bucket)) == 1


# Bad input and bad days


def test_wrong_access_key(run, server):
    done = run(access_key="AK" + secrets.token_hex(9))
    assert done.message == f"access_key: the object store at {server.url} does not know this access key: correct it"
    assert done.seconds < 10


def test_wrong_secret_key(run, server):
    done = run(secret_key=secrets.token_hex(20))
    assert done.message == f"secret_key: it does not belong to access_key, says the object store at {server.url}: correct it"


@pytest.mark.parametrize("region", ["us-east-1", "eu-north-9"])
def test_wrong_secret_key_with_a_region(run, region):
    assert run(secret_key=secrets.token_hex(20), region=region).message.startswith("secret_key: ")


@pytest.mark.parametrize("key", ["access_key", "secret_key"])
def test_empty_credentials(run, key):
    assert run(**{key: ""}).message.startswith(f"{key}: it is empty")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "Tempo_Bucket"}, "name: 'Tempo_Bucket' is not a valid bucket name: it may hold only lower-case letters"),
        ({"endpoint": "{address}"}, "endpoint: '{address}' has no scheme: put http:// or https:// in front"),
        ({"endpoint": "s3://{address}"}, "endpoint: 's3://{address}' has scheme 's3': use http or https"),
        ({"endpoint": "http://{address}/minio"}, "endpoint: 'http://{address}/minio' has a path, which S3 does not allow"),
        ({"region": "no region"}, "endpoint or region: invalid region no region: correct it"),
        ({"via": "port_forward"}, "endpoint: '127.0.0.1' is not a Service, which via=port_forward needs"),
        ({"endpoint": "https://{address}", "s3_ca_cert": "/does/not/exist"}, "s3_ca_cert: cannot read '/does/not/exist'"),
        ({"tags": {"a": True}}, "tags: the value of 'a' is not a text"),
        ({"lifecycle_expiry_days": -1}, "lifecycle_expiry_days: -1 is not a number of days"),
        ({"object_lock": True, "versioning": "suspended"}, "versioning: object_lock=true needs versioning"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_bad_input_is_found_before_any_connection(run, arguments, message, check):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        arguments = {key: value.format(address=address) if isinstance(value, str) else value for key, value in arguments.items()}
        assert message.format(address=address) in run(check=check, **{"endpoint": f"http://{address}", **arguments}).message
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_nothing_listens(run):
    url = f"http://127.0.0.1:{free_port()}"
    done = run(endpoint=url)
    assert done.message == f"endpoint: nothing listens at {url}: correct host and port, or start the object store"
    assert done.seconds < 10


def test_unknown_host(run):
    done = run(endpoint="http://no-such-host.invalid:9000")
    assert "endpoint: the host 'no-such-host.invalid' of http://no-such-host.invalid:9000 is not known here" in done.message
    assert done.seconds < 20


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_server_that_never_answers(run, scheme):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        done = run(endpoint=url, timeout=2)
    assert done.message == f"endpoint: {url} does not answer in time: look at network, firewall and object store, or raise timeout"
    assert done.seconds < 8


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers as the test says."""

    def _answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.server.answer
        status, content_type, body = answer.get(self.command) if isinstance(answer, dict) else answer
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_DELETE = _answer

    def log_message(self, *args):
        pass


@pytest.fixture
def web_server():
    """A web server that is not MinIO; ``answer`` is (status, content type, body), or such by HTTP method."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as web:
        web.url = f"http://127.0.0.1:{web.server_address[1]}"
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield web
        web.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        (404, "text/html", b"<html>not found</html>"),
        (200, "text/html", b"<!doctype html><html><br></html>"),
        (200, "application/json", b"{}"),
        (404, "application/json", b'{"message": "no"}'),
        (403, None, b""),
        (404, "application/xml", b"<html><br>"),
        (200, "application/xml", b""),
        (404, "text/html", b"\xff\xfe"),
    ],
)
@pytest.mark.parametrize("region", [None, "us-east-1"])
def test_endpoint_that_is_not_s3(run, web_server, answer, region):
    web_server.answer = answer
    message = run(endpoint=web_server.url, region=region).message
    assert message.startswith(f"endpoint: what answers at {web_server.url} is not an S3 API")
    assert message.endswith(": give the address of the object store's API (MinIO: port 9000, not the console's)")


def s3_error(status, code, message="because"):
    return status, "application/xml", f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


@pytest.mark.parametrize("status", [500, 503])
def test_server_in_trouble(run, web_server, status):
    web_server.answer = s3_error(status, "SlowDown", "Please reduce your\nrequest rate.")
    done = run(endpoint=web_server.url)
    assert "answers SlowDown while looking at it (Please reduce your request rate): look at its log" in done.message
    assert done.seconds < 10


@pytest.mark.parametrize("status", [500, 503])
def test_proxy_in_trouble(run, web_server, status):
    web_server.answer = (status, "text/html", b"<html>no upstream</html>")
    assert f"endpoint: {web_server.url} answers HTTP {status} while looking at it" in run(endpoint=web_server.url).message


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (409, "BucketAlreadyExists", "name: bucket '{bucket}' already belongs to somebody else: choose another name"),
        (409, "BucketAlreadyOwnedByYou", "name: bucket '{bucket}' already belongs to this user, who has just created it in another run: run again"),
        (403, "AccessDenied", "bucket '{bucket}': access denied while creating it: it belongs to somebody else, or the policy of access_key"),
        (400, "InvalidBucketName", "name: the object store does not accept '{bucket}' as a bucket name"),
        (400, "InvalidRegion", "region: the object store at {url} does not accept it (InvalidRegion: because): correct it"),
        (400, "TooManyBuckets", "bucket '{bucket}': the object store at {url} answers TooManyBuckets while creating it (because): look at its log"),
    ],
)
def test_what_other_object_stores_answer_to_a_creation(run, web_server, bucket, status, code, message):
    """MinIO has no owners of buckets, so the answers are those of Amazon S3's reference."""
    web_server.answer = {"GET": s3_error(404, "NoSuchBucket"), "PUT": s3_error(status, code)}
    assert message.format(bucket=bucket, url=web_server.url) in run(endpoint=web_server.url).message


@pytest.mark.parametrize("code", ["AuthorizationHeaderMalformed", "PermanentRedirect"])
def test_wrong_region(run, web_server, code):
    web_server.answer = s3_error(400, code)
    message = run(endpoint=web_server.url, region="eu-north-9").message
    assert message.startswith(f"region: the object store at {web_server.url} does not accept it ({code}")


def test_console_of_minio_is_not_s3(run, server):
    assert "is not an S3 API" in run(endpoint=f"http://{server.console}").message


def user_with_policy(server, *statements):
    """A user of MinIO who may do what ``statements`` say and nothing else."""
    credentials = minio.credentials.StaticProvider(server.access_key, server.secret_key)
    admin = minio.MinioAdmin(endpoint=server.address, credentials=credentials, secure=False)
    access_key, secret_key = "u-" + secrets.token_hex(6), secrets.token_hex(16)
    admin.user_add(access_key, secret_key)
    admin.policy_add(access_key, policy={"Version": "2012-10-17", "Statement": list(statements)})
    admin.policy_set(access_key, user=access_key)
    return {"access_key": access_key, "secret_key": secret_key}


def allow(bucket, *actions):
    return {"Effect": "Allow", "Action": list(actions), "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}


def test_bucket_of_somebody_else(run, client, server, bucket):
    client.make_bucket(bucket)
    user = user_with_policy(server, allow("own-bucket", "s3:*"))
    assert f"bucket '{bucket}': access denied while looking at it: it belongs to somebody else, or the policy" in run(**user).message
    assert "access denied while looking at it" in run(check=True, **user).message


def test_missing_permission_is_named(run, client, server, bucket):
    user = user_with_policy(server, allow(bucket, "s3:ListBucket", "s3:GetBucketLocation"))
    message = run(**user).message
    assert f"bucket '{bucket}': access denied while creating it" in message
    assert "does not allow s3:CreateBucket" in message
    client.make_bucket(bucket)
    assert "does not allow s3:GetBucketTagging" in run(tags={"a": "b"}, **user).message


def test_least_privilege_is_enough(run, server, bucket):
    user = user_with_policy(server, allow(bucket, "s3:ListBucket", "s3:GetBucketLocation", "s3:CreateBucket"))
    assert run(**user).changed
    assert not run(**user).changed


@pytest.mark.parametrize("hours", [1, -1])
def test_clocks_that_differ(server, bucket, monkeypatch, hours):
    """In this process, because only the client's idea of the time can be moved without rights on the machine."""
    shifted = datetime.timedelta(hours=hours)
    monkeypatch.setattr(minio.time, "utcnow", lambda: datetime.datetime.now(datetime.timezone.utc) + shifted)
    with pytest.raises(_bucket.BucketError) as caught:
        store(server, bucket).observe(_bucket.Wanted())
    assert f"clock: this machine and the object store at {server.url} differ" in str(caught.value)
    assert "set both clocks by NTP" in str(caught.value)
    assert server.secret_key not in str(caught.value)


def store(server, bucket, reached=None, **kwargs):
    host, port = server.address.split(":")
    reached = reached or Reached(server.url, host, int(port), host, False)
    return _bucket.Store(bucket, server.url, reached, access_key=server.access_key, secret_key=server.secret_key, **kwargs)


# TLS


def tls_arguments(tls_server):
    return {"endpoint": tls_server.url, "access_key": tls_server.access_key, "secret_key": tls_server.secret_key}


def test_tls_with_own_ca(run, tls_server, ca, bucket):
    arguments = {**tls_arguments(tls_server), "s3_ca_cert": ca.file}
    assert run(**arguments).changed
    assert not run(**arguments).changed
    assert tls_server.client().bucket_exists(bucket)


def test_tls_with_unknown_ca(run, tls_server):
    done = run(**tls_arguments(tls_server))
    assert done.message.startswith(f"s3_ca_cert: the certificate of {tls_server.url} is not trusted (")
    assert done.message.endswith("give the PEM file of the CA that signed it")
    assert done.seconds < 10


def test_tls_with_a_file_that_is_no_ca(run, tls_server, tmp_path):
    (tmp_path / "empty.pem").write_text("no certificate\n")
    assert "s3_ca_cert: the file holds no certificate in PEM" in run(**tls_arguments(tls_server), s3_ca_cert=str(tmp_path / "empty.pem")).message


def test_tls_with_another_name(run, tls_server, ca):
    url = f"https://{tls_server.address}"
    message = run(**{**tls_arguments(tls_server), "endpoint": url}, s3_ca_cert=ca.file).message
    assert f"endpoint: the certificate of {url} is not for '127.0.0.1'" in message


def test_http_to_a_tls_port(run, tls_server):
    url = tls_server.url.replace("https", "http")
    assert run(**{**tls_arguments(tls_server), "endpoint": url}).message == f"endpoint: {url} wants TLS: write https:// instead of http://"


def test_https_to_a_plain_port(run, server):
    url = server.url.replace("http", "https")
    assert run(endpoint=url).message == f"endpoint: {url} does not speak TLS: write http:// instead of https://, or switch TLS on"


def test_certificate_is_checked_for_the_service_behind_a_port_forward(tls_server, ca, bucket):
    """What a port-forward hands to the store: an address on loopback, and the name that was asked for."""
    host, port = tls_server.address.split(":")

    def observe(name, **kwargs):
        reached = Reached(f"https://{tls_server.address}", host, int(port), name, True)
        return store(tls_server, bucket, reached, **kwargs).observe(_bucket.Wanted())

    assert observe(SERVICE_HOST, ca_cert=ca.file) is None
    with pytest.raises(_bucket.BucketError, match="is not for 'other.model-storage.svc'"):
        observe("other.model-storage.svc", ca_cert=ca.file)
    with pytest.raises(_bucket.BucketError, match="^s3_ca_cert: "):
        observe(SERVICE_HOST)


# Through Ansible


@pytest.mark.parametrize("arguments", [{}, {"secret_key": "wrong-" + secrets.token_hex(12)}, {"endpoint": "https://127.0.0.1:1"}])
def test_no_credential_in_what_ansible_prints(server, bucket, tmp_path, arguments):
    """The real path, with the most talkative output; a credential on the command line would be the test's own leak, so it comes from a file."""
    values = {"name": bucket, "endpoint": server.url, "access_key": server.access_key, "secret_key": server.secret_key, **arguments}
    (tmp_path / "vars.yml").write_text(json.dumps({"arguments": values}))
    (tmp_path / "play.yml").write_text(
        json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [{"name": "Bucket", MODULE: "{{ arguments }}", "diff": True}]}])
    )
    process = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-vvvvv",
            "-i",
            "localhost,",
            "-c",
            "local",
            "-e",
            f"@{tmp_path}/vars.yml",
            "play.yml",
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": COLLECTIONS,
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_INJECT_FACT_VARS": "false",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    output = process.stdout + process.stderr
    assert "TASK [Bucket]" in output
    assert process.returncode == (2 if arguments else 0), output
    assert values["secret_key"] not in output
    assert values["access_key"] not in output
