#!/usr/bin/env python3
"""Reads Penstock's topics as somebody else would: confluent-kafka, fastavro, a registry, and no line of Penstock's code.

    reader.py --bootstrap host:port --registry http://host:port/apis/ccompat/v7 --topic access.changes --until-end

Prints one JSON object with sorted keys per record. Name --topic again for progress and dead letters: every kind of
record is told by what it is. Exit codes: 0 all decoded, 1 something could not be decoded or read, 2 wrong usage.
It reads `read_committed`, joins no group and commits no offset.
"""

import argparse
import json
import sys
import time

import confluent_kafka

import records
import wire

_POLL_SECONDS = 0.5
_METADATA_TIMEOUT_SECONDS = 30


class ReadFailed(Exception):
    """The topics could not be read."""


def main(arguments=None):
    options = _options(arguments)
    try:
        count, repeated = _read(options)
    except (ReadFailed, confluent_kafka.KafkaException) as error:
        print(f"reader: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    print(f"reader: {count} records decoded, {repeated} of them repeated", file=sys.stderr)
    return 0


def _options(arguments):
    parser = argparse.ArgumentParser(description="Decodes every record of Penstock's topics as JSON lines.")
    parser.add_argument("--bootstrap", required=True, help="Kafka brokers, host:port[,host:port]")
    parser.add_argument("--registry", required=True, help="base URL of the registry's Confluent API")
    parser.add_argument(
        "--topic", required=True, action="append", help="topic to read from its beginning; may be repeated"
    )
    parser.add_argument("--until-end", action="store_true", help="stop when every partition was read to its end")
    parser.add_argument(
        "--idle-timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="with --until-end, fail when neither a record nor an end comes for so long (default 60)",
    )
    return parser.parse_args(arguments)


def _read(options):
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            # The client asks for a group even when partitions are assigned by hand; nothing is ever committed to it.
            "group.id": "penstock-interop-reader",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            # A broker that is away is asked again twice a second, not twenty times, each with a line in the log.
            "reconnect.backoff.ms": 500,
            "auto.offset.reset": "error",
        }
    )
    try:
        counts = {topic: _partition_count(consumer, topic) for topic in dict.fromkeys(options.topic)}
        consumer.assign(
            [
                confluent_kafka.TopicPartition(topic, partition, confluent_kafka.OFFSET_BEGINNING)
                for topic, count in counts.items()
                for partition in range(count)
            ]
        )
        return _consume(consumer, records.Registry(options.registry), counts, options)
    finally:
        consumer.close()


def _partition_count(consumer, topic):
    metadata = consumer.list_topics(topic, timeout=_METADATA_TIMEOUT_SECONDS).topics.get(topic)
    if metadata is None or metadata.error is not None or not metadata.partitions:
        raise ReadFailed(f"topic {topic!r}: {metadata.error if metadata is not None else 'the brokers do not know it'}")
    return len(metadata.partitions)


def _consume(consumer, registry, counts, options):
    unfinished = {(topic, partition) for topic, count in counts.items() for partition in range(count)}
    seen, count, repeated = {}, 0, 0
    heard_at = time.monotonic()
    while unfinished or not options.until_end:
        message = consumer.poll(_POLL_SECONDS)
        if message is None:
            if options.until_end and time.monotonic() - heard_at > options.idle_timeout:
                raise ReadFailed(f"nothing for {options.idle_timeout} s; not at the end: {sorted(unfinished)}")
            continue
        error = message.error()
        if error is not None and error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
            unfinished.discard((message.topic(), message.partition()))
            heard_at = time.monotonic()
            continue
        if error is not None:
            # The client goes on by itself after these; whether it got anywhere is what the idle timeout judges.
            if error.retriable() or error.code() in (
                confluent_kafka.KafkaError._TRANSPORT,
                confluent_kafka.KafkaError._ALL_BROKERS_DOWN,
            ):
                continue
            raise ReadFailed(str(error))
        heard_at = time.monotonic()
        record = _decode(registry, message, counts[message.topic()])
        record["repeated"] = _is_repeated(seen, record)
        print(json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False), flush=True)
        count, repeated = count + 1, repeated + record["repeated"]
    return count, repeated


def _decode(registry, message, partitions):
    place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
    timestamp_type, timestamp_ms = message.timestamp()
    if timestamp_type != confluent_kafka.TIMESTAMP_CREATE_TIME:
        raise ReadFailed(f"{place}: the topic does not keep the writer's timestamp (message.timestamp.type)")
    raw = records.Raw(
        key=message.key(),
        value=message.value(),
        headers=message.headers() or [],
        timestamp_ms=timestamp_ms,
        partition=message.partition(),
        partitions=partitions,
    )
    try:
        record = records.decode(registry, raw)
    except wire.Unreadable as error:
        raise ReadFailed(
            f"cannot decode {place['topic']} [{place['partition']}] @ {place['offset']}: {error}"
        ) from error
    return {**place, "timestamp_ms": timestamp_ms, **record}


def _is_repeated(seen, record):
    """Whether a reader with state would drop it.

    Its position is not above the last one of its source here; of a dead letter, which has no order within its
    transaction: it was here before.
    """
    header = record.get("header")
    if header is None:
        return False
    place = (record["topic"], record["partition"], header["source"])
    position = _comparable(header["position"])
    if record["kind"] == "dead_letter":
        positions = seen.setdefault(place, set())
        if position in positions:
            return True
        positions.add(position)
        return False
    if place in seen and position <= seen[place]:
        return True
    seen[place] = position
    return False


def _comparable(position):
    high, low = position["commit_lsn"].split("/")
    return position["epoch"], int(high, 16), int(low, 16), position["seq"]


if __name__ == "__main__":
    sys.exit(main())
