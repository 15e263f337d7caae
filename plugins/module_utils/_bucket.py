# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Manage one S3 bucket: what it should be, what it is, what has to be done.

``plan`` decides and is pure. ``Store`` does, on the ``minio`` client. ``explain`` says what went wrong in one line.
No message holds a credential: nothing of a request is ever put into one, and of an answer only S3's code and sentence.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import socket
import ssl
import typing as t
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from xml.etree import ElementTree

from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import Reached, parse
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError

try:
    import certifi
    import minio
    import urllib3
    from minio.deleteobjects import DeleteObject
    from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
    from minio.versioningconfig import VersioningConfig

    MINIO_IMPORT_ERROR: ImportError | None = None
except ImportError as exc:
    MINIO_IMPORT_ERROR = exc

RULE_ID = "private_ai.model_monitoring"
"""ID of the one lifecycle rule that is ours."""

TagDict = dict[str, str]


class BucketError(ModelMonitoringError):
    """A bucket cannot be brought to the wanted state; the message names the parameter or object and the cure."""


@dataclass(frozen=True)
class Bucket:
    """What a bucket is. A field that nobody asked for is not read and keeps its default.

    ``versioning``: off (never set), enabled, suspended. ``expiry``: days of our lifecycle rule; None without one; a text when somebody
    has changed the rule. ``filled``: whether it holds an object, a version or a delete marker.
    """

    versioning: str = "off"
    object_lock: bool = False
    expiry: int | str | None = None
    tags: TagDict = field(default_factory=dict)
    filled: bool = False


@dataclass(frozen=True)
class Wanted:
    """What a bucket should be; None leaves that as it is (``expiry`` 0: no rule of ours)."""

    present: bool = True
    versioning: str | None = None
    object_lock: bool | None = None
    expiry: int | None = None
    tags: TagDict | None = None
    force: bool = False


class Action(t.NamedTuple):
    """One thing to do: ``create`` (object lock), ``versioning`` (status), ``expiry`` (days), ``tags`` (tags), ``empty``, ``delete``."""

    verb: str
    value: t.Any = None


def check_name(name: str) -> None:
    """Refuse a name that S3 does not allow for a bucket.

    :raises BucketError: says which rule is broken.
    """
    broken = None
    if not 3 <= len(name) <= 63:
        broken = "it must have 3 to 63 characters"
    elif re.search(r"[^a-z0-9.-]", name):
        broken = "it may hold only lower-case letters, digits, dots and hyphens"
    elif not re.fullmatch(r"[a-z0-9].*[a-z0-9]", name):
        broken = "it must begin and end with a letter or digit"
    elif re.search(r"\.\.|\.-|-\.", name):
        broken = "a dot must stand between letters or digits"
    elif re.fullmatch(r"(\d+\.){3}\d+", name):
        broken = "it must not look like an IP address"
    elif name.startswith(("xn--", "sthree-")) or name.endswith(("-s3alias", "--ol-s3")):
        broken = "it begins or ends with what S3 keeps for itself"
    if broken:
        raise BucketError(f"name: '{name}' is not a valid bucket name: {broken}; choose another, for example tempo-traces")


def check_tags(tags: dict[str, t.Any] | None) -> TagDict | None:
    """Tags as S3 stores them: text. Numbers become text; what has no obvious text is refused.

    :raises BucketError: a value is not a text or a number, or a key or value has a length that S3 does not allow.
    """
    if tags is None:
        return None
    for key, value in tags.items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise BucketError(f"tags: the value of '{key}' is not a text: put it in quotes")
        if not 1 <= len(str(key)) <= 128 or len(str(value)) > 256:
            raise BucketError(f"tags: '{key}': a key has 1 to 128 characters, a value at most 256: shorten it")
    return {str(key): str(value) for key, value in tags.items()}


def wanted_of(params: dict[str, t.Any]) -> Wanted:
    """What is wanted, from the parameters of the module, checked as far as that is possible without a connection.

    :raises BucketError: a parameter cannot be used.
    """
    check_name(params["name"])
    for key in ("access_key", "secret_key"):
        if not params[key]:
            raise BucketError(f"{key}: it is empty: give the {key.replace('_', ' ')} of the object store")
    if params["timeout"] < 1:
        raise BucketError(f"timeout: {params['timeout']} is not a number of seconds: give 1 or more")
    days = params["lifecycle_expiry_days"]
    if days is not None and days < 0:
        raise BucketError(f"lifecycle_expiry_days: {days} is not a number of days: give 1 or more, or 0 to remove the rule")
    if params["object_lock"] and params["versioning"] == "suspended":
        raise BucketError("versioning: object_lock=true needs versioning: set it to enabled, or leave it out")
    return Wanted(
        present=params["state"] == "present",
        versioning=None if params["versioning"] == "unmanaged" else params["versioning"],
        object_lock=params["object_lock"],
        expiry=days,
        tags=check_tags(params["tags"]),
        force=params["force"],
    )


def plan(name: str, observed: Bucket | None, wanted: Wanted) -> tuple[list[Action], Bucket | None]:
    """Decide what to do.

    :param observed: None when the bucket does not exist.
    :returns: the actions in order, and what the bucket will be afterwards (None: gone).
    :raises BucketError: what is wanted cannot be had.
    """
    if not wanted.present:
        if observed is None:
            return [], None
        if not observed.filled:
            return [Action("delete")], None
        if not wanted.force:
            raise BucketError(
                f"bucket '{name}' is not empty (objects, older versions or delete markers): empty it, or set force=true to delete all it holds"
            )
        return [Action("empty"), Action("delete")], None

    actions: list[Action] = []
    if observed is None:
        lock = bool(wanted.object_lock)
        actions.append(Action("create", lock))
        state = Bucket(versioning="enabled" if lock else "off", object_lock=lock)
    else:
        state = observed
        if wanted.object_lock is True and not state.object_lock:
            raise BucketError(
                f"object_lock: bucket '{name}' exists without object lock, which S3 can set only when a bucket is created:"
                " set object_lock=false, or use a new bucket (or delete this one with state=absent first)"
            )
        if wanted.object_lock is False and state.object_lock:
            raise BucketError(f"object_lock: bucket '{name}' has object lock, which S3 cannot take away: set object_lock=true, or use a new bucket")
        if state.object_lock and wanted.versioning == "suspended":
            raise BucketError(f"versioning: bucket '{name}' has object lock, which needs versioning: set it to enabled, or leave it out")

    if wanted.versioning is not None and wanted.versioning != state.versioning:
        actions.append(Action("versioning", wanted.versioning))
        state = replace(state, versioning=wanted.versioning)
    if wanted.expiry is not None and (wanted.expiry or None) != state.expiry:
        actions.append(Action("expiry", wanted.expiry))
        state = replace(state, expiry=wanted.expiry or None)
    if wanted.tags is not None and wanted.tags != state.tags:
        actions.append(Action("tags", wanted.tags))
        state = replace(state, tags=wanted.tags)
    return actions, state


def show(name: str, bucket: Bucket | None, wanted: Wanted) -> dict[str, t.Any]:
    """A bucket for a diff or a result: only what is managed (the rest has not been read)."""
    if bucket is None:
        return {"name": name, "state": "absent"}
    shown: dict[str, t.Any] = {"name": name, "state": "present"}
    if not wanted.present:
        shown["empty"] = not bucket.filled
        return shown
    if wanted.versioning is not None:
        shown["versioning"] = bucket.versioning
    if wanted.object_lock is not None:
        shown["object_lock"] = bucket.object_lock
    if wanted.expiry is not None:
        shown["lifecycle_expiry_days"] = bucket.expiry or 0
    if wanted.tags is not None:
        shown["tags"] = bucket.tags
    return shown


# Lifecycle rules. They are handled as XML: the client's own classes drop what they do not know (conditions on an object's size, MinIO's
# extensions), and so would damage the rules of others when they are written back.


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _content(element: ElementTree.Element) -> t.Any:
    """An element as comparable data, without namespaces and without what is empty."""
    children = [(_local(child), _content(child)) for child in element]
    return sorted(pair for pair in children if pair[1]) if children else (element.text or "").strip()


def _own_rule(days: int, namespace: str = "") -> ElementTree.Element:
    def add(parent: ElementTree.Element, tag: str, text: str = "") -> ElementTree.Element:
        element = ElementTree.SubElement(parent, namespace + tag)
        element.text = text
        return element

    rule = ElementTree.Element(namespace + "Rule")
    add(rule, "ID", RULE_ID)
    add(rule, "Status", "Enabled")
    add(add(rule, "Filter"), "Prefix")
    add(add(rule, "Expiration"), "Days", str(days))
    add(add(rule, "NoncurrentVersionExpiration"), "NoncurrentDays", str(days))
    return rule


def _rules(root: ElementTree.Element) -> list[tuple[bool, ElementTree.Element]]:
    """Rules of a lifecycle configuration, each with whether it is ours."""
    rules = [child for child in root if _local(child) == "Rule"]
    return [(any(_local(part) == "ID" and part.text == RULE_ID for part in rule), rule) for rule in rules]


def expiry_of(lifecycle: str | None) -> int | str | None:
    """Days of our rule in a lifecycle configuration (XML, None: there is no configuration); see ``Bucket.expiry``."""
    if lifecycle is None:
        return None
    own = [rule for ours, rule in _rules(ElementTree.fromstring(lifecycle)) if ours]
    if not own:
        return None
    days = next((part.text for parent in own[0] if _local(parent) == "Expiration" for part in parent if _local(part) == "Days"), None)
    if days and days.isdigit() and _content(own[0]) == _content(_own_rule(int(days))):
        return int(days)
    return f"changed by somebody: {_content(own[0])}"


def with_expiry(lifecycle: str | None, days: int) -> str | None:
    """A lifecycle configuration (XML) with our rule set to ``days`` (0: without it), everything else as it was. None: nothing is left."""
    root = ElementTree.fromstring(lifecycle or "<LifecycleConfiguration/>")
    namespace = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
    for ours, rule in _rules(root):
        if ours:
            root.remove(rule)
    if days:
        root.append(_own_rule(days, namespace))
    if not _rules(root):
        return None
    if namespace:
        ElementTree.register_namespace("", namespace.strip("{}"))
    return ElementTree.tostring(root, encoding="unicode")


class Store:
    """An S3 object store, for one bucket.

    :param endpoint: URL as the user gave it, for messages.
    :param timeout: seconds that a request may take, its one repetition included.
    :param ca_cert: path of a PEM file with the CAs to trust; None: the public ones.
    :raises BucketError: a parameter cannot be used.
    """

    def __init__(
        self,
        name: str,
        endpoint: str,
        reached: Reached,
        *,
        access_key: str,
        secret_key: str,
        region: str | None = None,
        ca_cert: str | None = None,
        timeout: float = 30,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.reached = reached
        address = parse(reached.url)
        secure = address.scheme == "https"
        if address.path:
            raise BucketError(f"endpoint: '{endpoint}' has a path, which S3 does not allow: leave it out")
        tls: dict[str, t.Any] = {}
        if secure:
            if ca_cert and not os.access(ca_cert, os.R_OK):
                raise BucketError(f"s3_ca_cert: cannot read '{ca_cert}': give the path of a PEM file with the CA of the endpoint")
            tls = {"cert_reqs": "CERT_REQUIRED", "ca_certs": ca_cert or os.environ.get("SSL_CERT_FILE") or certifi.where()}
            if reached.forwarded:
                tls["server_hostname"] = reached.server_hostname
        once_more = urllib3.Retry(
            total=1, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504], raise_on_status=False, respect_retry_after_header=False
        )
        http_client = urllib3.PoolManager(timeout=urllib3.Timeout(total=timeout / 2), retries=once_more, **tls)
        try:
            self._client = minio.Minio(
                reached.url.split("://", 1)[1], access_key=access_key, secret_key=secret_key, secure=secure, region=region, http_client=http_client
            )
        except ValueError as exc:  # what the client thinks of host and region
            raise BucketError(f"endpoint or region: {_sentence(str(exc))}: correct it") from exc

    @contextlib.contextmanager
    def _doing(self, what: str, permission: str) -> t.Iterator[None]:
        try:
            yield
        except (MinioException, urllib3.exceptions.HTTPError, ElementTree.ParseError, OSError, ValueError) as exc:
            raise BucketError(explain(exc, self.name, self.endpoint, self.reached.server_hostname, what, permission)) from exc

    def observe(self, wanted: Wanted) -> Bucket | None:
        """Read what the bucket is: only what ``wanted`` asks about, so that no more permissions are needed than that.

        :returns: None when it does not exist.
        :raises BucketError: see ``explain``.
        """
        with self._doing("looking at it", "s3:ListBucket"):
            # Not bucket_exists(): the answer to its HEAD has no body, so a wrong secret looks like a missing permission.
            try:
                next(iter(self._client.list_objects(self.name)), None)
            except S3Error as exc:
                if exc.code == "NoSuchBucket":
                    return None
                raise
        bucket = Bucket()
        if not wanted.present:
            with self._doing("looking for versions", "s3:ListBucketVersions"):
                content = self._client.list_objects(self.name, recursive=True, include_version=True)
                return replace(bucket, filled=next(iter(content), None) is not None)
        if wanted.versioning is not None:
            with self._doing("reading its versioning", "s3:GetBucketVersioning"):
                bucket = replace(bucket, versioning=(self._client.get_bucket_versioning(self.name).status or "off").lower())
        if wanted.object_lock is not None or wanted.versioning == "suspended":
            with self._doing("reading its object lock", "s3:GetBucketObjectLockConfiguration"):
                bucket = replace(bucket, object_lock=self._has_object_lock())
        if wanted.expiry is not None:
            with self._doing("reading its lifecycle rules", "s3:GetLifecycleConfiguration"):
                bucket = replace(bucket, expiry=expiry_of(self._lifecycle()))
        if wanted.tags is not None:
            with self._doing("reading its tags", "s3:GetBucketTagging"):
                bucket = replace(bucket, tags=dict(self._client.get_bucket_tags(self.name) or {}))
        return bucket

    def apply(self, actions: t.Iterable[Action]) -> None:
        """Do what ``plan`` has decided.

        :raises BucketError: see ``explain``; what was done before stays done.
        """
        steps: dict[str, tuple[t.Callable[[t.Any], None], str, str]] = {
            "create": (self._create, "creating it", "s3:CreateBucket"),
            "versioning": (self._set_versioning, "setting its versioning", "s3:PutBucketVersioning"),
            "expiry": (self._set_expiry, "setting its lifecycle rule", "s3:PutLifecycleConfiguration"),
            "tags": (self._set_tags, "setting its tags", "s3:PutBucketTagging"),
            "empty": (self._empty, "deleting its objects", "s3:DeleteObject and s3:DeleteObjectVersion"),
            "delete": (self._delete, "deleting it", "s3:DeleteBucket"),
        }
        for action in actions:
            do, what, permission = steps[action.verb]
            with self._doing(what, permission):
                do(action.value)

    def _has_object_lock(self) -> bool:
        try:
            self._client.get_object_lock_config(self.name)
        except S3Error as exc:
            if exc.code == "ObjectLockConfigurationNotFoundError":
                return False
            raise
        return True

    def _lifecycle(self) -> str | None:
        try:
            return self._client._execute("GET", self.name, query_params={"lifecycle": ""}).data.decode()
        except S3Error as exc:
            if exc.code == "NoSuchLifecycleConfiguration":
                return None
            raise

    def _create(self, object_lock: bool) -> None:
        self._client.make_bucket(self.name, object_lock=object_lock)

    def _set_versioning(self, status: str) -> None:
        self._client.set_bucket_versioning(self.name, VersioningConfig(status.capitalize()))

    def _set_expiry(self, days: int) -> None:
        lifecycle = with_expiry(self._lifecycle(), days)
        if lifecycle is None:
            self._client.delete_bucket_lifecycle(self.name)
            return
        body = lifecycle.encode()
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        self._client._execute("PUT", self.name, body=body, headers={"Content-MD5": digest}, query_params={"lifecycle": ""})

    def _set_tags(self, tags: TagDict) -> None:
        if not tags:
            self._client.delete_bucket_tags(self.name)
            return
        s3_tags = minio.commonconfig.Tags.new_bucket_tags()
        s3_tags.update(tags)
        self._client.set_bucket_tags(self.name, s3_tags)

    def _empty(self, _value: None) -> None:
        content = self._client.list_objects(self.name, recursive=True, include_version=True)
        errors = list(self._client.remove_objects(self.name, (DeleteObject(item.object_name, item.version_id) for item in content)))
        if errors:
            raise BucketError(
                f"bucket '{self.name}': {len(errors)} of its objects cannot be deleted, the first is '{errors[0].name}' ({errors[0].code}:"
                f" {_sentence(errors[0].message)}): end its retention or legal hold, or extend the policy of access_key"
            )

    def _delete(self, _value: None) -> None:
        self._client.remove_bucket(self.name)


def _sentence(text: str | None) -> str:
    return " ".join((text or "no reason given").split()).rstrip(".")


def _chain(exc: BaseException) -> t.Iterator[BaseException]:
    """An exception and what lies under it: urllib3 hides the cause in ``reason`` and ``args``, Python in ``__cause__`` and ``__context__``."""
    seen: set[int] = set()
    queue: list[t.Any] = [exc]
    while queue:
        item = queue.pop(0)
        if isinstance(item, BaseException) and id(item) not in seen:
            seen.add(id(item))
            yield item
            queue += [getattr(item, "reason", None), item.__cause__, *item.args]


def explain(exc: BaseException, bucket: str, endpoint: str, host: str, what: str, permission: str) -> str:
    """One line for what went wrong: the parameter or object, and the cure.

    :param exc: of ``minio`` or ``urllib3``.
    :param endpoint: URL as the user gave it.
    :param host: its host, to be found in the certificate.
    :param what: what was being done to the bucket, as in "while creating it".
    :param permission: the S3 action that it needs.
    """
    if isinstance(exc, S3Error):
        return _explain_s3(exc, bucket, endpoint, what, permission)
    status = exc.status_code if isinstance(exc, ServerError) else getattr(exc, "_code", 0)
    if status >= 500:
        return f"endpoint: {endpoint} answers HTTP {status} while {what}: look at the log of the object store, or of the proxy before it"
    if isinstance(exc, (ServerError, InvalidResponseError, ElementTree.ParseError, UnicodeDecodeError)):
        if "HTTP request to an HTTPS server" in str(exc):
            return f"endpoint: {endpoint} wants TLS: write https:// instead of http://"
        answer = f" (HTTP {status}, {getattr(exc, '_content_type', None) or 'no content type'})" if status else ""
        return (
            f"endpoint: what answers at {endpoint} is not an S3 API{answer}:"
            " give the address of the object store's API (MinIO: port 9000, not the console's)"
        )
    return _explain_network(exc, endpoint, host)


def _explain_s3(exc: S3Error, bucket: str, endpoint: str, what: str, permission: str) -> str:
    code = exc.code or "an error without a code"
    if code == "InvalidAccessKeyId":
        return f"access_key: the object store at {endpoint} does not know this access key: correct it"
    if code == "SignatureDoesNotMatch":
        return f"secret_key: it does not belong to access_key, says the object store at {endpoint}: correct it"
    if code == "RequestTimeTooSkewed":
        return f"clock: this machine and the object store at {endpoint} differ{_skew(exc)}, more than S3 allows: set both clocks by NTP"
    if code in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
        owner = "somebody else" if code == "BucketAlreadyExists" else "this user, who has just created it in another run"
        cure = "choose another name" if code == "BucketAlreadyExists" else "run again"
        return f"name: bucket '{bucket}' already belongs to {owner}: {cure}"
    if code in ("AccessDenied", "AllAccessDisabled"):
        return (
            f"bucket '{bucket}': access denied while {what}: it belongs to somebody else, or the policy of access_key does not allow"
            f" {permission}: choose another name, or extend the policy"
        )
    if code == "InvalidBucketName":
        return f"name: the object store does not accept '{bucket}' as a bucket name: choose another, for example tempo-traces"
    if code in ("AuthorizationHeaderMalformed", "IncorrectEndpoint", "PermanentRedirect", "IllegalLocationConstraintException", "InvalidRegion"):
        return f"region: the object store at {endpoint} does not accept it ({code}: {_sentence(exc.message)}): correct it"
    if code in ("InvalidTag", "InvalidTagKey", "InvalidTagValue") or (code == "MalformedXML" and "Tag" in (exc.message or "")):
        return f"tags: the object store does not accept them ({_sentence(exc.message)}): correct them"
    if code == "BucketNotEmpty":
        return f"bucket '{bucket}' has been written to while it was being deleted: stop what writes to it, then run again"
    return f"bucket '{bucket}': the object store at {endpoint} answers {code} while {what} ({_sentence(exc.message)}): look at its log"


def _skew(exc: S3Error) -> str:
    """`` by 3600 s``, from the answer's Date header; empty without a usable one."""
    try:
        server = parsedate_to_datetime(exc.response.headers["Date"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return ""
    return f" by {abs((datetime.now(timezone.utc) - server).total_seconds()):.0f} s"


def _explain_network(exc: BaseException, endpoint: str, host: str) -> str:
    for cause in _chain(exc):
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = cause.verify_message.rstrip(".")
            if cause.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
                return f"endpoint: the certificate of {endpoint} is not for '{host}': use a host name that it holds, or renew it"
            if cause.verify_code in (9, 10):  # not yet valid, expired
                return f"endpoint: the certificate of {endpoint} is not valid now ({reason}): renew it, and look at the clock of this machine"
            return f"s3_ca_cert: the certificate of {endpoint} is not trusted ({reason}): give the PEM file of the CA that signed it"
        if isinstance(cause, ssl.SSLError):
            if cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL"):
                return f"endpoint: {endpoint} does not speak TLS: write http:// instead of https://, or switch TLS on"
            if cause.reason in ("NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE", "BAD_BASE64_DECODE"):
                return "s3_ca_cert: the file holds no certificate in PEM: give the PEM file of the CA of the endpoint"
            return f"endpoint: TLS with {endpoint} fails ({cause.reason or 'no reason given'}): look at the server's TLS settings"
        if isinstance(cause, socket.gaierror):
            return f"endpoint: the host '{host}' of {endpoint} is not known here: correct it, or use via=port_forward for a Service of the cluster"
        if isinstance(cause, ConnectionRefusedError):
            return f"endpoint: nothing listens at {endpoint}: correct host and port, or start the object store"
        if isinstance(cause, (urllib3.exceptions.TimeoutError, TimeoutError)) and not isinstance(cause, urllib3.exceptions.NewConnectionError):
            return f"endpoint: {endpoint} does not answer in time: look at network, firewall and object store, or raise timeout"
    for cause in _chain(exc):
        if isinstance(cause, OSError):
            return f"endpoint: cannot reach {endpoint} ({cause.strerror or type(cause).__name__}): look at network, firewall and object store"
    return f"endpoint: the connection to {endpoint} broke ({type(exc).__name__}): look at network, firewall and object store"
