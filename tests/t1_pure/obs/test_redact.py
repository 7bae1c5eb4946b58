"""Tests of what is masked: names that look like secrets, and passwords in URIs.

Owns: examples that must and must not be hidden. Never: writes a log.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.obs.redact import MASK, is_secret_name, redact_options, redact_text, redact_value


@pytest.mark.parametrize(
    "name",
    ["secret_access_key", "access_key_id", "Password", "passwd", "session_token", "sas", "account-key", "api_key",
     "credentials", "Authorization", "private_key", "passphrase", "sas_token", "apikey"],
)  # fmt: skip
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["key", "path", "endpoint", "region", "cluster_secret_file", "pages_passed", "monkey", "sassy", "length"]
)
def test_plain_names(name: str) -> None:
    assert not is_secret_name(name)


def test_options_of_a_mount() -> None:
    options = {"endpoint": "http://u:pw@h:1/", "secret_access_key": "s", "region": "x"}

    assert redact_options(options) == {"endpoint": f"http://u:{MASK}@h:1/", "secret_access_key": MASK, "region": "x"}


@given(st.text(alphabet="abc123+=", min_size=1))
def test_a_password_in_a_uri_never_shows(password: str) -> None:
    assert redact_text(f"s3://user:{password}@host/path") == f"s3://user:{MASK}@host/path"


def test_text_without_a_password_is_left_alone() -> None:
    for text in ("s3://bucket/a@b:c", "isotach://host:19998", "a:b@c", "http://h:80/x@y"):
        assert redact_text(text) == text


def test_secrets_are_masked_at_any_depth() -> None:
    value = {"mounts": [{"options": {"token": "t", "n": 1}}], "uri": ("s3://a:b@c",)}

    assert redact_value("reply", value) == {
        "mounts": [{"options": {"token": MASK, "n": 1}}],
        "uri": [f"s3://a:{MASK}@c"],
    }
