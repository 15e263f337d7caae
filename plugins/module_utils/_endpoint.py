# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Reach an endpoint given as a URL: directly, or, when it is a Service of the cluster, by port-forward through the API server.

Usage::

    with reach(params["endpoint"], lambda: connect(params), params["via"], parameter="endpoint") as reached:
        client_of_some_library(reached.url, tls_server_name=reached.server_hostname)

Whatever a library makes of a broken connection: if the port-forward knows better why (refused by the pod, no permission), the
block ends in ``EndpointError`` with that reason instead of the library's exception.
"""

from __future__ import annotations

import contextlib
import re
import typing as t
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _port_forward
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._port_forward import EndpointError, Service

__all__ = ["VIA_ARG", "Endpoint", "EndpointError", "Reached", "parse", "reach", "service_of"]

VIA_ARG: dict[str, t.Any] = {"type": "str", "choices": ["auto", "direct", "port_forward"], "default": "auto"}
"""Argument spec of the parameter ``via`` of every module that reaches an endpoint."""

_SERVICE_HOST = re.compile(r"(?P<name>[a-z0-9]([-a-z0-9]*[a-z0-9])?)\.(?P<namespace>[a-z0-9]([-a-z0-9]*[a-z0-9])?)\.svc(\.[a-z0-9.-]+)?\.?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Endpoint:
    """A URL taken apart; the port is always filled in, the path has no trailing slash."""

    scheme: str
    host: str
    port: int
    path: str


@dataclass(frozen=True)
class Reached:
    """How to talk to an endpoint.

    ``url``: what to hand to a client; with a port-forward it names 127.0.0.1 and a local port. ``host``, ``port``: of that URL.
    ``server_hostname``: the host that was asked for: the name to check in a server's certificate (and to send as SNI).
    ``forwarded``: whether a port-forward is in between.
    """

    url: str
    host: str
    port: int
    server_hostname: str
    forwarded: bool


def parse(url: str, parameter: str = "endpoint") -> Endpoint:
    """Take a URL apart.

    :param parameter: name of the user's parameter, for messages.
    :raises EndpointError: not a URL of http or https with a host. The message never holds user information of the URL.
    """
    example = "for example http://minio.model-storage.svc:9000"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise EndpointError(f"{parameter}: not a valid URL, or its port is not a number from 1 to 65535: correct it, {example}") from None
    if "@" in url:
        raise EndpointError(f"{parameter}: a URL must not hold a user name or password: leave it out and use the parameters for credentials")
    if "://" not in url:
        raise EndpointError(f"{parameter}: '{url}' has no scheme: put http:// or https:// in front, {example}")
    if parts.scheme not in _DEFAULT_PORTS:
        raise EndpointError(f"{parameter}: '{url}' has scheme '{parts.scheme}': use http or https, {example}")
    if not parts.hostname or port == 0:
        raise EndpointError(f"{parameter}: '{url}' has no {'valid port' if parts.hostname else 'host'}: correct it, {example}")
    if parts.query or parts.fragment:
        raise EndpointError(f"{parameter}: '{url}' has a query or fragment: leave it out, {example}")
    return Endpoint(parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme], parts.path.rstrip("/"))


def service_of(host: str) -> Service | None:
    """The Service that a host names as ``<service>.<namespace>.svc`` (with or without a cluster domain), or None."""
    match = _SERVICE_HOST.fullmatch(host)
    return Service(match["name"], match["namespace"]) if match else None


@contextlib.contextmanager
def reach(url: str, api_client_factory: t.Callable[[], t.Any], via: str = "auto", parameter: str = "endpoint") -> t.Iterator[Reached]:
    """Make an endpoint reachable for the time of a ``with`` block.

    :param url: what the user gave.
    :param api_client_factory: returns a ``kubernetes.client.ApiClient``; called only when a port-forward is needed.
    :param via: ``direct``; ``port_forward``; ``auto`` = port-forward for a Service's host, else direct.
    :param parameter: name of the user's parameter, for messages.
    :raises EndpointError: the URL is not usable, the Service has no such port or Ready pod, or (when the block fails) the port-forward broke.
    :raises KubeError: the API server cannot be asked for the Service.
    """
    endpoint = parse(url, parameter)
    service = service_of(endpoint.host)
    if via == "port_forward" and service is None:
        raise EndpointError(
            f"{parameter}: '{endpoint.host}' is not a Service, which via=port_forward needs: write it as <service>.<namespace>.svc, or set via=direct"
        )
    if via == "direct" or service is None:
        yield _reached(endpoint, endpoint.host, endpoint.port, forwarded=False)
        return
    with _port_forward.forward(api_client_factory(), service, endpoint.port) as forwarder:
        try:
            yield _reached(endpoint, forwarder.host, forwarder.port, forwarded=True)
        except Exception as exc:
            if forwarder.failure:
                raise EndpointError(f"{parameter}: {forwarder.failure}") from exc
            raise


def _reached(endpoint: Endpoint, host: str, port: int, forwarded: bool) -> Reached:
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Reached(urlunsplit((endpoint.scheme, netloc, endpoint.path, "", "")), host, port, endpoint.host, forwarded)
