# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The port-forward on a real cluster, with a kubelet and MinIO in a pod.

Needs KUBECONFIG of an administrator, and MINIO_ACCESS_KEY and MINIO_SECRET_KEY in the environment or in .lab/minio.env; MinIO is the Service
minio in namespace model-storage, port 9000.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dotenv
import kubernetes
import minio
import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import EndpointError, reach

NAMESPACE, SERVICE, PORT = "model-storage", "minio", 9000
URL = f"http://{SERVICE}.{NAMESPACE}.svc:{PORT}"


@pytest.fixture(scope="session")
def admin():
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("KUBECONFIG is not set: start the lab (make lab-up) and name its kubeconfig", pytrace=False)
    return _kube.connect({})


@pytest.fixture(scope="session")
def core(admin):
    return kubernetes.client.CoreV1Api(admin)


@pytest.fixture(scope="session")
def credentials():
    values = {**dotenv.dotenv_values(Path(__file__).parents[2] / ".lab" / "minio.env", interpolate=False), **os.environ}
    missing = [key for key in ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY") if not values.get(key)]
    if missing:
        pytest.fail(f"{' and '.join(missing)} not set, neither in the environment nor in .lab/minio.env: start the lab (make lab-up)", pytrace=False)
    return {"access_key": values["MINIO_ACCESS_KEY"], "secret_key": values["MINIO_SECRET_KEY"]}


@pytest.fixture
def reached(admin):
    with reach(URL, lambda: admin) as reached:
        yield reached


@pytest.fixture
def service(core):
    """``service(target port)``: another Service before the pods of MinIO; returns its URL."""
    names = []
    selector = core.read_namespaced_service(SERVICE, NAMESPACE).spec.selector

    def create(target_port, **spec):
        names.append(f"test-{secrets.token_hex(4)}")
        body = {
            "metadata": {"name": names[-1]},
            "spec": {"selector": selector, "ports": [{"name": "x", "port": 80, "targetPort": target_port}], **spec},
        }
        core.create_namespaced_service(NAMESPACE, body)
        slices = kubernetes.client.DiscoveryV1Api(core.api_client)
        deadline = time.monotonic() + 20
        while not slices.list_namespaced_endpoint_slice(NAMESPACE, label_selector=f"kubernetes.io/service-name={names[-1]}").items:
            assert time.monotonic() < deadline, "the EndpointSlice controller does not run"
            time.sleep(0.05)
        return f"http://{names[-1]}.{NAMESPACE}.svc"

    yield create
    for name in names:
        core.delete_namespaced_service(name, NAMESPACE)


def run_module(credentials, **arguments):
    arguments = {"endpoint": URL, **credentials, **arguments}
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            "import runpy; runpy.run_module('ansible_collections.private_ai.model_monitoring.plugins.modules.minio_bucket', run_name='__main__')",
        ],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(_kube.__file__).parents[5])},
        text=True,
        timeout=120,
        check=False,
    )
    output = process.stdout + process.stderr
    assert credentials["secret_key"] not in output
    assert "Traceback" not in output
    return json.loads(process.stdout)


def test_bucket_through_the_cluster(credentials):
    bucket = {"name": f"b-{secrets.token_hex(6)}", "versioning": "enabled", "tags": {"a": "b"}, "lifecycle_expiry_days": 3}
    assert run_module(credentials, **bucket)["changed"] is True
    assert run_module(credentials, **bucket)["changed"] is False
    assert run_module(credentials, name=bucket["name"], state="absent")["actions"] == ["delete"]
    assert run_module(credentials, name=bucket["name"], state="absent")["changed"] is False


def test_error_of_s3_through_the_cluster_names_the_url_that_was_given(credentials):
    result = run_module({**credentials, "secret_key": secrets.token_hex(20)}, name="tempo-traces")
    assert result["msg"] == f"secret_key: it does not belong to access_key, says the object store at {URL}: correct it"


def test_nothing_listens_on_the_port(credentials, service):
    begin = time.monotonic()
    result = run_module(credentials, name="tempo-traces", endpoint=service(9999))
    assert result["msg"].startswith("endpoint: nothing listens on port 9999 of pod minio"), result["msg"]
    assert time.monotonic() - begin < 20


def test_connections_to_a_port_that_nobody_listens_on_end_at_once(admin, service):
    with (
        pytest.raises(EndpointError, match="nothing listens on port 9999"),
        reach(service(9999), lambda: admin) as reached,
        socket.create_connection((reached.host, reached.port), timeout=10) as sock,
    ):
        assert sock.recv(1) == b""
        raise ConnectionError


def test_named_target_port(core, admin, service):
    pod = core.list_namespaced_pod(NAMESPACE, label_selector="app=minio").items or core.list_namespaced_pod(NAMESPACE).items
    name = next(port.name for container in pod[0].spec.containers for port in container.ports if port.container_port == PORT)
    assert name, "the container port of MinIO has no name"
    with reach(service(name), lambda: admin) as reached:
        assert get(reached, "/minio/health/live")[0] == 200


def test_headless_service(admin, service):
    with reach(service(PORT, clusterIP="None"), lambda: admin) as reached:
        assert get(reached, "/minio/health/live")[0] == 200


def get(reached, path, close=False):
    connection = http.client.HTTPConnection(reached.host, reached.port, timeout=20)
    connection.request("GET", path, headers={"Connection": "close"} if close else {})
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def test_answer_and_close_is_never_cut(reached):
    """What the client's own pump loses: a server that answers and closes."""
    answers = [get(reached, "/", close=True)[1] for _ in range(50)]
    assert {(answer[:5], answer[-8:]) for answer in answers} == {(b"<?xml", b"</Error>")}


def test_many_connections_at_once(reached):
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda _: get(reached, "/minio/health/live")[0], range(64))) == [200] * 64


def test_large_transfers_in_parallel(reached, credentials):
    client = minio.Minio(f"{reached.host}:{reached.port}", **credentials, secure=False)
    bucket = f"b-{secrets.token_hex(6)}"
    client.make_bucket(bucket)
    body = os.urandom(8 * 1024 * 1024)

    def there_and_back(number):
        client.put_object(bucket, str(number), io.BytesIO(body), len(body))
        response = client.get_object(bucket, str(number))
        digest = hashlib.sha256(response.read()).digest()
        response.close()
        response.release_conn()
        client.remove_object(bucket, str(number))
        return digest

    try:
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(there_and_back, range(4))) == {hashlib.sha256(body).digest()}
    finally:
        client.remove_bucket(bucket)


def test_client_that_closes_its_side_still_gets_the_answer(reached):
    with socket.create_connection((reached.host, reached.port), timeout=20) as sock:
        sock.sendall(b"GET /minio/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while data := sock.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 200")


def test_nothing_is_left_behind(admin):
    before = set(threading.enumerate())
    with reach(URL, lambda: admin) as reached:
        connection = http.client.HTTPConnection(reached.host, reached.port, timeout=20)
        connection.request("GET", "/minio/health/live")
        assert connection.getresponse().read() == b""
        begin = time.monotonic()
    assert time.monotonic() - begin < 1
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((reached.host, reached.port), timeout=5)
