# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The connection to the Kubernetes API, and its errors in plain words.

Authentication is kubernetes.core's, so that every option and every ``K8S_AUTH_*`` variable means here what it means there.
Its client is not used beyond that: it reads the discovery of the whole API server on first use (and caches it in the
temporary folder, where it goes stale), while all that is needed here are a handful of known paths.
"""

from __future__ import annotations

import json
import os
import re
import sys
import typing as t

from ansible_collections.kubernetes.core.plugins.module_utils.k8s.client import (
    _create_auth_spec,
    _create_configuration,
    _create_headers,
    _set_header,
)
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError

try:
    import kubernetes
    import urllib3.exceptions
    from kubernetes.client.exceptions import ApiException
    from kubernetes.dynamic import DynamicClient

    IMPORT_ERROR: ImportError | None = None
except ImportError as _error:
    IMPORT_ERROR = _error

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Seconds for the TCP and TLS handshake; a black hole must not take the kernel's two minutes.
CONNECT_SECONDS = 10.0
#: Seconds for the answer to a plain request (the API server itself gives up after 60).
READ_SECONDS = 65.0


class KubeError(ModelMonitoringError):
    """The API server could not be reached, or said no.

    ``status`` is the HTTP status, None when there was no answer at all. ``retry_after`` are the seconds the server asked
    to wait, None when it did not. ``permanent`` is true where asking again cannot help (a wrong certificate).
    """

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None, permanent: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.permanent = permanent


def connect(params: Mapping[str, t.Any]) -> kubernetes.client.ApiClient:
    """An API client from a module's parameters (those of kubernetes.core's AUTH_ARG_SPEC; others are ignored).

    Nothing is sent yet. The client does not retry by itself (``retries`` off): who calls knows whether trying again makes
    sense. Raises KubeError when the package is missing or no usable configuration is found.
    """
    if IMPORT_ERROR is not None:
        raise KubeError(
            f"Python package kubernetes is missing for {sys.executable} ({IMPORT_ERROR}): install it there with"
            f" `{sys.executable} -m pip install kubernetes`, or set ansible_python_interpreter to a Python that has it."
        )
    auth = _create_auth_spec(**params)
    try:
        configuration = _create_configuration(auth)
    except Exception as error:  # the parsers of kubeconfig files raise whatever the file's content makes them raise
        raise KubeError(_explain_configuration(error, auth), permanent=True) from error
    configuration.retries = False
    configuration.connection_pool_maxsize = 64  # one connection per watch; the default follows the number of cores
    client = kubernetes.client.ApiClient(configuration)
    for header, value in _create_headers(**params).items():
        _set_header(client, header, value)
    return client


def explain(error: Exception, what: str) -> str:
    """One line for an exception of the Kubernetes client: what was tried, what went wrong, what to do about it.

    ``what`` is the action in words, as "list Subscriptions in namespace demo"; it becomes part of the sentence.
    """
    return str(translate(error, what))


def translate(error: Exception, what: str) -> KubeError:
    """The KubeError for an exception of the Kubernetes client or of its transport; see :func:`explain` for ``what``."""
    if isinstance(error, KubeError):
        return error
    if IMPORT_ERROR is None and isinstance(error, ApiException) and error.status:
        return _translate_status(error, what)
    cause = getattr(error, "reason", None)
    if isinstance(cause, Exception):  # MaxRetryError
        return translate(cause, what)
    if "SSL" in f"{type(error).__name__} {error}":
        return _translate_tls(str(error), what)
    return KubeError(
        f"Cannot {what}: the API server {_address(error)}does not answer ({_in_words(error)}). Check that it runs and that"
        f" the kubeconfig, context or host option names the right one."
    )


class Kube:
    """Plain requests to the API server: paths in, dictionaries out, errors as KubeError.

    ``api_client`` is what :func:`connect` returns.
    """

    def __init__(self, api_client: kubernetes.client.ApiClient) -> None:
        # DynamicClient.request is the one call whose form is the same in all versions of the library; no discovery is used.
        self._client = DynamicClient(api_client, discoverer=lambda client, cache_file: None)

    def get(self, path: str, what: str, **query: str) -> dict[str, t.Any]:
        """GET a path (``/apis/apps/v1/...``) with query parameters by their API names; returns the decoded object."""
        return self._request("get", path, what, query)

    def text(self, path: str, what: str, **query: str) -> str:
        """GET a path whose answer is a text (a pod's log)."""
        return self._send("get", path, what, query, timeout=(CONNECT_SECONDS, READ_SECONDS)).data.decode("utf-8", "replace")

    def merge_patch(self, path: str, body: dict[str, t.Any], what: str, **query: str) -> dict[str, t.Any]:
        """PATCH a path with a JSON merge patch; returns the decoded object."""
        return self._request("patch", path, what, query, body=body, content_type="application/merge-patch+json")

    def create(self, path: str, body: dict[str, t.Any], what: str, **query: str) -> dict[str, t.Any]:
        """POST an object to a collection; returns it as the API server answers."""
        return self._request("post", path, what, query, body=body)

    def apply(self, path: str, body: dict[str, t.Any], what: str, **query: str) -> dict[str, t.Any]:
        """Server-side apply of an object (``fieldManager``, ``force``, ``dryRun`` in the query); returns the object after it."""
        # As text: older versions of the library cannot serialise a body of this content type. JSON is YAML.
        return self._request("patch", path, what, query, body=json.dumps(body), content_type="application/apply-patch+yaml")

    def delete(self, path: str, what: str, **query: str) -> dict[str, t.Any]:
        """DELETE an object; returns it, or a Status."""
        return self._request("delete", path, what, query)

    def watch(self, path: str, what: str, seconds: int, **query: str) -> Iterator[dict[str, t.Any]]:
        """Events of a watch (``{"type": ..., "object": {...}}``) until the server ends it after ``seconds``.

        A connection that says nothing for longer than that is given up as dead.
        """
        query = {**query, "watch": "true", "timeoutSeconds": str(seconds)}
        response = self._send("get", path, what, query, timeout=(CONNECT_SECONDS, seconds + 5.0))
        try:
            yield from map(json.loads, lines(response.stream(None, decode_content=True)))
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise translate(error, what) from error
        finally:
            response.close()

    def _request(self, method: str, path: str, what: str, query: Mapping[str, str], **kwargs: t.Any) -> dict[str, t.Any]:
        response = self._send(method, path, what, query, timeout=(CONNECT_SECONDS, READ_SECONDS), **kwargs)
        try:
            return json.loads(response.data)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise translate(error, what) from error

    def _send(
        self,
        method: str,
        path: str,
        what: str,
        query: Mapping[str, str],
        timeout: tuple[float, float],
        **kwargs: t.Any,
    ) -> urllib3.HTTPResponse:
        try:
            return self._client.request(
                method,
                path,
                query_params=list(query.items()),
                header_params={"Accept": "application/json, */*"},
                serialize=False,
                _request_timeout=timeout,
                **kwargs,
            )
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise translate(error, what) from error


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The non-empty lines of a stream, each as soon as it is complete, wherever the chunks are cut."""
    rest = b""
    for chunk in chunks:
        *complete, rest = (rest + chunk).split(b"\n")
        yield from filter(bytes.strip, complete)


def _translate_status(error: ApiException, what: str) -> KubeError:
    status = error.status
    said = _server_message(error)
    if status == 401 or (status == 403 and "system:anonymous" in said):
        text = (
            f"Cannot {what}: the API server does not accept the credentials ({status} {said}). Log in again or check the"
            f" token, client certificate or kubeconfig that the play uses."
        )
    elif status == 403:
        text = (
            f"Cannot {what}: not allowed ({said}). Grant this verb to the user of the play with a Role or ClusterRole; the"
            f" module's notes list the verbs it needs."
        )
    elif status == 404:
        text = f"Cannot {what}: not found ({said})."
    else:
        text = f"Cannot {what}: the API server answered {status} ({said})."
    return KubeError(text, status=status, retry_after=_retry_after(error))


def _translate_tls(said: str, what: str) -> KubeError:
    return KubeError(
        f"Cannot {what}: no TLS connection to the API server ({said}). Give the right ca_cert (and client certificate), or"
        f" check that host names the server the certificate was issued for.",
        permanent="certificate" in said.lower(),
    )


def _server_message(error: ApiException) -> str:
    """What the server said: the message of its Status object, else the raw body, else the reason phrase."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    try:
        message = json.loads(body or "")["message"]
    except (ValueError, KeyError, TypeError):
        message = body
    return str(message or error.reason or "no reason given").strip()[:600]


def _retry_after(error: ApiException) -> float | None:
    try:
        return float((error.headers or {}).get("Retry-After", ""))
    except ValueError:
        return None


def _address(error: Exception) -> str:
    """``host:port `` of a transport error, or nothing where the exception does not know it."""
    for attribute in ("conn", "pool"):  # urllib3 2 and 1
        peer: t.Any = error.__dict__.get(attribute) or error.__dict__.get("_" + attribute)
        if getattr(peer, "host", None):
            return f"{peer.host}:{peer.port} "
    return ""


def _in_words(error: Exception) -> str:
    """An exception's text without the representation of the connection that urllib3 puts before it."""
    return re.sub(r"^<?\S*HTTPS?Connection.*?[>)]: ", "", str(error)) or type(error).__name__


def _explain_configuration(error: Exception, auth: Mapping[str, t.Any]) -> str:
    given = auth.get("kubeconfig")
    if isinstance(given, dict):
        return f"The kubeconfig given as a dictionary cannot be used: {error}"
    files = given or os.environ.get("KUBECONFIG") or "~/.kube/config"
    missing = [name for name in str(files).split(os.pathsep) if name and not os.path.exists(os.path.expanduser(name))]
    if missing and not (os.environ.get("KUBECONFIG") or given):
        return (
            "No connection to a cluster is configured: KUBECONFIG is not set, ~/.kube/config does not exist and this is not"
            " a pod. Set KUBECONFIG or the kubeconfig option, or give host and api_key."
        )
    if missing:
        return f"The kubeconfig {', '.join(missing)} does not exist: correct KUBECONFIG or the kubeconfig option."
    return f"The kubeconfig {files} cannot be used: {error} Correct the file, or choose another context or kubeconfig."
