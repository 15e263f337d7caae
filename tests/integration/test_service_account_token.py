# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""service_account_token against a real API server, which is the one to say whether a token is good."""

from __future__ import annotations

import base64
import json

import pytest

ACCOUNTS = "/api/v1/namespaces/{}/serviceaccounts"


@pytest.fixture
def account(cluster, namespace):
    cluster.create(ACCOUNTS.format(namespace), {"metadata": {"name": "reader"}})
    return {"name": "reader", "namespace": namespace, "secret": "reader-token"}


def token(cluster, namespace):
    return base64.b64decode(cluster.get(f"/api/v1/namespaces/{namespace}/secrets/reader-token")["data"]["token"]).decode()


def reviewed(cluster, namespace):
    """What the API server says of the token in the Secret."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token(cluster, namespace)}}
    return cluster.create("/apis/authentication.k8s.io/v1/tokenreviews", body)["status"]


def test_minted_kept_and_minted_anew(run, cluster, namespace, account):
    first = run("service_account_token", **account, expiration_seconds=7200)
    assert (first["changed"], first["reason"]) == (True, "there is no token yet")
    status = reviewed(cluster, namespace)
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:reader"
    assert token(cluster, namespace) not in json.dumps(first)

    again = run("service_account_token", **account, expiration_seconds=7200)
    assert (again["changed"], again["token_id"], again["expires"], again["diff"]) == (False, first["token_id"], first["expires"], {})

    cluster.merge(f"/api/v1/namespaces/{namespace}/secrets/reader-token", {"data": {"token": base64.b64encode(b"spoiled").decode()}})
    mended = run("service_account_token", **account, expiration_seconds=7200)
    assert (mended["changed"], mended["reason"]) == (True, "what is kept is not a bound token")
    assert mended["token_id"] != first["token_id"]
    assert reviewed(cluster, namespace)["authenticated"] is True


def test_an_account_that_was_created_anew(run, cluster, namespace, account):
    run("service_account_token", **account)
    cluster.delete(f"{ACCOUNTS.format(namespace)}/reader")
    cluster.create(ACCOUNTS.format(namespace), {"metadata": {"name": "reader"}})
    assert "authenticated" not in reviewed(cluster, namespace)
    assert run("service_account_token", **account)["reason"] == "the service account was created anew since"
    assert reviewed(cluster, namespace)["authenticated"] is True


def test_check_mode_mints_nothing(start, cluster, namespace, account):
    made = start("service_account_token", check=True, **account).result()
    assert (made["changed"], made["expires"]) == (True, None)
    assert "good until (a new one)" in made["diff"]["after"]
    names = [item["metadata"]["name"] for item in cluster.get(f"/api/v1/namespaces/{namespace}/secrets")["items"]]
    assert "reader-token" not in names


def test_no_such_account(start, namespace):
    made = start("service_account_token", name="nobody", namespace=namespace, secret="nobody-token").result()
    assert made["msg"] == f"ServiceAccount {namespace}/nobody does not exist: create it, or correct its name"
