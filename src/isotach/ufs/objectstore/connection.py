"""From a location and its options to the objects that reach the store.

Owns: obstore configuration, defaults of endpoints and of regions, and where S3 credentials come from (options, then the
environment, then what obstore finds by itself: web identity, container, instance profile).
Never: sends anything.
"""

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import UFS_CONNECT_TIMEOUT_S, UFS_REQUEST_TIMEOUT_S
from isotach.ufs.objectstore.s3_request import S3Endpoint
from isotach.ufs.uri import Scheme, UfsLocation

if TYPE_CHECKING:  # these names exist in obstore's stubs only
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, RetryConfig, S3Config, S3Credential

BucketStore = S3Store | GCSStore | AzureStore | MemoryStore
_TOKEN_VARIABLES: Final = ("AWS_SESSION_TOKEN", "AWS_TOKEN")


def client_config(options: Mapping[str, str], endpoint: str | None) -> "ClientConfig":
    """HTTP settings. Plain HTTP is allowed when asked for, or when the endpoint itself says http://."""
    is_http = (endpoint or "").startswith("http://")
    return {
        "allow_http": options.get("allow_http", "true" if is_http else "false") == "true",
        "connect_timeout": dt.timedelta(seconds=UFS_CONNECT_TIMEOUT_S),
        "timeout": dt.timedelta(seconds=UFS_REQUEST_TIMEOUT_S),
    }


def retry_config(attempts_max: int) -> "RetryConfig":
    """How often obstore itself tries again (our wrapper does it for every call but the parts of a streaming write)."""
    return {"max_retries": attempts_max - 1, "retry_timeout": dt.timedelta(seconds=UFS_REQUEST_TIMEOUT_S)}


def s3_endpoint(location: UfsLocation, options: Mapping[str, str], environ: Mapping[str, str]) -> S3Endpoint:
    """Everything our own S3 requests need; without `access_key_id` they would be unsigned."""
    region = options.get("region") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    custom = options.get("endpoint") or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    url = (custom or f"https://s3.{region}.{domain}").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise InvalidArgumentError(f"the endpoint {url!r} is not a URL: write http://host:port or https://host")
    if url.startswith("http://") and options.get("allow_http") == "false":
        raise InvalidArgumentError(
            f"the endpoint {url!r} is plain HTTP and allow_http is false: use https:// or drop allow_http"
        )
    # A dot in the bucket breaks the wildcard certificate of the virtual-host form.
    is_path_style = options.get("path_style", "true" if custom or "." in location.bucket else "false") == "true"
    key, secret, token = _s3_credentials(options, environ)
    return S3Endpoint(
        url=url,
        bucket=location.bucket,
        region=region,
        access_key_id=key,
        secret_access_key=secret,
        session_token=token,
        path_style=is_path_style,
    )


def s3_store(endpoint: S3Endpoint, options: Mapping[str, str], attempts_max: int) -> S3Store:
    """The same bucket for obstore. Explicit credentials are passed by a provider, so that no token of the environment
    mixes with them."""
    scheme, _, rest = endpoint.url.partition("://")
    url = endpoint.url if endpoint.path_style else f"{scheme}://{endpoint.bucket}.{rest}"
    config: S3Config = {
        "region": endpoint.region,
        "endpoint": url,
        "virtual_hosted_style_request": not endpoint.path_style,
        "skip_signature": options.get("anonymous") == "true",
    }
    key, secret = endpoint.access_key_id, endpoint.secret_access_key
    provider = None
    if key is not None and secret is not None:
        credential: S3Credential = {
            "access_key_id": key,
            "secret_access_key": secret,
            "token": endpoint.session_token,
            "expires_at": None,
        }

        def provider() -> "S3Credential":
            return credential

    return S3Store(
        endpoint.bucket,
        config=config,
        client_options=client_config(options, endpoint.url),
        retry_config=retry_config(attempts_max),
        credential_provider=provider,
    )


def gcs_store(location: UfsLocation, options: Mapping[str, str], attempts_max: int) -> GCSStore:
    """The bucket of a gs:// location."""
    names = {
        "service_account_file": "service_account",
        "service_account_key": "service_account_key",
        "endpoint": "base_url",
    }
    config: dict[str, str | bool] = {to: options[name] for name, to in names.items() if name in options}
    if options.get("anonymous") == "true":
        config["skip_signature"] = True
    return GCSStore(
        location.bucket,
        config=cast("GCSConfig", config),
        client_options=client_config(options, options.get("endpoint")),
        retry_config=retry_config(attempts_max),
    )


def azure_store(location: UfsLocation, options: Mapping[str, str], attempts_max: int) -> AzureStore:
    """The container of an az:// or abfs:// location."""
    account = options.get("account_name") or location.account
    if account is None:
        raise InvalidArgumentError(
            "no storage account: give the option account_name, or write abfss://container@account..."
        )
    config: dict[str, str | bool] = {
        "account_name": account,
        **{
            {"sas_token": "sas_key"}.get(name, name): value
            for name, value in options.items()
            if name in ("account_key", "sas_token", "tenant_id", "client_id", "client_secret", "endpoint")
        },
    }
    if options.get("anonymous") == "true":
        config["skip_signature"] = True
    return AzureStore(
        location.bucket,
        config=cast("AzureConfig", config),
        client_options=client_config(options, options.get("endpoint")),
        retry_config=retry_config(attempts_max),
    )


def bucket_store(location: UfsLocation, options: Mapping[str, str], attempts_max: int) -> GCSStore | AzureStore:
    """The store of a location that is not S3."""
    if location.scheme is Scheme.GS:
        return gcs_store(location, options, attempts_max)
    return azure_store(location, options, attempts_max)


def _s3_credentials(
    options: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[str | None, str | None, str | None]:
    if options.get("anonymous") == "true":
        return None, None, None
    key, secret = options.get("access_key_id"), options.get("secret_access_key")
    if (key is None) != (secret is None):
        missing = "secret_access_key" if secret is None else "access_key_id"
        raise InvalidArgumentError(
            f"the option {missing} is missing: give access_key_id and secret_access_key together"
        )
    if key is not None:
        return key, secret, options.get("session_token")
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        return None, None, None
    return key, secret, next((environ[name] for name in _TOKEN_VARIABLES if environ.get(name)), None)
