#!/usr/bin/env python3
"""A well-behaved application by librdkafka: an idempotent producer and a consumer of a group.

    steady_client.py --bootstrap HOST:PORT --topic NAME --group NAME --seconds N [--rate 200]

Writes numbered records at a rate and reads them back meanwhile. At the end (a line of JSON): how
many were acknowledged, failed, read, lost, out of order, there twice, and how long they took from
the call of produce to the consumer. Started by scripts/hostile-test with the clients' Python.
"""

import argparse
import json
import struct
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer

DRAIN_SECONDS = 20


def quantile(values, share):
    """The value below which that share of the sorted values lies; None without any."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else None


class Reading(threading.Thread):
    """The consumer."""

    def __init__(self, args):
        super().__init__(daemon=True)
        self.consumer = Consumer(
            {
                "bootstrap.servers": args.bootstrap,
                "group.id": args.group,
                "auto.offset.reset": "earliest",
                "log_level": 3,
            }
        )
        self.consumer.subscribe([args.topic])
        self.seen, self.twice, self.unordered, self.latencies = set(), 0, 0, []
        self.last, self.errors, self.ended = {}, [], threading.Event()

    def run(self):
        try:
            while not self.ended.is_set():
                for message in self.consumer.consume(500, 0.1):
                    if message.error():
                        self.errors.append(str(message.error()))
                        continue
                    number, sent = struct.unpack_from(">qd", message.value())
                    self.latencies.append(time.time() - sent)
                    self.twice += number in self.seen
                    self.seen.add(number)
                    partition = message.partition()
                    self.unordered += number <= self.last.get(partition, -1)
                    self.last[partition] = number
        except KafkaException as error:
            self.errors.append(str(error))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=200)
    args = parser.parse_args()
    reading = Reading(args)
    reading.start()
    acknowledged, failed = set(), []

    def delivered(error, message):
        if error is not None:
            failed.append(str(error))
        else:
            acknowledged.add(struct.unpack_from(">q", message.value())[0])

    producer = Producer(
        {
            "bootstrap.servers": args.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 0,
            "log_level": 3,
        }
    )
    began, count = time.monotonic(), 0
    while (now := time.monotonic()) < began + args.seconds:
        while count < (now - began) * args.rate:
            value = struct.pack(">qd", count, time.time()) + b"x" * 200
            producer.produce(args.topic, value=value, on_delivery=delivered)
            count += 1
        producer.poll(0.002)
    producer.flush(DRAIN_SECONDS)
    end = time.monotonic() + DRAIN_SECONDS
    while not acknowledged <= reading.seen and time.monotonic() < end:
        time.sleep(0.05)
    reading.ended.set()
    reading.join(5)
    latencies = sorted(reading.latencies)
    report = {
        "sent": count,
        "acknowledged": len(acknowledged),
        "failed": len(failed),
        "read": len(reading.seen),
        "lost": len(acknowledged - reading.seen),
        "twice": reading.twice,
        "unordered": reading.unordered,
        "errors": (failed + reading.errors)[:3],
        "p50_ms": quantile(latencies, 0.5) and round(quantile(latencies, 0.5) * 1000, 1),
        "p99_ms": quantile(latencies, 0.99) and round(quantile(latencies, 0.99) * 1000, 1),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
