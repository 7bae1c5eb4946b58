"""Masking of secrets in whatever is logged or shown to users.

Owns: which names look like secrets. Never: the secrets; values pass through and are forgotten.
"""

import re
from collections.abc import Mapping
from typing import Final

MASK: Final = "***"

_SECRET_NAME: Final = re.compile(
    r"secret|passw|passphrase|token|credential|(access|account|api|private|session|shared|encryption)_?key|signature|"
    r"authorization|cookie|(^|_)sas(_|$)",
    re.IGNORECASE,
)
#: user:password@ in a URI.
_URI_PASSWORD: Final = re.compile(r"(?<=://)([^/@:\s]*):([^/@\s]+)@")


def is_secret_name(name: str) -> bool:
    """Whether a value under this name must not be shown. A name that ends in `_file` or `_path` only says where."""
    plain = name.replace("-", "_")
    return _SECRET_NAME.search(plain) is not None and not plain.lower().endswith(("_file", "_path", "_dir"))


def redact_options(options: Mapping[str, str]) -> dict[str, str]:
    """A copy in which the values of secret names are masked; for mount options."""
    return {name: MASK if is_secret_name(name) else redact_text(value) for name, value in options.items()}


def redact_text(text: str) -> str:
    """The text with passwords in URIs masked."""
    return _URI_PASSWORD.sub(rf"\1:{MASK}@", text) if "://" in text else text


def redact_value(name: str, value: object) -> object:
    """The value of a log field, with secrets masked at any depth of mappings and lists."""
    if is_secret_name(name):
        return MASK
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {str(key): redact_value(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(name, inner) for inner in value]
    return value
