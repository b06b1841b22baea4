"""librdkafka as a client, in a process of its own: rdkafka.py produce|consume BOOTSTRAP TOPIC COUNT

Prints the seconds that so many records of 1 KiB took, as JSON. Runs in the tests' environment.
"""

import json
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

RECORD_BYTES = 1024
PARTITIONS = 16
SILENCE_SECONDS_MAX = 30


def produce(bootstrap, topic, count):
    """Writes records to the partitions in turn; returns when all are acknowledged."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.size": 65536,
            "queue.buffering.max.messages": 100_000,
        }
    )
    value = bytes(range(256)) * (RECORD_BYTES // 256)
    for index in range(count):
        while True:
            try:
                producer.produce(topic, value=value, partition=index % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.05)
    if producer.flush(90):
        raise SystemExit("not everything was delivered")


def consume(bootstrap, topic, count):
    """Reads records from the beginning on."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "measured", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, at, OFFSET_BEGINNING) for at in range(PARTITIONS)])
    seen = 0
    while seen < count:
        messages = consumer.consume(1000, SILENCE_SECONDS_MAX)
        if not messages:
            raise SystemExit(f"{seen} of {count} records, and no more")
        for message in messages:
            if message.error():
                raise SystemExit(str(message.error()))
        seen += len(messages)


if __name__ == "__main__":
    verb, bootstrap, topic, count = sys.argv[1:]
    began = time.monotonic()
    {"produce": produce, "consume": consume}[verb](bootstrap, topic, int(count))
    print(json.dumps({"seconds": time.monotonic() - began}))
