# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""When a service account's token is minted anew, and that nothing of it is told."""

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _account_token
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._account_token import ANNOTATION, Wanted, claims, keep, why_renew
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError

NOW = 1_700_000_000
DAY = 24 * 3600
WANTED = Wanted("demo", "reader", "reader-token", "token", 30 * DAY)
SUBJECT = "system:serviceaccount:demo:reader"


def token(issued=NOW, seconds=30 * DAY, sub=SUBJECT, uid="u1", **more):
    said = {"iat": issued, "exp": issued + seconds, "sub": sub, "kubernetes.io": {"serviceaccount": {"name": "reader", "uid": uid}}, **more}
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in ('{"alg":"RS256"}', json.dumps(said), "signature"))


@pytest.mark.parametrize(
    ("kept", "now", "reason"),
    [
        (token(), NOW, ""),
        (token(), NOW + 15 * DAY, ""),
        (token(), NOW + 15 * DAY + 1, "more than half of the token's life is over"),
        (token(seconds=3600), NOW + 1801, "more than half of the token's life is over"),
        (token(), NOW + 30 * DAY, "the token has expired"),
        (token(sub="system:serviceaccount:demo:other"), NOW, "the token is another account's"),
        (token(uid="u0"), NOW, "the service account was created anew since"),
        ("", NOW, "there is no token yet"),
        ("opaque", NOW, "what is kept is not a bound token"),
        ("a.b.c", NOW, "what is kept is not a bound token"),
        (token(exp=None), NOW, "what is kept is not a bound token"),
    ],
)
def test_when_a_token_will_not_do(kept, now, reason):
    assert why_renew(kept, WANTED, "u1", now) == reason


class Kube:
    def __init__(self, account="u1", kept=None):
        self.objects = {}
        if account:
            self.objects[WANTED.account_path] = {"metadata": {"name": "reader", "uid": account}}
        if kept is not None:
            self.objects[WANTED.secret_path] = secret(kept)
        self.minted = []
        self.applied = []

    def get(self, path, what, **query):
        if path == "/api/v1":
            return {"resources": [{"name": "secrets", "kind": "Secret", "namespaced": True}]}
        if path not in self.objects:
            raise KubeError(f"Cannot {what}: not found", status=404)
        return self.objects[path]

    def create(self, path, body, what):
        assert path == f"{WANTED.account_path}/token"
        self.minted.append(body["spec"])
        return {"status": {"token": token(NOW, body["spec"]["expirationSeconds"])}}

    def apply(self, path, body, what, **query):
        assert path == WANTED.secret_path
        self.applied.append((body, query))
        self.objects[path] = body
        return body


def secret(kept, **annotations):
    return {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "reader-token", "namespace": "demo", "annotations": annotations},
        "data": {"token": base64.b64encode(kept.encode()).decode()},
    }  # fmt: skip


def test_minted_once_and_kept():
    kube = Kube()
    first = keep(kube, WANTED, NOW, "tests", dry=False)
    assert (first.changed, first.reason, first.expires) == (True, "there is no token yet", NOW + 30 * DAY)
    assert kube.minted == [{"expirationSeconds": 30 * DAY}]
    ((body, query),) = kube.applied
    assert claims(base64.b64decode(body["data"]["token"]).decode())["sub"] == SUBJECT
    assert (body["metadata"]["annotations"], query["force"], query["fieldManager"]) == ({ANNOTATION: first.token_id}, "true", "tests")

    second = keep(kube, WANTED, NOW + DAY, "tests", dry=False)
    assert (second.changed, second.token_id, second.expires) == (False, first.token_id, first.expires)
    assert len(kube.minted) == 1


def test_one_that_the_cluster_has_renewed_is_kept_and_its_id_stays():
    kube = Kube()
    kube.objects[WANTED.secret_path] = secret(token(NOW + DAY), **{ANNOTATION: "first"})
    kept = keep(kube, WANTED, NOW + 2 * DAY, "tests", dry=False)
    assert (kept.changed, kept.token_id, kept.expires) == (False, "first", NOW + 31 * DAY)


def test_rubbish_is_replaced():
    kube = Kube(kept="rubbish\xff")
    assert keep(kube, WANTED, NOW, "tests", dry=False).reason == "what is kept is not a bound token"
    assert len(kube.minted) == 1


@pytest.mark.parametrize(("kube", "changed"), [(Kube(), True), (Kube(account=None), True), (Kube(kept=token()), False)])
def test_check_mode_mints_nothing(kube, changed):
    assert keep(kube, WANTED, NOW, "tests", dry=True).changed is changed
    assert (kube.minted, kube.applied) == ([], [])


def test_what_cannot_be():
    with pytest.raises(ModelMonitoringError, match="ServiceAccount demo/reader does not exist: create it, or correct its name"):
        keep(Kube(account=None), WANTED, NOW, "tests", dry=False)
    with pytest.raises(ModelMonitoringError, match="expiration_seconds: 599 is less than the API server gives: ask for 600 or more"):
        keep(Kube(), Wanted("demo", "reader", "reader-token", "token", 599), NOW, "tests", dry=False)


def test_nothing_of_the_token_is_in_what_is_returned():
    kube = Kube()
    kept = keep(kube, WANTED, NOW, "tests", dry=False)
    minted = base64.b64decode(kube.applied[0][0]["data"]["token"]).decode()
    assert not any(part in repr(kept) for part in minted.split("."))
    assert _account_token.in_words(kept.expires) == "2023-12-14T22:13:20Z"
    assert _account_token.in_words(None) is None
