# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""A connection that is opened on first use and again after it broke.

What stands behind an endpoint may restart while we read from it, and a port-forward is bound to one pod: after a failure
the next use must look for the pod again. ``Link`` does that for any kind of connection; ``Http`` is the plain kind.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import typing as t
from dataclasses import dataclass
from urllib.parse import urlencode

from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import EndpointError, Reached, parse, reach
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError

try:
    import urllib3

    IMPORT_ERROR: ImportError | None = None
except ImportError as _error:
    IMPORT_ERROR = _error

Connection = t.TypeVar("Connection")
Result = t.TypeVar("Result")

CONNECT_SECONDS = 5.0
"""Most that a TCP and TLS handshake may take."""


_PEM = "-----BEGIN"


class Unreachable(ModelMonitoringError):
    """No answer came from an endpoint; the text says why (from ``Link.use`` on it begins with the URL)."""


@dataclass(frozen=True)
class Target:
    """An endpoint as the user gave it.

    ``parameter``: name of the user's parameter, for messages. ``via``, ``api_client_factory``: see ``_endpoint.reach``.
    ``ca_cert``: path of a PEM file with the authorities to trust for https, or the certificates themselves as PEM text; None for the system's.
    """

    url: str
    parameter: str
    via: str
    api_client_factory: t.Callable[[], t.Any]
    ca_cert: str | None = None

    def check(self) -> None:
        """:raises ModelMonitoringError: the URL or the CA file is not usable."""
        parse(self.url, self.parameter)
        self.authorities()

    def authorities(self) -> str | None:
        """The authorities to trust for https as PEM text, None for the system's.

        :raises ModelMonitoringError: the CA file cannot be read, or holds no certificate.
        """
        if self.ca_cert is None or _PEM in self.ca_cert:
            return self.ca_cert
        try:
            with open(self.ca_cert, encoding="ascii", errors="ignore") as file:  # PEM is ASCII; what people write beside it need not be
                text = file.read()
        except OSError as exc:
            raise ModelMonitoringError(f"{self.parameter}: the CA file '{self.ca_cert}' cannot be read ({exc.strerror}): correct its path") from exc
        if _PEM not in text:
            raise ModelMonitoringError(f"{self.parameter}: the CA file '{self.ca_cert}' holds no certificate in PEM: correct its path or convert it")
        return text

    def reach(self) -> contextlib.AbstractContextManager[Reached]:
        """Make it reachable for the time of a ``with`` block."""
        return reach(self.url, self.api_client_factory, self.via, parameter=self.parameter)


class Link(t.Generic[Connection]):
    """Holds one connection. Context manager; at exit the connection is closed.

    :param url: what it leads to, for messages.
    :param connect: makes a context manager whose value is the connection.
    """

    def __init__(self, url: str, connect: t.Callable[[], contextlib.AbstractContextManager[Connection]]) -> None:
        self._url = url
        self._connect = connect
        self._stack: contextlib.ExitStack | None = None
        self._connection: Connection

    def __enter__(self) -> Link[Connection]:
        return self

    def __exit__(self, *exc_info: object) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.close()

    def use(self, work: t.Callable[[Connection], Result]) -> Result:
        """Do something with the connection.

        :param work: raises Unreachable when the connection does not work; it is then closed.
        :raises Unreachable: no connection, or what ``work`` raised, with the port-forward's reason where that knows better.
        """
        try:
            if self._stack is None:
                with contextlib.ExitStack() as stack:
                    self._connection = stack.enter_context(self._connect())
                    self._stack = stack.pop_all()
            try:
                return work(self._connection)
            except Unreachable:
                stack, self._stack = self._stack, None
                with stack:
                    raise
        except (EndpointError, Unreachable) as exc:
            raise Unreachable(f"{self._url}: {exc}") from exc


class Answer(t.NamedTuple):
    """An HTTP response. ``headers``: case-insensitive mapping."""

    status: int
    body: bytes
    headers: t.Mapping[str, str]

    @property
    def text(self) -> str:
        """The beginning of the body in one line, for messages."""
        return " ".join(self.body[:300].decode("utf-8", "replace").split())


class Http:
    """HTTP requests to one endpoint, below the path of its URL. No redirects, no retries, no proxy."""

    def __init__(self, pool: t.Any, path: str) -> None:
        self._pool = pool
        self._path = path

    def request(
        self,
        method: str,
        path: str,
        *,
        timeout: float,
        headers: t.Mapping[str, str] | None = None,
        query: t.Mapping[str, t.Any] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send a request and read the whole answer, whatever its status.

        :param path: with a leading slash.
        :param timeout: seconds for the connection and for each read.
        :raises Unreachable: no answer.
        """
        url = self._path + path + (f"?{urlencode(query)}" if query else "")
        limits = urllib3.Timeout(connect=min(CONNECT_SECONDS, timeout), read=timeout)
        try:
            response = self._pool.request(method, url, body=body, headers=dict(headers or {}), timeout=limits, retries=False, redirect=False)
        except urllib3.exceptions.ReadTimeoutError as exc:
            raise Unreachable(f"no answer within {timeout:.3g} s") from exc
        except urllib3.exceptions.HTTPError as exc:
            raise Unreachable(_reason(exc)) from exc
        return Answer(response.status, response.data, response.headers)


def http_link(target: Target) -> Link[Http]:
    """A link to an HTTP server."""

    @contextlib.contextmanager
    def connect() -> t.Iterator[Http]:
        endpoint = parse(target.url, target.parameter)
        with target.reach() as reached:
            pool: t.Any
            if endpoint.scheme == "https":
                name: dict[str, t.Any] = {"server_hostname": reached.server_hostname, "assert_hostname": reached.server_hostname}
                pool = urllib3.HTTPSConnectionPool(
                    reached.host,
                    reached.port,
                    ssl_context=_context(target),
                    **(name if reached.forwarded else {}),
                )
            else:
                pool = urllib3.HTTPConnectionPool(reached.host, reached.port)
            with contextlib.closing(pool):
                yield Http(pool, endpoint.path)

    return Link(target.url, connect)


def _context(target: Target) -> ssl.SSLContext:
    """Verifies certificates with the target's authorities."""
    try:
        return ssl.create_default_context(cadata=target.authorities())
    except ssl.SSLError as exc:
        raise Unreachable(
            f"the CA certificates that are to be trusted for {target.parameter} cannot be used ({exc.reason}): give them as PEM"
        ) from exc


def _reason(exc: Exception) -> str:
    """urllib3's text without the names of its objects, e.g. ``Failed to establish a new connection: [Errno 111] ...``."""
    return re.sub(r"^(<[^>]*>|HTTPS?Connection(Pool)?\([^)]*\)): ", "", str(exc))
