"""Writes and reads back with kafka-python: idempotent producer, assigned partitions."""

import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from records import Checker, arguments, record


def write(args, codec, rows):
    producer = KafkaProducer(
        bootstrap_servers=args.bootstrap,
        acks="all",
        enable_idempotence=True,
        compression_type=None if codec == "none" else codec,
        linger_ms=5,
        batch_size=64 * 1024,
    )
    topic = f"{args.prefix}-{codec}"
    sent = [
        producer.send(
            topic,
            value=row.value,
            key=row.key,
            headers=row.headers,
            partition=index % args.partitions,
            timestamp_ms=row.timestamp,
        )
        for index, row in enumerate(rows)
    ]
    producer.flush(60)
    for future in sent:
        future.get(60)
    producer.close(10)


def read(args, codec, rows):
    topic = f"{args.prefix}-{codec}"
    consumer = KafkaConsumer(
        bootstrap_servers=args.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        check_crcs=True,
        max_poll_records=20_000,
        consumer_timeout_ms=20_000,
    )
    partitions = [TopicPartition(topic, p) for p in range(args.partitions)]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    checker = Checker(rows, args.partitions)
    idle_since = time.monotonic()
    while checker.left:
        polled = consumer.poll(500)
        if polled:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > 20:
            raise SystemExit(f"{topic}: nothing came for 20 s, {checker.left} records are missing")
        for messages in polled.values():
            for m in messages:
                checker.see(
                    m.partition, m.offset, m.key, m.value, m.timestamp, [tuple(h) for h in m.headers]
                )
    consumer.close()
    return checker.digest()


def main():
    args = arguments(__doc__)
    rows = [record(args.seed, index) for index in range(args.records)]
    for codec in args.codecs.split(","):
        began = time.monotonic()
        if "write" in args.mode:
            write(args, codec, rows)
        written = time.monotonic()
        digest = read(args, codec, rows) if "read" in args.mode else "-"
        done = time.monotonic()
        print(f"{codec} {written - began:.2f} {done - written:.2f} {digest}", flush=True)


if __name__ == "__main__":
    main()
