"""The driver for object stores: S3 and what speaks it, Google Cloud Storage, Azure Blob Storage."""

import os
from collections.abc import Mapping

from isotach.base.limits import UFS_REQUEST_TIMEOUT_S, UFS_RETRY_ATTEMPTS_MAX
from isotach.ufs.objectstore.connection import bucket_store, s3_endpoint, s3_store
from isotach.ufs.objectstore.driver import ObjectUnderStorage
from isotach.ufs.objectstore.faults import Classifier
from isotach.ufs.objectstore.obstore_api import ObstoreApi
from isotach.ufs.objectstore.s3_api import S3Api
from isotach.ufs.objectstore.s3_request import S3Requester
from isotach.ufs.retry import DEFAULT_POLICY
from isotach.ufs.uri import Scheme, UfsLocation, secrets_of

_NO_KEYS_HINT = (
    "no keys were given, so those of the machine's role were looked for: give {}, or anonymous=true for public data"
)
_KEYS = {
    Scheme.S3: "access_key_id and secret_access_key as options or in the environment",
    Scheme.GS: "service_account_file or service_account_key",
    Scheme.AZ: "account_key, sas_token, or tenant_id with client_id and client_secret",
}
_SERVICES = {Scheme.GS: "Google Cloud Storage", Scheme.AZ: "Azure Blob Storage"}

__all__ = ["open_object_store"]


def open_object_store(
    location: UfsLocation, options: Mapping[str, str], environ: Mapping[str, str] = os.environ
) -> ObjectUnderStorage:
    """The driver for an s3, gs or az location; `options` have canonical names (`uri.parse_options`). Sends nothing yet.

    S3 with keys at hand, or anonymous, is spoken to by `S3Api`; S3 with credentials that only obstore can find (web
    identity, container, instance profile), GCS and Azure by `ObstoreApi` alone, with what that lacks.
    """
    root = f"{location.scheme}://{location.bucket}"
    if location.scheme is not Scheme.S3:
        classifier = Classifier(root, options.get("endpoint", _SERVICES[location.scheme]), secrets_of(options))
        with classifier.translating(None):  # wrong keys can fail here already
            store, check_store = (bucket_store(location, options, attempts) for attempts in (UFS_RETRY_ATTEMPTS_MAX, 1))
        has_keys = bool(secrets_of(options)) or "service_account_file" in options or options.get("anonymous") == "true"
        hint = "" if has_keys else _NO_KEYS_HINT.format(_KEYS[location.scheme])
        return ObjectUnderStorage(ObstoreApi(store, classifier, check_store), location.uri, location.prefix, hint)
    endpoint = s3_endpoint(location, options, environ)
    secrets = [secret for secret in (endpoint.secret_access_key, endpoint.session_token) if secret]
    classifier = Classifier(root, endpoint.url, secrets)
    if endpoint.access_key_id is None and options.get("anonymous") != "true":
        once = s3_store(endpoint, options, 1)
        patient = s3_store(endpoint, options, UFS_RETRY_ATTEMPTS_MAX)
        hint = _NO_KEYS_HINT.format(_KEYS[Scheme.S3])
        return ObjectUnderStorage(ObstoreApi(patient, classifier, once), location.uri, location.prefix, hint)
    requester = S3Requester(endpoint, UFS_REQUEST_TIMEOUT_S)
    api = S3Api(s3_store(endpoint, options, 1), requester, location.bucket, classifier, DEFAULT_POLICY)
    return ObjectUnderStorage(api, location.uri, location.prefix)
