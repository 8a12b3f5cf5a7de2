"""The worked example of docs/wire.md: the same bytes in the text, from the Rust code, and from fastavro's encoder."""

import io
import json
import pathlib
import re
import struct
import unittest

import fastavro

import records
import wire

HERE = pathlib.Path(__file__).resolve().parent
CONTRACT = (HERE.parents[1] / "docs/wire.md").read_text(encoding="utf-8")
GOLDEN = json.loads((HERE / "golden.json").read_text(encoding="utf-8"))
ACCOUNT = "c0a8f2be-5b1d-4b0e-9a52-1f0a5b3c7d11"
KEY = {"__account": ACCOUNT, "id": 7}
ENVELOPE = {
    "before": None,
    "after": {"id": 7, "account_id": ACCOUNT, "body": "fünf", "seen_at": None},
    "source": {
        "version": "1",
        "connector": "postgresql",
        "name": "main",
        "ts_ms": 1735689600123,
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
    "ts_ms": 1735689600123,
    "transaction": {"id": "741:23803720", "total_order": 1, "data_collection_order": 1},
    "unchanged": [],
}


class GoldenRegistry(records.Registry):
    """The registry of the example: two schemas, no server."""

    def _text(self, schema_id):
        names = {GOLDEN["key_schema_id"]: "key_schema", GOLDEN["value_schema_id"]: "value_schema"}
        return json.dumps(GOLDEN[names[schema_id]])


class GoldenTest(unittest.TestCase):
    def test_the_text_shows_these_bytes(self):
        blocks = [re.sub(r"\s", "", block) for block in re.findall(r"^```\n([0-9a-f\s]+)```$", CONTRACT, re.MULTILINE)]
        for part in ("header", "key", "value"):
            self.assertIn(GOLDEN[part], blocks, part)

    def test_another_encoder_makes_these_bytes(self):
        for part, value in (("key", KEY), ("value", ENVELOPE)):
            stream = io.BytesIO()
            fastavro.schemaless_writer(stream, fastavro.parse_schema(GOLDEN[f"{part}_schema"], named_schemas={}), value)
            framed = struct.pack(">BI", 0, GOLDEN[f"{part}_schema_id"]) + stream.getvalue()
            self.assertEqual(framed.hex(), GOLDEN[part], part)

    def test_the_account_can_be_sliced_without_the_schema(self):
        key = bytes.fromhex(GOLDEN["key"])
        self.assertEqual(key[6 : 6 + key[5] // 2].decode("utf-8"), ACCOUNT)

    def test_the_reader_decodes_them(self):
        raw = records.Raw(
            key=bytes.fromhex(GOLDEN["key"]),
            value=bytes.fromhex(GOLDEN["value"]),
            headers=[(wire.HEADER_NAME, bytes.fromhex(GOLDEN["header"]))],
            timestamp_ms=1735689600123,
            partition=11,
            partitions=12,
        )
        decoded = records.decode(GoldenRegistry(""), raw)
        self.assertEqual((decoded["kind"], decoded["key"], decoded["value"]), ("data", KEY, ENVELOPE))
        self.assertEqual(decoded["header"]["position"], {"epoch": 1, "commit_lsn": "0/16B3748", "seq": 8})
        self.assertEqual(decoded["header"]["previous"], {"epoch": 1, "commit_lsn": "0/16B3390", "seq": 16})
        self.assertTrue(decoded["header"]["end_of_transaction"])


if __name__ == "__main__":
    unittest.main()
