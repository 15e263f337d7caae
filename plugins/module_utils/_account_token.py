# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""A Secret with a service account's bound token, renewed in good time.

Bound means: asked for with a TokenRequest, so that it ends by itself and with its service account. What is known about a token is read
from the token, so that one that somebody else renewed or replaced is judged by what it is.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import typing as t
from dataclasses import dataclass

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _manifests
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube, KubeError

#: Tells tokens that were minted here apart, without saying anything about them. A renewal in the cluster leaves it as it is.
ANNOTATION = "model-monitoring/token-id"
#: The least that the API server gives.
LEAST_SECONDS = 600


@dataclass(frozen=True)
class Wanted:
    """Whose token, and where it is kept: ``key`` of Secret ``secret`` in the account's namespace. ``seconds``: for how long to ask."""

    namespace: str
    account: str
    secret: str
    key: str
    seconds: int

    @property
    def account_path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{self.account}"

    @property
    def secret_path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets/{self.secret}"

    @property
    def subject(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{self.account}"


@dataclass(frozen=True)
class Kept:
    """The outcome. ``changed``: whether a token was (in check mode: would be) minted, and ``reason`` why.

    ``expires``: end of the token as seconds since 1970, None when there is none yet. ``token_id``: changes when a token is minted here.
    """

    changed: bool
    reason: str
    expires: int | None
    token_id: str


def keep(kube: Kube, wanted: Wanted, now: float, field_manager: str, dry: bool) -> Kept:
    """Mint a token if there is none that will do; raises ModelMonitoringError.

    :param now: seconds since 1970.
    :param dry: mint nothing.
    """
    if wanted.seconds < LEAST_SECONDS:
        raise ModelMonitoringError(f"expiration_seconds: {wanted.seconds} is less than the API server gives: ask for {LEAST_SECONDS} or more")
    account = _read(kube, wanted.account_path, f"read ServiceAccount {wanted.namespace}/{wanted.account}")
    if account is None and not dry:
        raise ModelMonitoringError(f"ServiceAccount {wanted.namespace}/{wanted.account} does not exist: create it, or correct its name")
    secret = _read(kube, wanted.secret_path, f"read Secret {wanted.namespace}/{wanted.secret}") or {}
    token = _decoded((secret.get("data") or {}).get(wanted.key))
    reason = why_renew(token, wanted, (account or {}).get("metadata", {}).get("uid"), now)
    if not reason:
        token_id = (secret["metadata"].get("annotations") or {}).get(ANNOTATION) or ""
        return Kept(False, "", claims(token)["exp"], token_id)
    if dry:
        return Kept(True, reason, None, "")
    token = _mint(kube, wanted)
    token_id = hashlib.sha256(token.encode()).hexdigest()[:16]
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": wanted.secret, "namespace": wanted.namespace, "annotations": {ANNOTATION: token_id}},
        "type": "Opaque",
    }
    # By force: who renews it in the cluster owns its data since then.
    manager = _manifests.Manager(kube, field_manager, force=True)
    manager.apply(_manifests.parse([manifest], {wanted.secret: {wanted.key: token}}))
    return Kept(True, reason, claims(token).get("exp"), token_id)


def why_renew(token: str, wanted: Wanted, account_uid: str | None, now: float) -> str:
    """Why a token will not do, in words; empty when it will: it is this account's, and more than half of its life is left."""
    if not token:
        return "there is no token yet"
    known = claims(token)
    if not isinstance(known.get("exp"), int) or not isinstance(known.get("iat"), int):
        return "what is kept is not a bound token"
    if known.get("sub") != wanted.subject:
        return "the token is another account's"
    about = (known.get("kubernetes.io") or {}).get("serviceaccount") or {}
    if account_uid and about.get("uid") != account_uid:
        return "the service account was created anew since"
    if now >= known["exp"]:
        return "the token has expired"
    if now - known["iat"] > (known["exp"] - known["iat"]) / 2:
        return "more than half of the token's life is over"
    return ""


def claims(token: str) -> dict[str, t.Any]:
    """What a JSON web token says; empty for what is none. Its signature is the API server's business."""
    try:
        part = token.split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def in_words(expires: int | None) -> str | None:
    """A time as ISO 8601 in UTC."""
    return None if expires is None else datetime.datetime.fromtimestamp(expires, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _mint(kube: Kube, wanted: Wanted) -> str:
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": wanted.seconds}}
    what = f"create a token (serviceaccounts/token) for ServiceAccount {wanted.namespace}/{wanted.account}"
    return kube.create(f"{wanted.account_path}/token", request, what)["status"]["token"]


def _read(kube: Kube, path: str, what: str) -> dict[str, t.Any] | None:
    try:
        return kube.get(path, what)
    except KubeError as error:
        if error.status == 404:
            return None
        raise


def _decoded(value: str | None) -> str:
    try:
        return base64.b64decode(value or "").decode("ascii").strip()
    except ValueError:
        return "?"
