# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: dotenv
short_description: Read values from the environment or a .env file
version_added: 0.1.0
author:
  - private_ai.model_monitoring contributors (@private-ai)
description:
  - Reads a value, usually a credential, from the environment of the controller; if it is not there, from a C(.env) file.
  - A value that is empty counts as missing, in both.
  - The file is read as python-dotenv does, without interpolation. A C($) or C(${NAME}) in a value is just that.
  - No message of this plugin holds a value.
options:
  _terms:
    description:
      - Names of the values, for example V(MINIO_ACCESS_KEY).
    type: list
    elements: str
    required: true
  file:
    description:
      - Path of the C(.env) file. C(~) is the home folder; a relative path starts from the folder in which Ansible was started.
      - It is read only for names that are not in the environment.
    type: str
    default: .env
  default:
    description:
      - What to return for a name that is found neither in the environment nor in the file, also when there is no file.
      - Without it the lookup fails for such a name.
    type: str
requirements:
  - python-dotenv >= 1.0
seealso:
  - plugin: ansible.builtin.env
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Credentials from the environment or the .env file
  private_ai.model_monitoring.minio_bucket:
    name: tempo-traces
    endpoint: http://minio.model-storage.svc:9000
    access_key: "{{ lookup('private_ai.model_monitoring.dotenv', 'MINIO_ACCESS_KEY') }}"
    secret_key: "{{ lookup('private_ai.model_monitoring.dotenv', 'MINIO_SECRET_KEY') }}"

- name: Another file, and a value to fall back on
  ansible.builtin.debug:
    msg: "{{ lookup('private_ai.model_monitoring.dotenv', 'MINIO_REGION', file='~/lab.env', default='us-east-1') }}"
"""

RETURN = r"""
_raw:
  description: The values, in the order of the names.
  type: list
  elements: str
"""

import io
import os
import typing as t

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

try:
    from dotenv import dotenv_values

    DOTENV_IMPORT_ERROR: ImportError | None = None
except ImportError as exc:
    DOTENV_IMPORT_ERROR = exc


def read_file(path: str) -> tuple[dict[str, str | None], str]:
    """Values of a .env file, and why there are none (empty when it could be read)."""
    if DOTENV_IMPORT_ERROR:
        return {}, "the Python package python-dotenv, which reads it, is not installed on the controller"
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except UnicodeDecodeError:
        return {}, "it is not a text in UTF-8"
    except OSError as exc:
        return {}, "it does not exist" if isinstance(exc, FileNotFoundError) else f"it cannot be read: {exc.strerror}"
    return dotenv_values(stream=io.StringIO(text), interpolate=False), ""


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[str]:
        unknown = sorted(set(kwargs) - {"file", "default"})
        if unknown:
            raise AnsibleLookupError(f"dotenv knows no option {', '.join(unknown)}: correct it, the options are file and default")
        self.set_options(var_options=variables, direct=kwargs)
        path = os.path.abspath(os.path.expanduser(self.get_option("file")))
        default = self.get_option("default")
        found = {key: os.environ[key] for key in terms if os.environ.get(key)}
        missing = [key for key in terms if key not in found]
        if missing:
            values, trouble = read_file(path)
            for key in missing:
                value = values.get(key) or default
                if value is None:
                    why = trouble or ("it is empty there" if key in values else "it is not in there")
                    raise AnsibleLookupError(
                        f"{key} is neither in the environment nor in {path} ({why}): export {key}, or write {key}=<value> into that file"
                    )
                found[key] = value
        return [found[key] for key in terms]
