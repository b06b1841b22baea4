"""Writes and reads back with librdkafka (confluent-kafka): idempotent producer, assigned partitions."""

import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from records import Checker, arguments, record


def write(args, codec, rows):
    producer = Producer(
        {
            "bootstrap.servers": args.bootstrap,
            "enable.idempotence": True,
            "compression.type": codec,
            "linger.ms": 5,
            "queue.buffering.max.messages": 200_000,
        }
    )
    failed = []

    def delivered(error, _message):
        if error is not None:
            failed.append(error)

    topic = f"{args.prefix}-{codec}"
    for index, row in enumerate(rows):
        while True:
            try:
                producer.produce(
                    topic,
                    value=row.value,
                    key=row.key,
                    partition=index % args.partitions,
                    on_delivery=delivered,
                    timestamp=row.timestamp,
                    headers=row.headers,
                )
                break
            except BufferError:
                producer.poll(0.1)
        if index % 1000 == 0:
            producer.poll(0)
    if left := producer.flush(60):
        raise SystemExit(f"{topic}: {left} records were not delivered in time")
    if failed:
        raise SystemExit(f"{topic}: {len(failed)} records failed, the first with {failed[0]}")


def read(args, codec, rows):
    consumer = Consumer(
        {
            "bootstrap.servers": args.bootstrap,
            # librdkafka wants a name even where no group is used.
            "group.id": "not-used",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "check.crcs": True,
            "enable.partition.eof": False,
        }
    )
    topic = f"{args.prefix}-{codec}"
    consumer.assign([TopicPartition(topic, p, 0) for p in range(args.partitions)])
    checker = Checker(rows, args.partitions)
    idle_since = time.monotonic()
    while checker.left:
        messages = consumer.consume(10_000, 0.5)
        if messages:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > 20:
            raise SystemExit(f"{topic}: nothing came for 20 s, {checker.left} records are missing")
        for message in messages:
            if error := message.error():
                if error.code() == KafkaError._PARTITION_EOF:
                    continue
                raise SystemExit(f"{topic}: {error}")
            checker.see(
                message.partition(),
                message.offset(),
                message.key(),
                message.value(),
                message.timestamp()[1],
                message.headers() or [],
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
