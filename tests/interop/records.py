"""Every kind of record, decoded from the registry alone and held against the contract.

A record's kind is told by what it is, not by its topic's name: the control header first, then a null value, then the
full name of the schema it was written with. What cannot be decoded, or decodes to something that docs/wire.md rules
out, raises wire.Unreadable. Values are printed as they stand in Avro (a timestamp is its microseconds): nothing is
rounded, and infinity and dates before Christ need no special case. It knows no Kafka client.
"""

import io
import json
import math
import urllib.error
import urllib.request
from dataclasses import dataclass

import fastavro

import wire

CONTROL_KINDS = frozenset({"truncate", "epoch", "gap", "reload_begin", "reload_end", "dead_letter"})
_REGISTRY_TIMEOUT_SECONDS = 30
_NO_TABLE = ("", None)
_BITS_64 = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True)
class Raw:
    """A record as Kafka gives it. `headers` is a list of (name, bytes)."""

    key: bytes | None
    value: bytes | None
    headers: list
    timestamp_ms: int
    partition: int
    partitions: int


class Registry:
    """Schemas by id, through the Confluent API of any registry; each is fetched once."""

    def __init__(self, url):
        self._url = url.rstrip("/")
        self._schemas = {}

    def schema(self, schema_id):
        """The parsed schema and its full name."""
        if schema_id not in self._schemas:
            self._schemas[schema_id] = self._fetch(schema_id)
        return self._schemas[schema_id]

    def _fetch(self, schema_id):
        text = self._text(schema_id)
        try:
            schema = fastavro.parse_schema(_without_logical_types(json.loads(text)), named_schemas={})
        except Exception as error:  # whatever the parser makes of text from outside
            raise wire.Unreadable(f"schema {schema_id} is no Avro schema: {error!r}") from error
        name = schema.get("name") if isinstance(schema, dict) and schema.get("type") == "record" else None
        if not name:
            raise wire.Unreadable(f"schema {schema_id} is not a record; the contract's all are")
        return schema, name

    def _text(self, schema_id):
        url = f"{self._url}/schemas/ids/{schema_id}"
        try:
            with urllib.request.urlopen(url, timeout=_REGISTRY_TIMEOUT_SECONDS) as answer:
                body = json.load(answer)
            text, references = body["schema"], body.get("references")
        except urllib.error.HTTPError as error:
            raise wire.Unreadable(f"registry answered {error.code} for schema {schema_id} ({url})") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise wire.Unreadable(f"registry gave no schema {schema_id} ({url}): {error!r}") from error
        if references:
            raise wire.Unreadable(f"schema {schema_id} refers to other schemas; the contract's stand alone")
        return text

    def decode(self, data, what):
        """Framed Avro to (schema id, full name, value). All bytes must be used."""
        try:
            schema_id, avro = wire.split_frame(data)
        except wire.Unreadable as error:
            raise wire.Unreadable(f"{what}: {error}") from error
        schema, name = self.schema(schema_id)
        stream = io.BytesIO(avro)
        try:
            value = fastavro.schemaless_reader(stream, schema, None)
        except Exception as error:  # the decoder raises half a dozen types on bytes that don't fit
            raise wire.Unreadable(f"{what}: not a {name} (schema {schema_id}): {error!r}") from error
        if stream.tell() != len(avro):
            raise wire.Unreadable(f"{what}: {len(avro) - stream.tell()} bytes follow the {name} (schema {schema_id})")
        return schema_id, name, value


def decode(registry, raw):
    """One record as a JSON-ready dict."""
    header = _header(raw.headers)
    control = _single(raw.headers, wire.CONTROL_HEADER_NAME)
    if raw.value is None:
        _check(control is None, "a control record without a value; they are never tombstoned")
        return _tombstone(registry, raw, _required(header))
    schema_id, name, body = registry.decode(raw.value, "value")
    _check(
        (control is not None) == (name == "penstock.wire.Control"),
        f"value is a {name}, header {wire.CONTROL_HEADER_NAME} is {control!r}",
    )
    if name == "penstock.wire.Progress":
        record = _progress(raw)
    elif name == "penstock.wire.Control":
        record = _control(registry, raw, body, _required(header), control)
    elif name == "penstock.wire.DeadLetter":
        record = _dead_letter(registry, raw, _required(header))
    elif name.endswith(".Envelope"):
        record = _data(registry, raw, name, body, _required(header))
    else:
        raise wire.Unreadable(f"value is a {name}, which is no record of the contract")
    return {**record, "value_schema": name, "value_schema_id": schema_id, "value": _plain(body)}


def _data(registry, raw, name, body, header):
    decoded = _row_key(registry, raw)
    _check(decoded["key_schema"] == name.removesuffix("Envelope") + "Key", f"a {name} under a {decoded['key_schema']}")
    _check_envelope(body)
    source, position = body["source"], header.position
    # Avro's longs are signed, the header's numbers are not: the same 64 bits.
    for field, in_header in (("commit_lsn", position.commit_lsn), ("seq", position.seq)):
        _check(source[field] & _BITS_64 == in_header, f"header {position}, but source.{field} {source[field]}")
    _check(body["ts_ms"] == raw.timestamp_ms, f"ts_ms {body['ts_ms']}, but Kafka's timestamp {raw.timestamp_ms}")
    return {"kind": "data", "op": body["op"], **decoded, "header": header.as_json()}


def _check_envelope(body):
    """Which of before, after and transaction each operation has."""
    op, before, after = body["op"], body["before"], body["after"]
    _check(op in ("c", "u", "d", "r"), f"op {op!r}")
    _check((after is None) == (op == "d"), f"op {op!r} {'without' if after is None else 'with'} after")
    _check(before is None or op in ("u", "d"), f"op {op!r} with before")
    _check(before is not None or op != "d", "op 'd' without before")
    loaded = op == "r"
    for field in ("txId", "lsn"):
        _check((body["source"][field] is None) == loaded, f"op {op!r} with source.{field} {body['source'][field]!r}")
    _check((body["transaction"] is None) == loaded, f"op {op!r} with transaction {body['transaction']!r}")
    for column in body["unchanged"]:
        _check(
            after is not None and after.get(column, 0) is None, f"column {column!r} is unchanged, but not null in after"
        )


def _tombstone(registry, raw, header):
    return {"kind": "tombstone", **_row_key(registry, raw), "value": None, "header": header.as_json()}


def _dead_letter(registry, raw, header):
    """Its key is the row's, or null if the bytes of one could not be made."""
    return {"kind": "dead_letter", **_key(registry, raw), "header": header.as_json()}


def _control(registry, raw, body, header, control):
    kind = control.decode("utf-8", "replace")
    _check(kind in CONTROL_KINDS, f"control record of the unknown kind {kind!r}")
    decoded = _key(registry, raw)
    _check(decoded.get("key_schema") == "penstock.wire.ControlKey", "control record without its key")
    fields = decoded["key"]
    _check(kind == body["kind"] == fields["kind"], f"kinds differ: {kind!r}, {body['kind']!r}, {fields['kind']!r}")
    for field in ("schema", "table"):
        same = body[field] == fields[field] or (body[field] in _NO_TABLE and fields[field] in _NO_TABLE)
        _check(same, f"{field} is {fields[field]!r} in the key, {body[field]!r} in the value")
    _check(fields["source"] == header.source, f"source {fields['source']} in the key, {header.source} in the header")
    return {"kind": "control", "control": kind, **decoded, "header": header.as_json()}


def _progress(raw):
    """Its key is the source's name in plain UTF-8, without framing."""
    try:
        return {"kind": "progress", "key": raw.key.decode("utf-8")}
    except (AttributeError, UnicodeDecodeError) as error:
        raise wire.Unreadable(f"progress under the key {raw.key!r}; expected a source's name") from error


def _row_key(registry, raw):
    """A row's key; its account must be why the record stands in this partition."""
    decoded = _key(registry, raw)
    _check(decoded["key"] is not None, "no key")
    account = decoded["key"].get("__account")
    _check(isinstance(account, str), f"key has the account {account!r}")
    expected = wire.partition_of(account, raw.partitions)
    _check(
        expected == raw.partition,
        f"account {account!r} belongs to partition {expected} of {raw.partitions}, not {raw.partition}",
    )
    return decoded


def _key(registry, raw):
    if raw.key is None:
        return {"key": None}
    schema_id, name, value = registry.decode(raw.key, "key")
    return {"key": _plain(value), "key_schema": name, "key_schema_id": schema_id}


def _header(headers):
    data = _single(headers, wire.HEADER_NAME)
    return None if data is None else wire.read_header(data)


def _required(header):
    _check(header is not None, f"no header {wire.HEADER_NAME!r}")
    return header


def _single(headers, name):
    values = [value for header, value in headers if header == name]
    _check(len(values) <= 1, f"{len(values)} headers {name!r}")
    _check(None not in values, f"header {name!r} is null")
    return values[0] if values else None


def _check(holds, otherwise):
    if not holds:
        raise wire.Unreadable(otherwise)


def _without_logical_types(schema):
    """fastavro would turn what it knows into Python's dates, which end at year 9999 and know no infinity."""
    if isinstance(schema, dict):
        return {name: _without_logical_types(part) for name, part in schema.items() if name != "logicalType"}
    if isinstance(schema, list):
        return [_without_logical_types(part) for part in schema]
    return schema


def _plain(value):
    """What JSON can hold: bytes as Postgres prints them, NaN and infinities as text."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
