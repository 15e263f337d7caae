# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What is decided about a bucket, without an object store."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._bucket import (
    RULE_ID,
    Action,
    Bucket,
    BucketError,
    Wanted,
    check_name,
    check_tags,
    expiry_of,
    plan,
    show,
    wanted_of,
    with_expiry,
)


@pytest.mark.parametrize("name", ["abc", "tempo-traces", "a.b.c", "1a2", "a" * 63, "1.2.3", "a--b"])
def test_valid_names(name):
    check_name(name)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("Tempo_Bucket", "it may hold only lower-case letters, digits, dots and hyphens"),
        ("Tempo", "only lower-case"),
        ("tempo_traces", "only lower-case"),
        ("tempo traces", "only lower-case"),
        ("tempo/traces", "only lower-case"),
        ("grün", "only lower-case"),
        ("tempo\n", "only lower-case"),
        ("", "3 to 63 characters"),
        ("ab", "3 to 63 characters"),
        ("a" * 64, "3 to 63 characters"),
        ("-abc", "begin and end with a letter or digit"),
        ("abc.", "begin and end with a letter or digit"),
        ("a..b", "a dot must stand between letters or digits"),
        ("a.-b", "a dot must stand between letters or digits"),
        ("a-.b", "a dot must stand between letters or digits"),
        ("192.168.0.1", "must not look like an IP address"),
        ("xn--abc", "what S3 keeps for itself"),
        ("sthree-abc", "what S3 keeps for itself"),
        ("abc-s3alias", "what S3 keeps for itself"),
        ("abc--ol-s3", "what S3 keeps for itself"),
    ],
)
def test_invalid_names(name, rule):
    with pytest.raises(BucketError) as caught:
        check_name(name)
    assert rule in str(caught.value)
    assert str(caught.value).startswith("name: '")


def test_tags_are_texts():
    assert check_tags(None) is None
    assert check_tags({}) == {}
    assert check_tags({"team": "monitoring", 1: 2, "empty": "", "ratio": 0.5}) == {"team": "monitoring", "1": "2", "empty": "", "ratio": "0.5"}


@pytest.mark.parametrize("tags", [{"a": True}, {"a": None}, {"a": ["b"]}, {"a": {}}, {"": "b"}, {"a" * 129: "b"}, {"a": "b" * 257}])
def test_tags_that_s3_cannot_hold(tags):
    with pytest.raises(BucketError, match="^tags: "):
        check_tags(tags)


PARAMS = {
    "name": "tempo-traces",
    "state": "present",
    "access_key": "a",
    "secret_key": "s",
    "timeout": 30,
    "versioning": "unmanaged",
    "object_lock": None,
    "lifecycle_expiry_days": None,
    "tags": None,
    "force": False,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Wanted()),
        ({"state": "absent", "force": True}, Wanted(present=False, force=True)),
        (
            {"versioning": "enabled", "object_lock": False, "lifecycle_expiry_days": 0, "tags": {"n": 1}},
            Wanted(True, "enabled", False, 0, {"n": "1"}),
        ),
    ],
)
def test_wanted(changes, expected):
    assert wanted_of({**PARAMS, **changes}) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Tempo_Bucket"}, "name: 'Tempo_Bucket' is not a valid bucket name"),
        ({"access_key": ""}, "access_key: it is empty: give the access key of the object store"),
        ({"secret_key": ""}, "secret_key: it is empty: give the secret key of the object store"),
        ({"timeout": 0}, "timeout: 0 is not a number of seconds"),
        ({"lifecycle_expiry_days": -1}, "lifecycle_expiry_days: -1 is not a number of days"),
        ({"object_lock": True, "versioning": "suspended"}, "versioning: object_lock=true needs versioning"),
        ({"tags": {"a": True}}, "tags: the value of 'a' is not a text"),
    ],
)
def test_parameters_that_cannot_be_used(changes, message):
    with pytest.raises(BucketError) as caught:
        wanted_of({**PARAMS, **changes})
    assert message in str(caught.value)


PLAIN = Bucket()
FULL = Bucket("enabled", True, 7, {"a": "b"}, True)


@pytest.mark.parametrize(
    ("observed", "wanted", "actions", "after"),
    [
        pytest.param(None, Wanted(), [("create", False)], PLAIN, id="new"),
        pytest.param(PLAIN, Wanted(), [], PLAIN, id="there, nothing else asked"),
        pytest.param(None, Wanted(object_lock=False), [("create", False)], PLAIN, id="new, no lock"),
        pytest.param(None, Wanted(object_lock=True), [("create", True)], Bucket("enabled", True), id="lock brings versioning"),
        pytest.param(None, Wanted(object_lock=True, versioning="enabled"), [("create", True)], Bucket("enabled", True), id="lock and versioning"),
        pytest.param(
            None,
            Wanted(versioning="enabled", expiry=7, tags={"a": "b"}),
            [("create", False), ("versioning", "enabled"), ("expiry", 7), ("tags", {"a": "b"})],
            Bucket("enabled", False, 7, {"a": "b"}),
            id="new with all",
        ),
        pytest.param(None, Wanted(expiry=0, tags={}), [("create", False)], PLAIN, id="new, nothing to take away"),
        pytest.param(FULL, Wanted(True, "enabled", True, 7, {"a": "b"}), [], FULL, id="all as wanted"),
        pytest.param(FULL, Wanted(), [], FULL, id="what is not asked for stays"),
        pytest.param(PLAIN, Wanted(versioning="suspended"), [("versioning", "suspended")], Bucket("suspended"), id="off is not suspended"),
        pytest.param(Bucket("enabled"), Wanted(versioning="suspended"), [("versioning", "suspended")], Bucket("suspended"), id="suspend"),
        pytest.param(Bucket(expiry=7), Wanted(expiry=8), [("expiry", 8)], Bucket(expiry=8), id="other days"),
        pytest.param(Bucket(expiry=7), Wanted(expiry=0), [("expiry", 0)], PLAIN, id="rule away"),
        pytest.param(Bucket(expiry="changed"), Wanted(expiry=7), [("expiry", 7)], Bucket(expiry=7), id="rule repaired"),
        pytest.param(Bucket(expiry="changed"), Wanted(expiry=0), [("expiry", 0)], PLAIN, id="changed rule away"),
        pytest.param(Bucket(tags={"a": "b"}), Wanted(tags={"c": "d"}), [("tags", {"c": "d"})], Bucket(tags={"c": "d"}), id="tags replaced"),
        pytest.param(Bucket(tags={"a": "b"}), Wanted(tags={}), [("tags", {})], PLAIN, id="tags away"),
        pytest.param(FULL, Wanted(object_lock=True), [], FULL, id="lock is there"),
        pytest.param(PLAIN, Wanted(object_lock=False), [], PLAIN, id="no lock is right"),
        pytest.param(None, Wanted(present=False), [], None, id="absent already"),
        pytest.param(PLAIN, Wanted(present=False), [("delete", None)], None, id="delete empty"),
        pytest.param(PLAIN, Wanted(present=False, force=True), [("delete", None)], None, id="force has nothing to do"),
        pytest.param(FULL, Wanted(present=False, force=True), [("empty", None), ("delete", None)], None, id="force empties"),
    ],
)
def test_plan(observed, wanted, actions, after):
    assert plan("b", observed, wanted) == ([Action(*action) for action in actions], after)
    assert plan("b", after, wanted)[0] == []  # what is planned leads to where nothing has to be done


@pytest.mark.parametrize(
    ("observed", "wanted", "message"),
    [
        (FULL, Wanted(present=False), "bucket 'b' is not empty (objects, older versions or delete markers): empty it, or set force=true"),
        (PLAIN, Wanted(object_lock=True), "object_lock: bucket 'b' exists without object lock, which S3 can set only when a bucket is created"),
        (FULL, Wanted(object_lock=False), "object_lock: bucket 'b' has object lock, which S3 cannot take away"),
        (FULL, Wanted(versioning="suspended"), "versioning: bucket 'b' has object lock, which needs versioning"),
    ],
)
def test_plan_refuses(observed, wanted, message):
    with pytest.raises(BucketError) as caught:
        plan("b", observed, wanted)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("bucket", "wanted", "expected"),
    [
        (None, Wanted(), {"state": "absent"}),
        (FULL, Wanted(), {"state": "present"}),
        (FULL, Wanted(present=False), {"state": "present", "empty": False}),
        (PLAIN, Wanted(present=False), {"state": "present", "empty": True}),
        (
            FULL,
            Wanted(True, "enabled", True, 1, {}),
            {"state": "present", "versioning": "enabled", "object_lock": True, "lifecycle_expiry_days": 7, "tags": {"a": "b"}},
        ),
        (
            PLAIN,
            Wanted(True, "suspended", False, 1, {}),
            {"state": "present", "versioning": "off", "object_lock": False, "lifecycle_expiry_days": 0, "tags": {}},
        ),
    ],
)
def test_show_only_what_is_managed(bucket, wanted, expected):
    assert show("b", bucket, wanted) == {"name": "b", **expected}


# Lifecycle rules

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
FOREIGN = (
    "<Rule><ID>theirs</ID><Status>Enabled</Status><Filter><And><Prefix>x/</Prefix><ObjectSizeGreaterThan>1024</ObjectSizeGreaterThan></And></Filter>"
    "<Expiration><Days>3</Days></Expiration><VendorThing><Depth>2</Depth></VendorThing></Rule>"
)
OURS = (
    f"<Rule><ID>{RULE_ID}</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter><Expiration><Days>7</Days></Expiration>"
    "<NoncurrentVersionExpiration><NoncurrentDays>7</NoncurrentDays></NoncurrentVersionExpiration></Rule>"
)


def lifecycle(*rules, namespace=NAMESPACE):
    return f"<LifecycleConfiguration{f' xmlns={chr(34)}{namespace}{chr(34)}' if namespace else ''}>{''.join(rules)}</LifecycleConfiguration>"


@pytest.mark.parametrize("namespace", ["", NAMESPACE])
@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], None),
        ([FOREIGN], None),
        ([OURS], 7),
        ([FOREIGN, OURS], 7),
        ([OURS.replace("<Filter><Prefix></Prefix></Filter>", "<Filter/>")], 7),
        ([OURS.replace("<Status>Enabled</Status>", "").replace("</Rule>", "<Status>Enabled</Status></Rule>")], 7),
    ],
)
def test_expiry_is_read(rules, expected, namespace):
    assert expiry_of(lifecycle(*rules, namespace=namespace)) == expected


def test_no_lifecycle_configuration():
    assert expiry_of(None) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Enabled", "Disabled"),
        ("<Prefix></Prefix>", "<Prefix>x/</Prefix>"),
        ("<NoncurrentDays>7<", "<NoncurrentDays>8<"),
        ("<Expiration><Days>7</Days></Expiration>", ""),
        ("<Days>7</Days>", "<Date>2030-01-01T00:00:00Z</Date>"),
    ],
)
def test_rule_that_somebody_changed_is_seen(old, new):
    assert str(expiry_of(lifecycle(OURS.replace(old, new)))).startswith("changed by somebody: ")


def canonical(text):
    """XML whose namespace prefixes and white space do not matter."""
    return ElementTree.canonicalize(text, strip_text=True, rewrite_prefixes=True)


@pytest.mark.parametrize("namespace", ["", NAMESPACE])
@pytest.mark.parametrize(
    ("before", "days", "after"),
    [
        ([FOREIGN], 7, [FOREIGN, OURS]),
        ([FOREIGN, OURS], 8, [FOREIGN, OURS.replace(">7<", ">8<")]),
        ([OURS.replace("Enabled", "Disabled"), FOREIGN], 7, [FOREIGN, OURS]),
        ([OURS, FOREIGN], 0, [FOREIGN]),
        ([OURS, OURS], 7, [OURS]),
    ],
)
def test_rules_of_others_are_kept_as_they_are(before, days, after, namespace):
    result = with_expiry(lifecycle(*before, namespace=namespace), days)
    assert canonical(result) == canonical(lifecycle(*after, namespace=namespace))
    assert ":Rule" not in result  # some object stores do not know namespace prefixes
    assert expiry_of(result) == (days or None)


def test_first_rule():
    assert canonical(with_expiry(None, 7)) == canonical(lifecycle(OURS, namespace=""))


@pytest.mark.parametrize("before", [None, lifecycle(), lifecycle(OURS)])
def test_nothing_is_left(before):
    assert with_expiry(before, 0) is None
