# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""From models and tasks, as a site writes them down, to evaluations, as module lm_eval_job takes them."""

from __future__ import annotations

import hashlib
import re
import typing as t

from ansible_collections.private_ai.model_monitoring.plugins.module_utils._lm_eval_run import LONGEST_NAME

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Item = Mapping[str, t.Any]

#: Where TrustyAI's image has things, and where ours are mounted.
TASKS_PATH = "/opt/app-root/src/my_tasks"
TOKENIZER_PATH = "/opt/app-root/src/tokenizer"
CA_PATH = "/etc/evaluation-ca"
#: Of ``lmeval_offline_s3`` the one reference that is to a ConfigMap, whatever the schema of the LMEvalJob calls it.
AUTHORITIES = "caBundle"
#: What TrustyAI's operator writes into a command line as it is. Newer ones refuse all else; older ones would have a shell read it.
_PLAIN = re.compile(r"[a-zA-Z0-9._/:-]+")


def problems(models: Sequence[Item], tasks: Sequence[Item], settings: Item) -> list[str]:
    """What is wrong with them, each in one line that names the variable and the cure."""
    found: list[str] = []
    names = [model["name"] for model in models]
    for name in _twice(names):
        found.append(f"lmeval_models: two are named {name}. Give each a name of its own: results are told apart by it.")
    for model in models:
        baseline = model.get("baseline")
        if baseline and (baseline not in names or baseline == model["name"]):
            others = ", ".join(name for name in names if name != model["name"]) or "no other model"
            found.append(f"lmeval_models: the baseline {baseline} of {model['name']} is none. Correct it; there is {others}.")
        if model.get("url") and model.get("inference_service"):
            found.append(f"lmeval_models: {model['name']} has both a url and an inference_service. Leave one of them out.")
        if model.get("url") and not re.match(r"https?://[^/]", model["url"]):
            found.append(
                f"lmeval_models: the url '{model['url']}' of {model['name']} is none. Give scheme and host, as http://my-model.demo.svc:8000."
            )
        elif re.search(r"/v1/?$", model.get("url") or ""):
            found.append(f"lmeval_models: the url '{model['url']}' of {model['name']} ends in /v1, which is added to it. Leave it out.")
        if model.get("tokenizer") and model.get("tokenizer_config_map"):
            found.append(f"lmeval_models: {model['name']} has both a tokenizer and a tokenizer_config_map. Leave one of them out.")
    for name in _twice([task["name"] for task in tasks]):
        found.append(f"lmeval_tasks: {name} is there twice. Its results could not be told apart: leave one out.")
    for where, value in [("lmeval_limit", settings.get("limit")), *((f"lmeval_tasks: limit of {task['name']}", task.get("limit")) for task in tasks)]:
        if value is not None and not limit_is_good(value):
            found.append(f"{where}: {value} is no limit. Give a number of documents from 1 on, or a share of them between 0 and 1, as 0.1.")
    few_shot = _first(settings.get("few_shot"))
    if few_shot is not None and not re.fullmatch(r"[0-9]+", str(few_shot)):
        found.append(f"lmeval_few_shot: {few_shot} is no number of examples. Give one from 0 on, or leave it empty for each task's own.")
    for task in tasks:
        if task.get("git") and task.get("config_map"):
            found.append(f"lmeval_tasks: {task['name']} has both git and config_map. Leave one of them out.")
        online = _online(task, settings)
        if task.get("git") and not online:
            found.append(
                f"lmeval_tasks: {task['name']} comes from git, and online access is off. Set lmeval_online to true, or mount it with config_map."
            )
        if not (task.get("config_map") or task.get("git") or online or settings.get("offline")):
            found.append(
                f"lmeval_tasks: the data of {task['name']} cannot be had: it is no task of config_map, online access is off, and there is no offline"
                " storage. Set lmeval_online to true, or lmeval_offline_volume, or mount it with config_map."
            )
    for where, value in _written(models, tasks, settings):
        if not _PLAIN.fullmatch(str(value)):
            found.append(f"{where}: '{value}' cannot be written into LM-Eval's command line. Use letters, digits and . _ / : - alone.")
    return found


def _written(models: Sequence[Item], tasks: Sequence[Item], settings: Item) -> Iterable[tuple[str, t.Any]]:
    """What becomes part of LM-Eval's command line, and where it comes from."""
    for model in models:
        of = f"lmeval_models: {model['name']}"
        yield from ((f"{of}: {key}", model[key]) for key in ("url", "served_name", "tokenizer") if model.get(key))
        yield from _pairs(f"{of}: arguments", model.get("arguments"))
    for task in tasks:
        yield "lmeval_tasks: name", task["name"]
        yield from _pairs(f"lmeval_tasks: {task['name']}: generation_arguments", task.get("generation_arguments"))
    for key in ("model_arguments", "generation_arguments"):
        yield from _pairs(f"lmeval_{key}", settings.get(key))


def _pairs(where: str, values: Mapping[str, t.Any] | None) -> Iterable[tuple[str, t.Any]]:
    for name, value in (values or {}).items():
        yield where, name
        yield f"{where}: {name}", value


def limit_is_good(value: t.Any) -> bool:
    """Whether it is a number of documents or a share of them. The harness takes 1.5 for one document, and 0 for all."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool) and (0 < number < 1 or (number >= 1 and number.is_integer()))


def secrets(models: Sequence[Item], settings: Item) -> list[dict[str, str]]:
    """The Secrets that must exist, with a key that each must have, and what wants it."""
    found = [{**model["key_secret"], "of": f"lmeval_models: {model['name']}"} for model in models if model.get("key_secret")]
    found += [{**one, "of": f"lmeval_secrets: {name}"} for name, one in (settings.get("secrets") or {}).items()]
    s3 = (settings.get("offline") or {}).get("s3") or {}
    found += [{**one, "of": f"lmeval_offline_s3: {name}"} for name, one in s3.items() if isinstance(one, dict) and name != AUTHORITIES]
    return found


def config_maps(models: Sequence[Item], tasks: Sequence[Item], settings: Item) -> list[dict[str, str]]:
    """The ConfigMaps that must exist, and what wants them."""
    found = [{"name": task["config_map"], "of": f"lmeval_tasks: {task['name']}"} for task in tasks if task.get("config_map")]
    for model in models:
        for key in ("tokenizer_config_map", "ca_config_map"):
            if model.get(key):
                found.append({"name": model[key], "of": f"lmeval_models: {key} of {model['name']}"})
    authorities = ((settings.get("offline") or {}).get("s3") or {}).get(AUTHORITIES)
    if authorities:
        found.append({"name": authorities["name"], "of": f"lmeval_offline_s3: {AUTHORITIES}"})
    return found


def needs(models: Sequence[Item], tasks: Sequence[Item], settings: Item) -> dict[str, t.Any]:
    """What must be there before anything is made."""
    return {
        "secrets": secrets(models, settings),
        "config_maps": config_maps(models, tasks, settings),
        "inference_services": queries(models, settings["namespace"]),
    }


def queries(models: Sequence[Item], namespace: str) -> list[dict[str, str]]:
    """The InferenceServices to ask for, as module inference_service_info takes them."""
    return [
        {"name": model.get("inference_service") or model["name"], "namespace": model.get("namespace") or namespace}
        for model in models
        if not model.get("url")
    ]


def evaluations(models: Sequence[Item], tasks: Sequence[Item], settings: Item, found: Sequence[Item]) -> list[dict[str, t.Any]]:
    """Each task of each model whose address is known. ``found``: what module inference_service_info has found."""
    services = {(one["namespace"], one["name"]): one for one in found}
    made = []
    for model in models:
        address, served = model.get("url"), model.get("served_name")
        if not address:
            (query,) = queries([model], settings["namespace"])
            service = services.get((query["namespace"], query["name"])) or {}
            address, served = service.get("url"), served or service.get("model")
        if address:
            made += [_evaluation(model, task, settings, address.rstrip("/"), served or model["name"]) for task in tasks]
    return made


def _evaluation(model: Item, task: Item, settings: Item, url: str, served: str) -> dict[str, t.Any]:
    return {
        "name": job_name(model["name"], task["name"]),
        "model": model["name"],
        "annotations": dict(settings.get("annotations") or {}),
        "spec": _spec(model, task, settings, url, served),
    }


def _spec(model: Item, task: Item, settings: Item, url: str, served: str) -> dict[str, t.Any]:
    chat = bool(task["chat"] if task.get("chat") is not None else model.get("chat"))
    local = bool(task.get("config_map"))
    hub_tokenizer = bool(model.get("tokenizer")) and not model["tokenizer"].startswith("/")
    arguments = {
        "model": served,
        "base_url": f"{url}/v1/chat/completions" if chat else f"{url}/v1/completions",
        "num_concurrent": 1,
        "max_retries": 3,
        "tokenized_requests": False,
        **_tokenizer(model),
        **(settings.get("model_arguments") or {}),
        **(model.get("arguments") or {}),
    }
    spec: dict[str, t.Any] = {
        "model": "local-chat-completions" if chat else "local-completions",
        "modelArgs": _arguments(arguments),
        "taskList": {"taskNames": [task["name"]]},
        "logSamples": bool(settings.get("log_samples", True)),
        "batchSize": str(_first(task.get("batch_size"), settings.get("batch_size"), 1)),
        "outputs": {"pvcManaged": {"size": settings.get("volume_size") or "1Gi"}},
        "allowOnline": _online(task, settings) and (not local or hub_tokenizer or bool(task.get("online"))),
        "allowCodeExecution": bool(_first(task.get("code_execution"), settings.get("code_execution"), False)),
    }
    limit = _first(task.get("limit"), settings.get("limit"))
    if limit is not None:
        spec["limit"] = f"{float(limit):g}" if float(limit) < 1 else str(int(float(limit)))
    few_shot = _first(task.get("few_shot"), settings.get("few_shot"))
    if few_shot is not None:
        spec["numFewShot"] = int(few_shot)
    generation = {**(settings.get("generation_arguments") or {}), **(task.get("generation_arguments") or {})}
    if generation:
        spec["genArgs"] = _arguments(generation)
    if chat:
        spec["chatTemplate"] = {"enabled": True}
    if task.get("git"):
        spec["taskList"]["customTasks"] = {"source": {"git": dict(task["git"])}}
    if settings.get("offline"):
        spec["offline"] = {"storage": dict(settings["offline"])}
    spec["pod"] = _pod(model, task, settings)
    return spec


def _pod(model: Item, task: Item, settings: Item) -> dict[str, t.Any]:
    """What the evaluation's pod gets: secrets by reference, and what is mounted."""
    wanted = {**({"OPENAI_API_KEY": model["key_secret"]} if model.get("key_secret") else {}), **(settings.get("secrets") or {})}
    environment: list[dict[str, t.Any]] = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": one["name"], "key": one["key"]}}} for name, one in sorted(wanted.items())
    ]
    mounted = []
    if task.get("config_map"):
        mounted.append(("tasks", task["config_map"], f"{TASKS_PATH}/{task['config_map']}"))
    if model.get("tokenizer_config_map"):
        mounted.append(("tokenizer", model["tokenizer_config_map"], TOKENIZER_PATH))
    if model.get("ca_config_map"):
        mounted.append(("ca", model["ca_config_map"], CA_PATH))
        authorities = "/".join((CA_PATH, model.get("ca_key") or "service-ca.crt"))
        environment += [{"name": name, "value": authorities} for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")]
    container: dict[str, t.Any] = {}
    if environment:
        container["env"] = environment
    if mounted:
        container["volumeMounts"] = [{"name": name, "mountPath": path, "readOnly": True} for name, _config_map, path in mounted]
    if settings.get("resources"):
        container["resources"] = settings["resources"]
    pod: dict[str, t.Any] = {"container": container}
    if mounted:
        pod["volumes"] = [{"name": name, "configMap": {"name": config_map}} for name, config_map, _path in mounted]
    return pod


def job_name(model: str, task: str) -> str:
    """A name of small letters, digits and hyphens; one that had to be cut ends in a hash."""
    name = re.sub(r"[^a-z0-9]+", "-", f"{model}-{task}".lower()).strip("-")
    plain = f"{model}-{task}".lower().replace("_", "-").replace(".", "-")
    if name == plain and len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 7].strip('-')}-{hashlib.sha256(f'{model}/{task}'.encode()).hexdigest()[:6]}"


def _tokenizer(model: Item) -> dict[str, t.Any]:
    """Without one the harness sends text and counts nothing, which is enough for tasks that generate."""
    if model.get("tokenizer_config_map"):
        return {"tokenizer": TOKENIZER_PATH}
    return {"tokenizer": model["tokenizer"]} if model.get("tokenizer") else {"tokenizer_backend": "none"}


def _online(task: Item, settings: Item) -> bool:
    return bool(_first(task.get("online"), settings.get("online"), False))


def _first(*values: t.Any) -> t.Any:
    """The first that was given; templates make an empty text of nothing."""
    return next((value for value in values if value is not None and value != ""), None)


def _arguments(values: Mapping[str, t.Any]) -> list[dict[str, str]]:
    return [{"name": name, "value": str(value)} for name, value in values.items()]


def _twice(names: Iterable[str]) -> list[str]:
    listed = list(names)
    return sorted({name for name in listed if listed.count(name) > 1})
