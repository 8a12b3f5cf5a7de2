"""Penstock's bytes outside Avro: the header, the framing, the choice of partition.

Written from docs/wire.md alone, with nothing but the standard library, so that it is a second opinion on the Rust code
and not an echo of it. Every reader of bytes here is total: what it cannot read raises Unreadable with the reason.
It knows no Kafka client, no registry and no Avro.
"""

import struct
from dataclasses import dataclass

HEADER_NAME = "penstock"
CONTROL_HEADER_NAME = "penstock.control"
HEADER_LENGTH = 44
HEADER_VERSION = 1

_FLAG_END = 0b01
_FLAG_IDENTITY_ONLY = 0b10
_HEADER = struct.Struct(">BBHIQQIQQ")
_FRAME = struct.Struct(">BI")
_FRAME_MAGIC = 0


class Unreadable(Exception):
    """Bytes that are not what the contract says."""


@dataclass(frozen=True, order=True)
class Position:
    """(epoch, commit LSN, seq): strictly increasing per source in every partition."""

    epoch: int
    commit_lsn: int
    seq: int

    def as_json(self):
        return {"epoch": self.epoch, "commit_lsn": lsn_text(self.commit_lsn), "seq": self.seq}


@dataclass(frozen=True)
class Header:
    """What a reader needs before it decodes anything else."""

    end_of_transaction: bool
    identity_only: bool
    source: int
    position: Position
    previous: Position

    def as_json(self):
        return {
            "end_of_transaction": self.end_of_transaction,
            "identity_only": self.identity_only,
            "source": self.source,
            "position": self.position.as_json(),
            "previous": self.previous.as_json(),
        }


def read_header(data):
    """Reads a header of this version, whatever it has grown to; a higher version is refused."""
    if not data:
        raise Unreadable("header of 0 bytes")
    if data[0] > HEADER_VERSION or data[0] == 0:
        raise Unreadable(f"header version {data[0]}; this reader knows version {HEADER_VERSION}: upgrade it")
    if len(data) < HEADER_LENGTH:
        raise Unreadable(f"header of {len(data)} bytes; version {HEADER_VERSION} has {HEADER_LENGTH}")
    _, flags, source, *positions = _HEADER.unpack_from(data)
    return Header(
        end_of_transaction=bool(flags & _FLAG_END),
        identity_only=bool(flags & _FLAG_IDENTITY_ONLY),
        source=source,
        position=Position(*positions[:3]),
        previous=Position(*positions[3:]),
    )


def split_frame(data):
    """Splits framed Avro into the schema's id in the registry and the Avro bytes."""
    if len(data) < _FRAME.size:
        raise Unreadable(f"{len(data)} bytes; framed Avro has at least {_FRAME.size}")
    magic, schema_id = _FRAME.unpack_from(data)
    if magic != _FRAME_MAGIC:
        raise Unreadable(f"first byte is {magic:#04x}; framed Avro starts with 0x00")
    return schema_id, data[_FRAME.size :]


def partition_of(account, partitions):
    """The partition in which all records of the account stand."""
    return (murmur2(account.encode("utf-8")) & 0x7FFFFFFF) % partitions


def murmur2(data):
    """MurmurHash2 in 32 bits, with the seed of Kafka's Java client."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) - len(data) % 4
    for (k,) in struct.iter_unpack("<I", data[:whole]):
        k = k * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def lsn_text(lsn):
    """As Postgres prints it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
