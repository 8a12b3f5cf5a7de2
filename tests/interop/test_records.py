"""Every record kind through a real HTTP registry, and what must be refused."""

import copy
import http.server
import io
import json
import struct
import threading
import unittest

import fastavro

import records
import wire

SOURCE = {
    "type": "record",
    "name": "Source",
    "namespace": "penstock.wire",
    "fields": [
        *({"name": name, "type": "string"} for name in ("version", "connector", "name")),
        {"name": "ts_ms", "type": "long"},
        {"name": "ts_us", "type": "long"},
        *({"name": name, "type": "string"} for name in ("snapshot", "db", "schema", "table")),
        {"name": "txId", "type": ["null", "long"], "default": None},
        {"name": "lsn", "type": ["null", "long"], "default": None},
        {"name": "commit_lsn", "type": "long"},
        {"name": "seq", "type": "long"},
    ],
}
TRANSACTION = {
    "type": "record",
    "name": "Transaction",
    "namespace": "penstock.wire",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "total_order", "type": "long"},
        {"name": "data_collection_order", "type": "long"},
    ],
}
VALUE = {
    "type": "record",
    "name": "Value",
    "namespace": "penstock.public.clients",
    "fields": [
        {"name": "id", "type": ["null", {"type": "string", "logicalType": "uuid"}], "default": None, "pg.type": "uuid"},
        {"name": "seen_at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}], "default": None},
        {"name": "latitude", "type": ["null", "double"], "default": None},
        {"name": "raw", "type": ["null", "bytes"], "default": None},
        {"name": "labels", "type": ["null", {"type": "array", "items": ["null", "string"]}, "string"], "default": None},
    ],
}
POSITION_FIELDS = [{"name": name, "type": "long"} for name in ("epoch", "commit_lsn", "seq")]
POSITION = {"type": "record", "name": "Position", "namespace": "penstock.wire", "fields": POSITION_FIELDS}
SCHEMAS = {
    1: {
        "type": "record",
        "name": "Key",
        "namespace": "penstock.public.clients",
        "fields": [
            {"name": "__account", "type": "string"},
            {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        ],
    },
    2: {
        "type": "record",
        "name": "Envelope",
        "namespace": "penstock.public.clients",
        "fields": [
            {"name": "before", "type": ["null", VALUE], "default": None},
            {"name": "after", "type": ["null", "penstock.public.clients.Value"], "default": None},
            {"name": "source", "type": SOURCE},
            {"name": "op", "type": "string"},
            {"name": "ts_ms", "type": "long"},
            {"name": "transaction", "type": ["null", TRANSACTION], "default": None},
            {"name": "unchanged", "type": {"type": "array", "items": "string"}},
        ],
    },
    3: {
        "type": "record",
        "name": "ControlKey",
        "namespace": "penstock.wire",
        "fields": [
            {"name": "__account", "type": "string"},
            {"name": "source", "type": "int"},
            *({"name": name, "type": "string"} for name in ("kind", "schema", "table")),
        ],
    },
    4: {
        "type": "record",
        "name": "Control",
        "namespace": "penstock.wire",
        "fields": [
            *({"name": name, "type": "string"} for name in ("kind", "schema", "table")),
            {"name": "account", "type": ["null", "string"], "default": None},
            {"name": "begin", "type": ["null", POSITION], "default": None},
            {"name": "detail", "type": ["null", "string"], "default": None},
        ],
    },
    5: {
        "type": "record",
        "name": "Progress",
        "namespace": "penstock.wire",
        "fields": [
            {"name": "slot", "type": "string"},
            {"name": "end_lsn", "type": "long"},
            {"name": "last", "type": POSITION},
        ],
    },
    6: {
        "type": "record",
        "name": "DeadLetter",
        "namespace": "penstock.wire",
        "fields": [
            *({"name": name, "type": "string"} for name in ("schema", "table", "op", "reason")),
            {"name": "columns", "type": {"type": "map", "values": ["null", "string"]}},
        ],
    },
    7: {"type": "record", "name": "Stranger", "namespace": "elsewhere", "fields": [{"name": "x", "type": "long"}]},
    8: {"type": "array", "items": "long"},
}
ACCOUNT = "6bdbc8a7-7c14-3b1b-a1b5-1f4d2a2d1c11"
ROW = "d0a0c7a4-0f5c-4a4d-9f3c-0c7a3f0f2b11"
PARTITIONS = 12
PARTITION = wire.partition_of(ACCOUNT, PARTITIONS)
COMMIT_LSN, SEQ, COMMIT_MS = 0x16B374D848, 8, 1_735_689_600_123


class RegistryHandler(http.server.BaseHTTPRequestHandler):
    """The Confluent API's one path that readers need, and ids that misbehave."""

    def do_GET(self):
        prefix, _, schema_id = self.path.rpartition("/")
        schema = SCHEMAS.get(int(schema_id)) if prefix == "/apis/ccompat/v7/schemas/ids" else None
        answers = {
            90: (500, b"{}"),
            91: (200, b"not json"),
            92: (200, b'{"schema": "{\\"type\\": \\"nonsense\\"}"}'),
            93: (200, b'{"schema": "{}", "references": [{"name": "a", "subject": "b", "version": 1}]}'),
            94: (200, b"[]"),
        }
        missing = (404, b'{"error_code": 40403}')
        code, body = (
            (200, json.dumps({"schema": json.dumps(schema)}).encode())
            if schema
            else answers.get(int(schema_id), missing)
        )
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def framed(schema_id, value):
    stream = io.BytesIO()
    fastavro.schemaless_writer(
        stream, fastavro.parse_schema(copy.deepcopy(SCHEMAS[schema_id]), named_schemas={}), value
    )
    return struct.pack(">BI", 0, schema_id) + stream.getvalue()


def header(position=(1, COMMIT_LSN, SEQ), flags=1, source=7):
    return (wire.HEADER_NAME, struct.pack(">BBHIQQIQQ", 1, flags, source, *position, 0, 0, 0))


def control_header(kind):
    return (wire.CONTROL_HEADER_NAME, kind.encode())


def row(**changed):
    empty = {"id": ROW, "seen_at": None, "latitude": None, "raw": None, "labels": None}
    return {**empty, **changed}


def envelope(op, before, after, **changed):
    loaded = op == "r"
    source = {
        "version": "1",
        "connector": "postgresql",
        "name": "main",
        "ts_ms": COMMIT_MS,
        "ts_us": COMMIT_MS * 1000,
        "snapshot": "incremental" if loaded else "false",
        "db": "app",
        "schema": "public",
        "table": "clients",
        "txId": None if loaded else 741,
        "lsn": None if loaded else COMMIT_LSN - 100,
        "commit_lsn": COMMIT_LSN,
        "seq": SEQ,
    }
    transaction = None if loaded else {"id": f"741:{COMMIT_LSN}", "total_order": 1, "data_collection_order": 1}
    body = {
        "before": before,
        "after": after,
        "source": source,
        "op": op,
        "ts_ms": COMMIT_MS,
        "transaction": transaction,
        "unchanged": [],
    }
    return {**body, **changed}


def raw(key, value, headers, **changed):
    fields = {"timestamp_ms": COMMIT_MS, "partition": PARTITION, "partitions": PARTITIONS, **changed}
    return records.Raw(key=key, value=value, headers=headers, **fields)


def key(account=ACCOUNT):
    return framed(1, {"__account": account, "id": ROW})


def control(kind, key_kind=None, key_source=7, table="clients", headers=None):
    schema = "public" if table else ""
    return raw(
        framed(3, {"__account": "", "source": key_source, "kind": key_kind or kind, "schema": schema, "table": table}),
        framed(4, {"kind": kind, "schema": schema, "table": table, "account": None, "begin": None, "detail": None}),
        [header(), control_header(kind)] if headers is None else headers,
    )


class RecordsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), RegistryHandler)
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        cls.url = f"http://127.0.0.1:{cls.server.server_port}/apis/ccompat/v7/"

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()

    def setUp(self):
        self.registry = records.Registry(self.url)

    def decode(self, record):
        decoded = records.decode(self.registry, record)
        json.dumps(decoded, allow_nan=False)
        return decoded

    def refuse(self, record, reason):
        with self.assertRaisesRegex(wire.Unreadable, reason):
            records.decode(self.registry, record)

    def test_every_operation(self):
        for op, before, after in [
            ("c", None, row()),
            ("u", row(), row()),
            ("u", None, row()),
            ("d", row(), None),
            ("r", None, row()),
        ]:
            decoded = self.decode(raw(key(), framed(2, envelope(op, before, after)), [header()]))
            self.assertEqual((decoded["kind"], decoded["op"]), ("data", op))
            self.assertEqual(decoded["key"], {"__account": ACCOUNT, "id": ROW})
            self.assertEqual(decoded["value"]["after"], after)
            self.assertEqual(decoded["header"]["position"], {"epoch": 1, "commit_lsn": "16/B374D848", "seq": 8})

    def test_values_that_json_or_python_cannot_hold(self):
        after = row(seen_at=2**63 - 1, latitude=float("nan"), raw=b"\x00\xff", labels=["a", None, "🌊"])
        decoded = self.decode(raw(key(), framed(2, envelope("c", None, after)), [header()]))["value"]["after"]
        self.assertEqual(decoded["seen_at"], 2**63 - 1)
        self.assertEqual(decoded["latitude"], "NaN")
        self.assertEqual(decoded["raw"], "\\x00ff")
        self.assertEqual(decoded["labels"], ["a", None, "🌊"])
        after = row(seen_at=-(2**63), latitude=float("-inf"), labels="[0:1]={a,b}")
        decoded = self.decode(raw(key(), framed(2, envelope("c", None, after)), [header()]))["value"]["after"]
        self.assertEqual(
            (decoded["seen_at"], decoded["latitude"], decoded["labels"]), (-(2**63), "-Infinity", "[0:1]={a,b}")
        )

    def test_tombstone(self):
        decoded = self.decode(raw(key(), None, [header((1, COMMIT_LSN, 9))]))
        self.assertEqual((decoded["kind"], decoded["value"], decoded["key"]["id"]), ("tombstone", None, ROW))

    def test_every_control_kind(self):
        for kind in sorted(records.CONTROL_KINDS):
            decoded = self.decode(control(kind))
            self.assertEqual((decoded["kind"], decoded["control"], decoded["value"]["kind"]), ("control", kind, kind))
        self.assertEqual(self.decode(control("gap", table=""))["key"]["table"], "")

    def test_progress(self):
        value = framed(5, {"slot": "penstock", "end_lsn": 9, "last": {"epoch": 1, "commit_lsn": 8, "seq": 8}})
        decoded = self.decode(raw("größe".encode(), value, []))
        self.assertEqual((decoded["kind"], decoded["key"], decoded["value"]["slot"]), ("progress", "größe", "penstock"))
        self.refuse(raw(None, value, []), "progress under the key None")
        self.refuse(raw(b"\xff", value, []), "progress under the key")

    def test_dead_letter_with_and_without_a_key(self):
        value = framed(
            6,
            {
                "schema": "public",
                "table": "clients",
                "op": "c",
                "reason": "too large",
                "columns": {"id": ROW, "x": None},
            },
        )
        self.assertEqual(self.decode(raw(key(), value, [header()]))["key"]["id"], ROW)
        decoded = self.decode(raw(None, value, [header()], partition=0, partitions=1))
        self.assertEqual(
            (decoded["kind"], decoded["key"], decoded["value"]["columns"]["x"]), ("dead_letter", None, None)
        )

    def test_schemas_are_fetched_once(self):
        first = self.registry.schema(1)
        self.assertIs(self.registry.schema(1), first)

    def test_bytes_that_do_not_fit_are_refused(self):
        good = framed(2, envelope("c", None, row()))
        self.refuse(raw(key(), good + b"\x00", [header()]), "1 bytes follow the penstock.public.clients.Envelope")
        self.refuse(raw(key()[:-1], good, [header()]), "key: not a penstock.public.clients.Key")
        self.refuse(raw(b"\x05abcd", good, [header()]), "key: first byte is 0x05")
        self.refuse(raw(b"", good, [header()]), "key: 0 bytes")
        self.refuse(raw(key(), b"", [header()]), "value: 0 bytes")
        # Every truncation of a value ends in a reason, never in a decoded record or another exception.
        for length in range(len(good)):
            self.refuse(raw(key(), good[:length], [header()]), "value: ")

    def test_a_registry_that_does_not_answer_is_told(self):
        for schema_id, reason in [
            (77, "answered 404 for schema 77"),
            (90, "answered 500"),
            (91, "gave no schema 91"),
            (92, "no Avro schema"),
            (93, "refers to other schemas"),
            (94, "gave no schema 94"),
        ]:
            self.refuse(raw(key(), struct.pack(">BI", 0, schema_id), [header()]), reason)
        closed = records.Registry("http://127.0.0.1:9/none")
        with self.assertRaisesRegex(wire.Unreadable, "gave no schema 1 "):
            closed.schema(1)

    def test_values_that_are_no_record_of_the_contract(self):
        self.refuse(raw(key(), framed(7, {"x": 1}), [header()]), "elsewhere.Stranger, which is no record")
        self.refuse(raw(key(), framed(8, [1]), [header()]), "not a record")

    def test_headers(self):
        good = framed(2, envelope("c", None, row()))
        self.refuse(raw(key(), good, []), "no header 'penstock'")
        self.refuse(raw(key(), None, []), "no header 'penstock'")
        self.refuse(raw(key(), good, [header(), header()]), "2 headers 'penstock'")
        self.refuse(raw(key(), good, [("penstock", None)]), "header 'penstock' is null")
        self.refuse(raw(key(), good, [("penstock", b"\x02")]), "header version 2")
        self.refuse(raw(key(), good, [header(), control_header("gap")]), "header penstock.control is b'gap'")

    def test_contradictions_of_a_row(self):
        def refuse(op, before, after, reason, **changed):
            self.refuse(raw(key(), framed(2, envelope(op, before, after, **changed)), [header()]), reason)

        refuse("c", row(), row(), "op 'c' with before")
        refuse("d", None, None, "op 'd' without before")
        refuse("d", row(), row(), "op 'd' with after")
        refuse("u", row(), None, "op 'u' without after")
        refuse("x", None, row(), "op 'x'")
        refuse("c", None, row(), "with transaction None", transaction=None)
        refuse("c", None, row(raw=b"x"), "column 'raw' is unchanged", unchanged=["raw"])
        refuse("c", None, row(), "ts_ms 5, but Kafka's", ts_ms=5)
        good = framed(2, envelope("c", None, row()))
        self.refuse(raw(key(), good, [header((1, COMMIT_LSN + 1, SEQ))]), "but source.commit_lsn")
        self.refuse(raw(key(), good, [header((1, COMMIT_LSN, SEQ + 1))]), "but source.seq")
        self.refuse(raw(None, good, [header()]), "no key")
        self.refuse(
            raw(key(), good, [header()], partition=(PARTITION + 1) % PARTITIONS),
            f"belongs to partition {PARTITION} of 12",
        )

    def test_contradictions_of_a_control_record(self):
        self.refuse(control("gap", key_kind="epoch"), "kinds differ")
        self.refuse(control("gap", headers=[header(), control_header("epoch")]), "kinds differ")
        self.refuse(control("gap", key_source=8), "source 8 in the key, 7 in the header")
        self.refuse(control("surprise"), "unknown kind 'surprise'")
        self.refuse(control("gap", headers=[header()]), "header penstock.control is None")
        self.refuse(raw(key(), control("gap").value, [header(), control_header("gap")]), "without its key")
        self.refuse(raw(control("gap").key, None, [header(), control_header("gap")]), "never tombstoned")


if __name__ == "__main__":
    unittest.main()
