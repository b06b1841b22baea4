"""A group member with librdkafka (confluent-kafka): classic eager, cooperative, and `consumer`."""

from confluent_kafka import Consumer, TopicPartition
from group_member import POLL_SECONDS, Member, main


def names(partitions):
    return [f"{row.topic}:{row.partition}" for row in partitions]


class Librdkafka(Member):
    """librdkafka does not show the generation."""

    def open(self):
        self.rows = []
        wanted = self.settings
        config = {
            "bootstrap.servers": wanted["bootstrap"],
            "group.id": wanted["group"],
            "group.protocol": wanted["protocol"],
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "max.poll.interval.ms": wanted["max_poll_ms"],
            "fetch.wait.max.ms": 200,
            "topic.metadata.refresh.interval.ms": 2000,
        }
        if wanted["protocol"] == "consumer":
            config["group.remote.assignor"] = wanted["assignor"]
        else:
            config["partition.assignment.strategy"] = wanted["assignor"]
            config["session.timeout.ms"] = wanted["session_ms"]
            config["heartbeat.interval.ms"] = wanted["heartbeat_ms"]
        if wanted.get("instance"):
            config["group.instance.id"] = wanted["instance"]
        self.consumer = Consumer(config)
        self.consumer.subscribe(
            wanted["topics"], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost
        )

    def assigned(self, _consumer, partitions):
        self.say("assigned", partitions=names(partitions), id=self.consumer.memberid())

    def revoked(self, _consumer, partitions):
        self.read(self.polled())
        self.given_up("revoked", names(partitions))

    def lost(self, _consumer, partitions):
        self.read(self.polled())
        self.given_up("lost", names(partitions))

    def polled(self):
        rows, self.rows = self.rows, []
        return rows

    def poll(self):
        """One by one, as most programs do it.

        A rebalance call may come between two of them; it takes what was read until then.
        """
        message = self.consumer.poll(POLL_SECONDS)
        while message is not None:
            if error := message.error():
                self.say("error", text=str(error), fatal=error.fatal())
                break
            partition = f"{message.topic()}:{message.partition()}"
            self.rows.append((partition, message.offset(), message.value()))
            message = self.consumer.poll(0) if len(self.rows) < 500 else None
        return self.polled()

    def commit_offsets(self, offsets):
        rows = []
        for name, offset in offsets.items():
            topic, number = name.rsplit(":", 1)
            rows.append(TopicPartition(topic, int(number), offset))
        for row in self.consumer.commit(offsets=rows, asynchronous=False):
            if row.error:
                raise RuntimeError(str(row.error))

    def close(self):
        self.consumer.close()


if __name__ == "__main__":
    main(Librdkafka)
