# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Bring a list of manifests to the cluster by server-side apply, and tell the truth about it beforehand.

What `kubernetes.core.k8s` does not do, and why this is here: in check mode it fails for whatever only the real run could have
created (a namespace, a kind that an operator brings); for more than one manifest it returns no diff; and it logs the data of
a Secret unless all of its output is suppressed, errors included.

- :func:`parse` makes :class:`Manifest` of dictionaries and YAML texts, and puts the secret data in.
- :class:`Manager` asks the API server: one read and one apply per object. In check mode the apply is a dry run, so that
  rights, schema, quota and admission webhooks have their say before anything is touched.
- :func:`diff` shows objects before and after. The data of a Secret is never shown.
"""

from __future__ import annotations

import base64
import secrets
import time
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _resources, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube, KubeError

try:
    import yaml

    YAML_IMPORT_ERROR: ImportError | None = None
except ImportError as _error:
    YAML_IMPORT_ERROR = _error

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Object = dict[str, t.Any]

CREATED, CHANGED, UNCHANGED, DELETED = "created", "changed", "unchanged", "deleted"
HIDDEN, HIDDEN_CHANGED = "(hidden)", "(hidden, changed)"

#: Bytes of a generated value; in base64 they are 32 characters without padding.
GENERATED_BYTES = 24

#: Answers that pass by themselves: an API server that is just starting.
PASSING = (408, 429, 502, 503, 504)
#: The same for an admission webhook, in an answer 500; other answers 500 come for manifests that no schema has.
WEBHOOK_STARTS = "failed calling webhook"
#: What the API server and controllers write into every object; no part of what was asked for.
NOISE = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True)
class Manifest:
    """One object as it shall be. ``namespace`` is empty for what has none.

    ``generated`` are keys of a Secret whose values are made up once: those that the Secret has already are kept.
    """

    api_version: str
    kind: str
    name: str
    namespace: str
    body: Object
    generated: Sequence[str] = ()

    @property
    def group(self) -> str:
        """The API group, empty for the core one."""
        return self.api_version.rpartition("/")[0]

    @property
    def target(self) -> str:
        """The name in messages and results."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Outcome:
    """What was (in check mode: would be) done with one object. ``before`` and ``after`` are None where there is no object."""

    target: str
    action: str
    before: Object | None = None
    after: Object | None = None


def parse(
    entries: Sequence[t.Any],
    secret_data: Mapping[str, Mapping[str, t.Any]] | None = None,
    generated_data: Mapping[str, Sequence[str]] | None = None,
) -> list[Manifest]:
    """Manifests from dictionaries and YAML texts (of any number of documents), in their order.

    ``secret_data`` has keys and values in the clear for Secrets of that name, ``generated_data`` keys whose values are made up once;
    ``stringData`` of a Secret is taken over in the same way, because a server-side apply of it would never own what it writes.
    Raises ModelMonitoringError.
    """
    manifests = [_manifest(body, f"manifests[{number}]") for number, entry in enumerate(entries) for body in _documents(entry, number)]
    seen: set[tuple[str, str]] = set()
    for manifest in manifests:
        if (manifest.group, manifest.target) in seen:
            raise ModelMonitoringError(f"manifests: {manifest.target} is there twice: remove one of the two.")
        seen.add((manifest.group, manifest.target))
    those = [manifest for manifest in manifests if _is_secret(manifest.body)]
    for option, named in (("secret_data", secret_data), ("generated_data", generated_data)):
        unknown = sorted(set(named or {}) - {manifest.name for manifest in those})
        if unknown:
            raise ModelMonitoringError(f"{option}: manifests have no Secret {', '.join(unknown)}: correct the name, or add the Secret.")
    for manifest in those:
        data = {**(manifest.body.pop("stringData", None) or {}), **((secret_data or {}).get(manifest.name) or {})}
        if data:
            encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in data.items()}
            manifest.body["data"] = {**(manifest.body.get("data") or {}), **encoded}
    return [replace(one, generated=tuple((generated_data or {}).get(one.name) or ())) if _is_secret(one.body) else one for one in manifests]


def _documents(entry: t.Any, number: int) -> list[t.Any]:
    if entry is None:  # what an empty template makes
        return []
    if not isinstance(entry, str):
        return [entry]
    if YAML_IMPORT_ERROR is not None:
        raise ModelMonitoringError(f"Python package PyYAML is missing ({YAML_IMPORT_ERROR}): install it where the module runs.")
    try:
        return [document for document in yaml.safe_load_all(entry) if document is not None]
    except yaml.YAMLError as error:
        raise ModelMonitoringError(f"manifests[{number}] is not YAML: {error}") from error


def _manifest(body: t.Any, where: str) -> Manifest:
    metadata = body.get("metadata") if isinstance(body, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not (isinstance(body, dict) and isinstance(metadata, dict) and name and body.get("apiVersion") and body.get("kind")):
        raise ModelMonitoringError(f"{where} is not a manifest: give a mapping with apiVersion, kind and metadata.name.")
    return Manifest(body["apiVersion"], body["kind"], name, metadata.get("namespace") or "", dict(body))


class Manager:
    """Applies and deletes. ``outcomes`` grows object by object, so that it is right when an error ends the work half-way.

    ``create_only`` are kinds whose existing objects are left as they are, and are never deleted. ``one_per_namespace`` are kinds
    of which a namespace may have one only: where there is another already, it is left to do its work. With ``only_own`` objects in
    which the field manager has no field are not deleted: they are other people's of the same name. ``timeout`` are the seconds
    for which an answer that passes by itself is borne. With ``dry``, nothing is changed; objects whose namespace or kind does
    not exist yet count as created if the user may create them.
    """

    def __init__(
        self,
        kube: Kube,
        field_manager: str,
        force: bool = False,
        create_only: Sequence[str] = (),
        one_per_namespace: Sequence[str] = (),
        only_own: bool = False,
        timeout: float = 60,
        dry: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._kube = kube
        self._resources = _resources.Resources(kube)
        self._query = {"fieldManager": field_manager, "force": "true" if force else "false"}
        self._owner = field_manager if only_own else ""
        self._dry = {"dryRun": "All"} if dry else {}
        self._create_only = create_only
        self._one_per_namespace = one_per_namespace
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self._outages = _wait.Outages()

    @property
    def changed(self) -> bool:
        """Whether anything was (would be) changed so far."""
        return any(outcome.action != UNCHANGED for outcome in self.outcomes)

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Apply all, in their order; raises ModelMonitoringError."""
        for manifest in manifests:
            self.outcomes.append(self._apply(manifest))

    def delete(self, manifests: Sequence[Manifest]) -> None:
        """Delete all that exist, last first, and wait until they are gone; raises ModelMonitoringError."""
        asked = []
        for manifest in reversed(manifests):
            collection = self._delete(manifest)
            if collection:
                asked.append((manifest, collection))
        if asked and not self._dry:
            with _wait.View(self._kube) as view:
                _wait.wait_for(view, lambda view: [gone(view, *item) for item in asked], self._timeout)

    def _apply(self, manifest: Manifest) -> Outcome:
        try:
            collection = self._persevere(lambda: self._collection(manifest))
        except _resources.NotServed:
            if not self._dry:
                raise
            return self._would_create(manifest, _resources.guess(manifest.kind))
        before = self._read(f"{collection}/{manifest.name}", manifest)
        if before is None and manifest.kind in self._one_per_namespace:
            others = self._persevere(lambda: self._kube.get(collection, f"list {manifest.kind}s in namespace {manifest.namespace}"))["items"]
            if others:
                return Outcome(manifest.target, UNCHANGED)
        if before is not None and manifest.kind in self._create_only:
            return Outcome(manifest.target, UNCHANGED, before, before)
        body = completed(manifest, before)
        try:
            after = self._persevere(
                lambda: self._kube.apply(
                    f"{collection}/{manifest.name}", body, f"apply {manifest.target}", fieldValidation="Strict", **self._query, **self._dry
                )
            )
        except KubeError as error:
            if error.status == 409:
                raise KubeError(f"{error} Take the fields over with force_conflicts=true, or leave them out of the manifest.", status=409) from error
            if error.status != 404 or not manifest.namespace:
                raise
            if self._dry:
                return self._would_create(manifest, collection.rpartition("/")[2])
            raise KubeError(
                f"{manifest.target}: namespace {manifest.namespace} does not exist. Create it, or correct the name.", status=404
            ) from error
        if before is None:
            return Outcome(manifest.target, CREATED, None, after)
        return Outcome(manifest.target, UNCHANGED if clean(before) == clean(after) else CHANGED, before, after)

    def _would_create(self, manifest: Manifest, plural: str) -> Outcome:
        """What a dry run cannot say because namespace or kind are not there yet; at least the rights can be asked for."""
        for verb in ("create", "patch"):
            review = self._review(verb, plural, manifest)
            if not review["status"].get("allowed"):
                resource = f"{plural}.{manifest.group}" if manifest.group else plural
                raise KubeError(
                    f"Cannot create {manifest.target}: the user of the play may not {verb} {resource} in namespace {manifest.namespace or '(none)'}."
                    f" Grant the verbs create and patch on it with a Role or ClusterRole.",
                    status=403,
                )
        return Outcome(manifest.target, CREATED, None, manifest.body)

    def _review(self, verb: str, plural: str, manifest: Manifest) -> Object:
        """The API server's answer to whether the user may do this."""
        attributes = {"verb": verb, "group": manifest.group, "resource": plural, "namespace": manifest.namespace}
        if verb != "create":
            attributes["name"] = manifest.name
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
        return self._persevere(
            lambda: self._kube.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body, "ask for the user's own rights")
        )

    def _delete(self, manifest: Manifest) -> str:
        """Ask for deletion; returns the path of the collection to watch, empty when there is nothing to wait for."""
        unchanged = Outcome(manifest.target, UNCHANGED)
        try:
            collection = self._persevere(lambda: self._collection(manifest))
        except _resources.NotServed:
            self.outcomes.append(unchanged)
            return ""
        path = f"{collection}/{manifest.name}"
        before = None if manifest.kind in self._create_only else self._read(path, manifest)
        if before is None or (self._owner and not managed(before, self._owner)):
            self.outcomes.append(unchanged)
            return ""
        try:
            self._persevere(lambda: self._kube.delete(path, f"delete {manifest.target}", propagationPolicy="Background", **self._dry))
        except KubeError as error:
            if error.status != 404:
                raise
        self.outcomes.append(Outcome(manifest.target, DELETED, before, None))
        return collection

    def _collection(self, manifest: Manifest) -> str:
        return self._resources.collection(manifest.api_version, manifest.kind, manifest.namespace, manifest.target)

    def _read(self, path: str, manifest: Manifest) -> Object | None:
        """The object as it is, None when there is none. One that may not be read is there if only its existence matters."""
        try:
            return self._persevere(lambda: self._kube.get(path, f"read {manifest.target}"))
        except KubeError as error:
            if error.status == 404:
                return None
            if error.status == 403 and manifest.kind in self._create_only:
                return manifest.body
            raise

    def _persevere(self, request: Callable[[], t.Any]) -> t.Any:
        """The answer to a request that is repeated while the trouble is of the kind that passes; raises KubeError."""
        patience = _wait.Patience(self._clock, self._outages)
        until = self._clock() + self._timeout
        while True:
            try:
                answer = request()
            except KubeError as error:
                if not passes(error):
                    raise
                pause = patience.endure(error)
                if self._clock() + pause > until:
                    raise
                self._sleep(pause)
            else:
                patience.answered()
                return answer


def completed(manifest: Manifest, before: Object | None) -> Object:
    """What to apply: with the generated values of a Secret, which are those that it has, else new ones."""
    if not manifest.generated:
        return manifest.body
    kept = (before or {}).get("data") or {}
    generated = {key: kept.get(key) or base64.b64encode(secrets.token_urlsafe(GENERATED_BYTES).encode()).decode() for key in manifest.generated}
    return {**manifest.body, "data": {**(manifest.body.get("data") or {}), **generated}}


def managed(item: Object, manager: str) -> bool:
    """Whether fields of an object are of a field manager."""
    return any(entry.get("manager") == manager for entry in item["metadata"].get("managedFields") or [])


def passes(error: KubeError) -> bool:
    """Whether the same request may succeed a little later. Without a status there was no answer at all."""
    return error.status is None or error.status in PASSING or (error.status == 500 and WEBHOOK_STARTS in str(error))


def gone(view: _wait.Viewer, manifest: Manifest, collection: str) -> _wait.State:
    """Whether an object that was deleted is gone: READY when it is. Raises KubeError."""
    found = _wait.first(view.items(_wait.Selection.named(collection, manifest.name, optional=True)))
    if found is None:
        return _wait.State(manifest.target, _wait.READY, "is gone")
    finalizers = ", ".join(found["metadata"].get("finalizers") or [])
    return _wait.State(
        manifest.target,
        _wait.WAITING,
        f"is being deleted{f' and waits for {finalizers}' if finalizers else ''}",
        "Look at the controller that clears its finalizers; it must still run" if finalizers else "Look at the kube-controller-manager",
    )


def clean(item: Object) -> Object:
    """An object without what the API server and controllers keep in it."""
    kept = {key: value for key, value in item.items() if key != "status"}
    kept["metadata"] = {key: value for key, value in item["metadata"].items() if key not in NOISE}
    annotations = {key: value for key, value in (kept["metadata"].pop("annotations", None) or {}).items() if key != LAST_APPLIED}
    if annotations:
        kept["metadata"]["annotations"] = annotations
    return kept


def diff(outcomes: Sequence[Outcome]) -> list[dict[str, str]]:
    """What has changed, as Ansible shows it: one entry for each object that is not unchanged."""
    return [
        {
            "before_header": outcome.target,
            "after_header": outcome.target,
            "before": _text(outcome.before, None),
            "after": _text(outcome.after, outcome.before),
        }
        for outcome in outcomes
        if outcome.action != UNCHANGED
    ]


def _text(item: Object | None, other: Object | None) -> str:
    if item is None:
        return ""
    shown = clean(item)
    if _is_secret(item):
        before = (other or {}).get("data") or {}
        shown["data"] = {key: HIDDEN_CHANGED if before.get(key, value) != value else HIDDEN for key, value in (item.get("data") or {}).items()}
    return yaml.safe_dump(shown, default_flow_style=False)


def _is_secret(item: Object) -> bool:
    return item.get("apiVersion") == "v1" and item.get("kind") == "Secret"
