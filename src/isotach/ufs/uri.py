"""Under-storage URIs and mount options: what may be written, what it means, and what must never be shown.

Owns: the schemes, the typed table of options of each, canonical names, nearest-name suggestions, masking. Pure.
Never: opens a store, reads the environment, or decodes percent signs (a URI holds the key or path as it is).
"""

import difflib
import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import UFS_REQUESTS_MAX
from isotach.conf.units import parse_size

MASK: Final = "******"


class Scheme(enum.StrEnum):
    """The kinds of store; the value is the canonical URI scheme."""

    FILE = "file"
    S3 = "s3"
    GS = "gs"
    AZ = "az"


SCHEME_NAMES: Final[Mapping[str, Scheme]] = {
    "file": Scheme.FILE,
    "s3": Scheme.S3,
    "s3a": Scheme.S3,
    "s3n": Scheme.S3,
    "gs": Scheme.GS,
    "gcs": Scheme.GS,
    "az": Scheme.AZ,
    "azure": Scheme.AZ,
    "abfs": Scheme.AZ,
    "abfss": Scheme.AZ,
}


class OptionSpec(msgspec.Struct, frozen=True):
    """One mount option of one scheme."""

    name: str
    meaning: str
    secret: bool = False
    boolean: bool = False
    aliases: tuple[str, ...] = ()


_ANONYMOUS = OptionSpec("anonymous", "true: send unsigned requests, for public data", boolean=True)
_ALLOW_HTTP = OptionSpec("allow_http", "true: permit http://; the default when the endpoint is http://", boolean=True)
_LIMITS = (
    OptionSpec("bandwidth", "bytes per second that one worker moves to and from the store at most, such as 100MiB"),
    OptionSpec("requests", "requests that one worker has under way to the store at most"),
)

OPTIONS: Final[Mapping[Scheme, tuple[OptionSpec, ...]]] = {
    Scheme.FILE: _LIMITS,
    Scheme.S3: (
        OptionSpec(
            "endpoint", "URL of an S3-compatible service; AWS when not given",
            aliases=("endpoint_url", "aws_endpoint_url", "alluxio.underfs.s3.endpoint", "fs.s3a.endpoint"),
        ),
        OptionSpec(
            "region", "region of the bucket, default us-east-1",
            aliases=("region_name", "aws_region", "alluxio.underfs.s3.endpoint.region", "alluxio.underfs.s3.region"),
        ),
        OptionSpec(
            "access_key_id", "access key",
            aliases=("aws_access_key_id", "access_key", "s3a.accessKeyId", "aws.accessKeyId", "fs.s3a.access.key"),
        ),
        OptionSpec(
            "secret_access_key", "secret key", secret=True,
            aliases=("aws_secret_access_key", "secret_key", "s3a.secretKey", "aws.secretKey", "fs.s3a.secret.key"),
        ),
        OptionSpec(
            "session_token", "token of temporary credentials", secret=True,
            aliases=("aws_session_token", "s3a.sessionToken", "fs.s3a.session.token"),
        ),
        OptionSpec(
            "path_style", "true: bucket in the path, not in the host name; the default with an endpoint", boolean=True,
            aliases=("alluxio.underfs.s3.disable.dns.buckets", "fs.s3a.path.style.access"),
        ),
        _ANONYMOUS,
        _ALLOW_HTTP,
        *_LIMITS,
    ),
    Scheme.GS: (
        OptionSpec("service_account_file", "path of a service account's JSON key", aliases=("service_account",)),
        OptionSpec("service_account_key", "a service account's JSON key itself", secret=True),
        OptionSpec("endpoint", "URL of a GCS-compatible service", aliases=("base_url",)),
        _ANONYMOUS,
        _ALLOW_HTTP,
        *_LIMITS,
    ),
    Scheme.AZ: (
        OptionSpec("account_name", "storage account", aliases=("azure_storage_account_name",)),
        OptionSpec("account_key", "key of the storage account", secret=True, aliases=("azure_storage_account_key",)),
        OptionSpec("sas_token", "shared access signature", secret=True, aliases=("sas_key",)),
        OptionSpec("tenant_id", "tenant of the service principal"),
        OptionSpec("client_id", "application id of the service principal"),
        OptionSpec("client_secret", "secret of the service principal", secret=True),
        OptionSpec("endpoint", "URL of the blob service, such as Azurite's"),
        _ANONYMOUS,
        _ALLOW_HTTP,
        *_LIMITS,
    ),
}  # fmt: skip


class UfsLocation(msgspec.Struct, frozen=True):
    """A parsed URI. For a folder `bucket` is empty and `prefix` is the absolute path; else `prefix` has no slash at
    either end and may be empty. `account` is set by abfs URIs only."""

    scheme: Scheme
    bucket: str
    prefix: str
    account: str | None = None

    @property
    def uri(self) -> str:
        """The canonical URI, without secrets and without a trailing slash."""
        if self.scheme is Scheme.FILE:
            return f"file://{self.prefix}"
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def parse_uri(uri: str) -> UfsLocation:
    """Parses `file:///p`, `/p`, `s3://bucket/prefix` (s3a, s3n), `gs://`, `az://container/prefix` or
    `abfs[s]://container@account.dfs.core.windows.net/prefix`.

    Raises InvalidArgumentError that says what is wrong and what to write instead.
    """
    if uri.startswith("/"):
        return _folder(uri, uri)
    name, found, rest = uri.partition("://")
    if not found:
        raise InvalidArgumentError(
            f"{_shown(uri)!r} is not an under-storage URI: write an absolute path or scheme://..., such as s3://bucket/prefix"
        )
    scheme = SCHEME_NAMES.get(name.lower())
    if scheme is None:
        raise InvalidArgumentError(f"unknown under-storage scheme {name!r}: {_choices(name, list(SCHEME_NAMES))}")
    if scheme is Scheme.FILE:
        return _folder(uri, rest)
    authority, _, prefix = rest.partition("/")
    account = None
    if "@" in authority:
        authority, account = _container_and_account(name, authority)
    if not authority or any(character in authority for character in " :\\?#"):
        raise InvalidArgumentError(f"{_shown(uri)!r} names no valid bucket: write {name}://bucket/prefix")
    prefix = prefix.strip("/")
    check_segments(prefix, uri)
    return UfsLocation(scheme, authority, prefix, account)


def check_segments(path: str, uri: str) -> None:
    """Refuses prefixes that no under storage can hold as they are: empty, `.` and `..` segments."""
    if path and any(part in ("", ".", "..") for part in path.split("/")):
        raise InvalidArgumentError(f"the path of {_shown(uri)!r} holds an empty, '.' or '..' part: write it without")


def parse_options(scheme: Scheme, options: Mapping[str, str]) -> dict[str, str]:
    """The options under their canonical names, checked.

    Raises InvalidArgumentError for an unknown name (with the nearest known one), for one given twice under two names,
    and for a boolean that is neither true nor false.
    """
    specs = OPTIONS[scheme]
    by_name = {alias.lower(): spec for spec in specs for alias in (spec.name, *spec.aliases)}
    result: dict[str, str] = {}
    for given, value in options.items():
        spec = by_name.get(given.lower())
        if spec is None:
            raise InvalidArgumentError(
                f"unknown option {given!r} for {scheme}: {_choices(given, [s.name for s in specs])}"
            )
        if spec.name in result and result[spec.name] != value:
            raise InvalidArgumentError(f"the option {spec.name} is given twice, with different values: give it once")
        result[spec.name] = ("true" if parse_bool(given, value) else "false") if spec.boolean else value
    parse_limits(result)
    return result


class MountLimits(msgspec.Struct, frozen=True):
    """What a mount's options say of how much one worker may ask of its store; 0: the worker's own limit."""

    bandwidth: int = 0  # bytes per second
    requests: int = 0


def parse_limits(options: Mapping[str, str]) -> MountLimits:
    """The limits among options that have canonical names. Raises InvalidArgumentError."""
    requests = options.get("requests", "0")
    if not requests.isascii() or not requests.isdigit() or int(requests) > UFS_REQUESTS_MAX:
        raise InvalidArgumentError(
            f"the option requests must be a number from 1 to {UFS_REQUESTS_MAX}, not {requests!r}"
        )
    try:
        bandwidth = parse_size(options.get("bandwidth", "0").removesuffix("/s"))
    except ValueError as error:
        raise InvalidArgumentError(f"the option bandwidth is bytes per second, such as 100MiB: {error}") from None
    return MountLimits(bandwidth, int(requests))


def parse_bool(name: str, value: str) -> bool:
    """True or false as people write them; InvalidArgumentError otherwise."""
    lowered = value.strip().lower()
    if lowered in ("true", "1", "yes", "on"):
        return True
    if lowered in ("false", "0", "no", "off"):
        return False
    raise InvalidArgumentError(f"the option {name} must be true or false, not {value!r}")


def mask_options(options: Mapping[str, str]) -> dict[str, str]:
    """The same options with every secret value replaced by `MASK`, for listings and logs."""
    return {name: MASK if is_secret(name) and value else value for name, value in options.items()}


def secrets_of(options: Mapping[str, str]) -> tuple[str, ...]:
    """The secret values, longest first, for scrubbing texts."""
    found = {value for name, value in options.items() if is_secret(name) and value}
    return tuple(sorted(found, key=len, reverse=True))


def is_secret(name: str) -> bool:
    """Whether an option of this name holds a secret. An unknown name that sounds like one is taken as one."""
    lowered = name.lower()
    if lowered in _SECRET_NAMES:
        return True
    return lowered not in _PLAIN_NAMES and any(
        word in lowered for word in ("secret", "password", "token", "key", "credential")
    )


_SECRET_NAMES: Final = frozenset(
    alias.lower() for specs in OPTIONS.values() for spec in specs if spec.secret for alias in (spec.name, *spec.aliases)
)
_PLAIN_NAMES: Final = frozenset(
    alias.lower()
    for specs in OPTIONS.values()
    for spec in specs
    if not spec.secret
    for alias in (spec.name, *spec.aliases)
)


def _folder(uri: str, path: str) -> UfsLocation:
    if not path.startswith("/"):
        raise InvalidArgumentError(f"{_shown(uri)!r} is not absolute: write file:///absolute/path (three slashes)")
    if "\0" in path:
        raise InvalidArgumentError(f"{uri!r} holds a NUL byte: write the plain path of the folder")
    cleaned = "/" + "/".join(part for part in path.split("/") if part)
    check_segments(cleaned[1:], uri)
    return UfsLocation(Scheme.FILE, "", cleaned)


def _container_and_account(name: str, authority: str) -> tuple[str, str]:
    container, _, host = authority.rpartition("@")
    if not name.lower().startswith("abfs") or ":" in container:
        raise InvalidArgumentError(
            f"the {name} URI carries credentials before '@': give them as options instead (access_key_id, ...)"
        )
    return container, host.split(".", 1)[0]


def _choices(given: str, known: list[str]) -> str:
    if not known:
        return "it takes no options; remove it"
    near = difflib.get_close_matches(given.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}Supported: {', '.join(known)}"


def _shown(uri: str) -> str:
    """The URI without anything that stands where credentials would."""
    scheme, found, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    if found and "@" in authority:
        authority = f"{MASK}@{authority.rpartition('@')[2]}"
        return f"{scheme}://{authority}{slash}{path}"
    return uri
