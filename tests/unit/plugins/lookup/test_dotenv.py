# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os

import pytest
import yaml
from ansible import constants as C
from ansible.errors import AnsibleLookupError
from ansible_collections.private_ai.model_monitoring.plugins.lookup import dotenv

NAME = "private_ai.model_monitoring.dotenv"
SECRET = "s3cr3t-value"


@pytest.fixture
def lookup(monkeypatch, tmp_path):
    """The plugin with its documented options, in an empty folder and with none of the test's names in the environment."""
    C.config.initialize_plugin_configuration_definitions("lookup", NAME, yaml.safe_load(dotenv.DOCUMENTATION)["options"])
    monkeypatch.chdir(tmp_path)
    for key in ("ACCESS", "SECRET"):
        monkeypatch.delenv(key, raising=False)

    def run(*terms, **options):
        plugin = dotenv.LookupModule()
        plugin._load_name = NAME
        return plugin.run(list(terms), {}, **options)

    return run


def error_of(lookup, *terms, **options):
    with pytest.raises(AnsibleLookupError) as caught:
        lookup(*terms, **options)
    return str(caught.value)


def test_environment_goes_before_the_file(lookup, monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("ACCESS=file\nSECRET=file\n")
    monkeypatch.setenv("ACCESS", "environment")
    assert lookup("SECRET", "ACCESS") == ["file", "environment"]


def test_file_is_not_needed_when_all_is_in_the_environment(lookup, monkeypatch):
    monkeypatch.setenv("ACCESS", "environment")
    assert lookup("ACCESS") == ["environment"]


def test_empty_in_the_environment_counts_as_missing(lookup, monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("ACCESS=file\n")
    monkeypatch.setenv("ACCESS", "")
    assert lookup("ACCESS") == ["file"]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("ACCESS=plain", "plain"),
        ("export ACCESS=exported", "exported"),
        ("ACCESS='single $HOME ${HOME}'", "single $HOME ${HOME}"),
        ('ACCESS="a$b${HOME}#c"', "a$b${HOME}#c"),
        ("ACCESS=${HOME}", "${HOME}"),
        ("ACCESS=a=b==", "a=b=="),
        ("ACCESS=value # comment", "value"),
        ("ACCESS='Grün'", "Grün"),
        ("# comment\n\nACCESS=x\r\n", "x"),
    ],
)
def test_values_are_taken_as_they_are(lookup, tmp_path, line, value):
    (tmp_path / ".env").write_text(line + "\n", encoding="utf-8")
    assert lookup("ACCESS") == [value]


def test_file_by_absolute_home_and_relative_path(lookup, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "lab.env").write_text("ACCESS=x\n")
    monkeypatch.setenv("HOME", str(tmp_path / "sub"))
    for path in (str(tmp_path / "sub" / "lab.env"), "sub/lab.env", "~/lab.env"):
        assert lookup("ACCESS", file=path) == ["x"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "it does not exist"),
        ("", "it is not in there"),
        ("OTHER=" + SECRET, "it is not in there"),
        ("ACCESS=", "it is empty there"),
        ("ACCESS", "it is empty there"),
    ],
)
def test_missing_key(lookup, tmp_path, content, why):
    if content is not None:
        (tmp_path / ".env").write_text(content)
    path = tmp_path / ".env"
    assert error_of(lookup, "ACCESS") == (
        f"ACCESS is neither in the environment nor in {path} ({why}): export ACCESS, or write ACCESS=<value> into that file"
    )


def test_first_missing_key_is_named(lookup, monkeypatch):
    monkeypatch.setenv("ACCESS", SECRET)
    message = error_of(lookup, "ACCESS", "SECRET")
    assert message.startswith("SECRET is neither")
    assert SECRET not in message


def test_file_that_is_not_text(lookup, tmp_path):
    (tmp_path / ".env").write_bytes(b"ACCESS=\xff\xfe" + SECRET.encode())
    message = error_of(lookup, "ACCESS")
    assert "(it is not a text in UTF-8)" in message
    assert SECRET not in message


def test_file_that_cannot_be_read(lookup, tmp_path):
    (tmp_path / ".env").mkdir()
    assert "(it cannot be read: Is a directory)" in error_of(lookup, "ACCESS")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_without_permission(lookup, tmp_path):
    (tmp_path / ".env").touch(mode=0)
    assert "(it cannot be read: Permission denied)" in error_of(lookup, "ACCESS")


def test_line_that_is_no_assignment_is_not_repeated(lookup, tmp_path, caplog):
    (tmp_path / ".env").write_text(f'ACCESS="{SECRET}\nOTHER=x\n')
    message = error_of(lookup, "ACCESS")
    assert SECRET not in message + caplog.text


@pytest.mark.parametrize("default", ["fallback", ""])
def test_default(lookup, tmp_path, default):
    assert lookup("ACCESS", default=default) == [default]
    (tmp_path / ".env").write_text("ACCESS=\nSECRET=x\n")
    assert lookup("ACCESS", "SECRET", default=default) == [default, "x"]


def test_mistyped_option_is_refused(lookup, monkeypatch):
    monkeypatch.setenv("ACCESS", "x")
    assert error_of(lookup, "ACCESS", fiel=".env") == "dotenv knows no option fiel: correct it, the options are file and default"
