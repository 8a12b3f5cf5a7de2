"""Header, framing and partition against golden bytes: those of crates/wire, and those of the Java client."""

import itertools
import json
import pathlib
import unittest

import wire

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The same bytes as in crates/wire/src/header.rs and docs/wire.md.
GOLDEN = bytes.fromhex(
    "01 01 0102 00000003 00000016b374d848 0000000000000011 00000002 00000016b3740000 0000000000000008"
)
GOLDEN_HEADER = wire.Header(
    end_of_transaction=True,
    identity_only=False,
    source=0x0102,
    position=wire.Position(3, 0x16B374D848, 17),
    previous=wire.Position(2, 0x16B3740000, 8),
)


class HeaderTest(unittest.TestCase):
    def test_golden_bytes(self):
        self.assertEqual(len(GOLDEN), wire.HEADER_LENGTH)
        self.assertEqual(wire.read_header(GOLDEN), GOLDEN_HEADER)

    def test_flags_are_told_apart(self):
        for flags, end, identity in [
            (0, False, False),
            (1, True, False),
            (2, False, True),
            (3, True, True),
            (0xF0, False, False),
        ]:
            header = wire.read_header(GOLDEN[:1] + bytes([flags]) + GOLDEN[2:])
            self.assertEqual((header.end_of_transaction, header.identity_only), (end, identity), flags)

    def test_what_the_header_grew_by_is_ignored(self):
        self.assertEqual(wire.read_header(GOLDEN + b"\x09\x09\x09"), GOLDEN_HEADER)

    def test_short_and_newer_headers_are_refused(self):
        for length in range(wire.HEADER_LENGTH):
            with self.assertRaisesRegex(wire.Unreadable, f"header of {length} bytes"):
                wire.read_header(GOLDEN[:length])
        for version in (0, 2, 255):
            with self.assertRaisesRegex(wire.Unreadable, f"header version {version}"):
                wire.read_header(bytes([version]) + GOLDEN[1:])

    def test_position_is_printed_as_postgres_prints_an_lsn(self):
        self.assertEqual(GOLDEN_HEADER.position.as_json(), {"epoch": 3, "commit_lsn": "16/B374D848", "seq": 17})

    def test_positions_are_ordered_by_epoch_commit_and_seq(self):
        ordered = [wire.Position(1, 9, 9), wire.Position(2, 0, 0), wire.Position(2, 1, 8), wire.Position(2, 1, 9)]
        for lower, higher in itertools.pairwise(ordered):
            self.assertLess(lower, higher)


class FrameTest(unittest.TestCase):
    def test_schema_id_is_big_endian(self):
        self.assertEqual(wire.split_frame(b"\x00\x00\x01\x02\x03avro"), (0x010203, b"avro"))
        self.assertEqual(wire.split_frame(b"\x00\xff\xff\xff\xff"), (0xFFFFFFFF, b""))

    def test_other_bytes_are_refused(self):
        for length in range(5):
            with self.assertRaisesRegex(wire.Unreadable, f"^{length} bytes"):
                wire.split_frame(b"\x00\x00\x00\x00"[:length])
        with self.assertRaisesRegex(wire.Unreadable, "first byte is 0x01"):
            wire.split_frame(b"\x01\x00\x00\x00\x07")


class PartitionTest(unittest.TestCase):
    def test_accounts_stand_where_the_java_client_puts_them(self):
        vectors = json.loads((ROOT / "crates/wire/tests/golden/partition.json").read_text(encoding="utf-8"))
        self.assertGreater(len(vectors), 800)
        for vector in vectors:
            self.assertEqual(wire.partition_of(vector["account"], vector["partitions"]), vector["partition"], vector)


if __name__ == "__main__":
    unittest.main()
