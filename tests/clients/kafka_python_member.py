"""A group member with kafka-python: range, cooperative-sticky, static; classic only."""

from group_member import POLL_SECONDS, Member, main
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata

ASSIGNORS = {
    "range": RangePartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}


def names(partitions):
    return [f"{row.topic}:{row.partition}" for row in partitions]


class KafkaPython(Member, ConsumerRebalanceListener):
    """Answers to the rebalance calls itself."""

    def open(self):
        wanted = self.settings
        self.consumer = KafkaConsumer(
            bootstrap_servers=wanted["bootstrap"],
            group_id=wanted["group"],
            group_instance_id=wanted.get("instance"),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=[ASSIGNORS[wanted["assignor"]]],
            session_timeout_ms=wanted["session_ms"],
            heartbeat_interval_ms=wanted["heartbeat_ms"],
            max_poll_interval_ms=wanted["max_poll_ms"],
            fetch_max_wait_ms=200,
            metadata_max_age_ms=2000,
        )
        self.consumer.subscribe(topics=wanted["topics"], listener=self)

    def on_partitions_assigned(self, assigned):
        state = self.consumer.group_metadata()
        self.say(
            "assigned",
            partitions=names(assigned),
            generation=state.generation_id,
            id=state.member_id,
        )

    def on_partitions_revoked(self, revoked):
        self.given_up("revoked", names(revoked))

    def on_partitions_lost(self, lost):
        self.given_up("lost", names(lost))

    def poll(self):
        rows = []
        for partition, messages in self.consumer.poll(int(POLL_SECONDS * 1000)).items():
            name = f"{partition.topic}:{partition.partition}"
            rows += [(name, message.offset, message.value) for message in messages]
        return rows

    def commit_offsets(self, offsets):
        rows = {}
        for name, offset in offsets.items():
            topic, number = name.rsplit(":", 1)
            rows[TopicPartition(topic, int(number))] = OffsetAndMetadata(offset, "", -1)
        self.consumer.commit(rows, timeout_ms=5000)

    def close(self):
        self.consumer.close()


if __name__ == "__main__":
    main(KafkaPython)
