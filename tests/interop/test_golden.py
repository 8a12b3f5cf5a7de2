"""One record of each kind: the same bytes in the contract's text, from the Rust code, and from fastavro's encoder."""

import io
import json
import pathlib
import re
import struct
import unittest

import fastavro

import records

HERE = pathlib.Path(__file__).resolve().parent
CONTRACT = (HERE.parents[1] / "docs/wire.md").read_text(encoding="utf-8")
GOLDEN = json.loads((HERE / "golden.json").read_text(encoding="utf-8"))
ACCOUNT = "c0a8f2be-5b1d-4b0e-9a52-1f0a5b3c7d11"
HEADER = bytes.fromhex(GOLDEN["header"])
COMMIT_MS = 1735689600123
KEY = {"__account": ACCOUNT, "id": 7}
CONTROL_KEY = {"__account": "", "source": 1, "kind": "reload_end", "schema": "public", "table": "notes"}
CONTROL = {
    "kind": "reload_end",
    "schema": "public",
    "table": "notes",
    "account": None,
    "begin": {"epoch": 1, "commit_lsn": 0x16B4000, "seq": 8},
    "detail": None,
}
PROGRESS = {
    "system_identifier": 7451903216540211977,
    "database_oid": 16384,
    "slot": "penstock_main",
    "source_number": 1,
    "timeline": 1,
    "epoch": 1,
    "partition_count": 2,
    "topic_id": "mtZ6uWJrQAGcSSWxWHKQjw",
    "end_lsn": 0x16B3778,
    "through": {"commit_lsn": 0x16B3748, "seq": 8, "xid": 741, "commit_time_us": 1735689600123456},
    "partitions": [
        {"partition": 0, "last": {"epoch": 0, "commit_lsn": 0, "seq": 0}, "next_offset": 0},
        {"partition": 1, "last": {"epoch": 1, "commit_lsn": 0x16B3748, "seq": 8}, "next_offset": 42},
    ],
    "key_pins": [{"schema": "public", "table": "notes", "columns": ["id"], "key_schema_id": 1, "table_oid": 16390, "leaves": []}],
    "postgres_clock_us": 1735689600200000,
    "load_complete": True,
    "type_pins": [{"oid": 16400, "modifier": -1, "name": "mood"}],
}
DEAD_LETTER = {
    "schema": "public",
    "table": "notes",
    "op": "c",
    "reason": "seen_at: before what the type can hold",
    "columns": {"id": "7", "seen_at": None},
}
ENVELOPE = {
    "before": None,
    "after": {"id": 7, "account_id": ACCOUNT, "body": "fünf", "seen_at": None},
    "source": {
        "version": "1",
        "connector": "postgresql",
        "name": "main",
        "ts_ms": COMMIT_MS,
        "ts_us": 1735689600123456,
        "snapshot": "false",
        "db": "app",
        "schema": "public",
        "table": "notes",
        "txId": 741,
        "lsn": 0x16B3600,
        "commit_lsn": 0x16B3748,
        "seq": 8,
    },
    "op": "c",
    "ts_ms": COMMIT_MS,
    "transaction": {"id": "741:23803720", "total_order": 1, "data_collection_order": 1},
    "unchanged": [],
}


VALUES = {
    "penstock.public.notes.Key": KEY,
    "penstock.public.notes.Envelope": ENVELOPE,
    "penstock.wire.ControlKey": CONTROL_KEY,
    "penstock.wire.Control": CONTROL,
    "penstock.wire.Progress": PROGRESS,
    "penstock.wire.DeadLetter": DEAD_LETTER,
}


class GoldenRegistry(records.Registry):
    """The registry of the golden records: their schemas, no server."""

    def _text(self, schema_id):
        return next(
            json.dumps(record["schema"]) for record in GOLDEN["records"].values() if record["schema_id"] == schema_id
        )


def framed(name):
    return bytes.fromhex(GOLDEN["records"][name]["framed"])


def decode(key, value, headers):
    raw = records.Raw(key=key, value=value, headers=headers, timestamp_ms=COMMIT_MS, partition=11, partitions=12)
    return records.decode(GoldenRegistry(""), raw)


class GoldenTest(unittest.TestCase):
    def test_the_text_shows_these_bytes(self):
        blocks = [re.sub(r"\s", "", block) for block in re.findall(r"^```\n([0-9a-f\s]+)```$", CONTRACT, re.MULTILINE)]
        self.assertIn(GOLDEN["header"], blocks)
        for name in ("penstock.public.notes.Key", "penstock.public.notes.Envelope"):
            self.assertIn(framed(name).hex(), blocks, name)

    def test_another_encoder_makes_these_bytes(self):
        self.assertEqual(GOLDEN["records"].keys(), VALUES.keys())
        for name, value in VALUES.items():
            record, stream = GOLDEN["records"][name], io.BytesIO()
            fastavro.schemaless_writer(stream, fastavro.parse_schema(record["schema"], named_schemas={}), value)
            self.assertEqual(
                struct.pack(">BI", 0, record["schema_id"]).hex() + stream.getvalue().hex(), record["framed"], name
            )

    def test_the_account_can_be_sliced_without_the_schema(self):
        key = framed("penstock.public.notes.Key")
        self.assertEqual(key[6 : 6 + key[5] // 2].decode("utf-8"), ACCOUNT)

    def test_a_row_is_decoded(self):
        decoded = decode(
            framed("penstock.public.notes.Key"), framed("penstock.public.notes.Envelope"), [("penstock", HEADER)]
        )
        self.assertEqual((decoded["kind"], decoded["key"], decoded["value"]), ("data", KEY, ENVELOPE))
        self.assertEqual(decoded["header"]["position"], {"epoch": 1, "commit_lsn": "0/16B3748", "seq": 8})
        self.assertEqual(decoded["header"]["previous"], {"epoch": 1, "commit_lsn": "0/16B3390", "seq": 16})
        self.assertTrue(decoded["header"]["end_of_transaction"])

    def test_a_tombstone_is_decoded(self):
        decoded = decode(framed("penstock.public.notes.Key"), None, [("penstock", HEADER)])
        self.assertEqual((decoded["kind"], decoded["key"]), ("tombstone", KEY))

    def test_a_control_record_is_decoded(self):
        headers = [("penstock", HEADER), ("penstock.control", b"reload_end")]
        decoded = decode(framed("penstock.wire.ControlKey"), framed("penstock.wire.Control"), headers)
        self.assertEqual((decoded["control"], decoded["key"], decoded["value"]), ("reload_end", CONTROL_KEY, CONTROL))

    def test_progress_is_decoded(self):
        decoded = decode(b"main", framed("penstock.wire.Progress"), [])
        self.assertEqual((decoded["kind"], decoded["key"], decoded["value"]), ("progress", "main", PROGRESS))

    def test_a_dead_letter_is_decoded(self):
        decoded = decode(
            framed("penstock.public.notes.Key"), framed("penstock.wire.DeadLetter"), [("penstock", HEADER)]
        )
        self.assertEqual((decoded["kind"], decoded["key"], decoded["value"]), ("dead_letter", KEY, DEAD_LETTER))


if __name__ == "__main__":
    unittest.main()
