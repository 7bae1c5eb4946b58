"""Starting a write: what the user asked for, as a request to the master.

Owns: `WriteOptions` and the create call. Never: sends bytes.
"""

import msgspec

from isotach.base.types import TtlAction, WriteType
from isotach.client import operations
from isotach.client.operations import Operation
from isotach.client.placing import locality_of
from isotach.conf import ClientSettings
from isotach.wire.messages import CreateReply, CreateRequest


class WriteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a new file shall be like, checked. Zero and -1 stand for the defaults, as on the wire."""

    write_type: WriteType
    block_size: int = 0  # bytes
    ttl_ms: int = -1
    ttl_action: str = TtlAction.DELETE.value
    overwrite: bool = True
    mode: int = -1
    memory_only: bool = False
    write_type_given: bool = True  # False: the client's default, which gives way to a policy of the path
    replication_min: int = -1
    replication_max: int = -2
    placement: str = ""  # a location policy; empty: as the settings say
    placement_host: str = ""


def write_options(
    settings: ClientSettings,
    *,
    write_type: str | None,
    block_size: int | None,
    ttl_s: float | None,
    ttl_action: str,
    overwrite: bool,
    mode: int | None,
    memory_only: bool = False,
    replication: tuple[int, int] | None = None,
    placement: str | None = None,
) -> WriteOptions:
    """Raises InvalidArgumentError for a value that makes no sense."""
    policy, _, host = (placement or "").partition(":")
    return WriteOptions(
        write_type=settings.write_type if write_type is None else operations.write_type(write_type),
        block_size=operations.block_bytes(block_size) or settings.block_size,
        ttl_ms=operations.ttl_ms(ttl_s),
        ttl_action=operations.ttl_action(ttl_action),
        overwrite=overwrite,
        mode=operations.mode_bits(mode),
        memory_only=memory_only,
        write_type_given=write_type is not None,
        replication_min=-1 if replication is None else replication[0],
        replication_max=-2 if replication is None else replication[1],
        placement=operations.placement(policy) if policy else "",
        placement_host=host,
    )


def create(path: bytes, options: WriteOptions, settings: ClientSettings, host_key: str) -> Operation[CreateReply]:
    """Asks for a version to write; missing parent directories are made when it is completed."""
    return operations.create(
        CreateRequest(
            path=path,
            write_type=options.write_type.value,
            mode=options.mode,
            block_size=options.block_size,
            overwrite=options.overwrite,
            parents=True,
            ttl_ms=options.ttl_ms,
            ttl_action=options.ttl_action,
            placement=options.placement or settings.write_location_policy,
            host_key=host_key,
            locality=list(locality_of(settings.locality)),
            placement_host=options.placement_host or settings.write_location_host or "",
            memory_only=options.memory_only,
            replication_min=options.replication_min,
            replication_max=options.replication_max,
            write_type_given=options.write_type_given,
        )
    )
