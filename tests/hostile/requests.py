"""Requests that are small and ask for much, or are large themselves. Whole frames."""

from harness.protocol import (
    array,
    byte_string,
    fetch_body,
    frame,
    header,
    int8,
    int16,
    int32,
    int64,
    produce_body,
    string,
)

I32_MAX = 2**31 - 1
TOPIC_RESOURCE, BROKER_RESOURCE = 2, 4


def request(key, version, body, correlation=7):
    """A whole request frame."""
    return frame(header(key, version, correlation, "hostile") + body)


def api_versions():
    return request(18, 0, b"")


def padded_api_versions(frame_bytes):
    """ApiVersions v0 whose frame, without its length, is exactly so large: by its client id."""
    empty = len(header(18, 0, 7, ""))
    return frame(header(18, 0, 7, "x" * (frame_bytes - empty)))


def metadata_of_all():
    """Metadata v12 of every topic."""
    return request(3, 12, b"\0\0\0\0")


def metadata_of_names(count):
    """Metadata v1 of that many names that nobody has."""
    return request(3, 1, array([string(f"absent-{index}") for index in range(count)]))


def fetch_all(partitions, max_wait_ms=0, min_bytes=0):
    """Fetch v11 of these partitions from offset 0, as much as an answer can hold."""
    rows = [(topic, index, -1, 0, I32_MAX) for topic, index in partitions]
    return request(1, 11, fetch_body(rows, max_wait_ms, min_bytes, I32_MAX))


def long_poll(topic, partition, offset, max_wait_ms):
    """Fetch v11 that waits for what does not come."""
    rows = [(topic, partition, -1, offset, 1 << 20)]
    return request(1, 11, fetch_body(rows, max_wait_ms, 1 << 30, I32_MAX))


def describe_configs(topics, node=1):
    """DescribeConfigs v3 of the broker and of all topics, with synonyms and documentation."""
    rows = [int8(BROKER_RESOURCE) + string(str(node)) + int32(-1)]
    rows += [int8(TOPIC_RESOURCE) + string(topic) + int32(-1) for topic in topics]
    return request(32, 3, array(rows) + int8(1) + int8(1))


def offset_fetch_all(group):
    """OffsetFetch v5 of everything the group has committed."""
    return request(9, 5, string(group) + int32(-1))


def offset_commit(group, topic, count, metadata):
    """OffsetCommit v5 of a group without members."""
    rows = [int32(index) + int64(1) + string(metadata) for index in range(count)]
    topics = array([string(topic) + array(rows)])
    return request(8, 5, string(group) + int32(-1) + string("") + topics)


def describe_groups(count):
    """DescribeGroups v4 of that many groups."""
    names = array([string(f"nobody-{index}") for index in range(count)])
    return request(15, 4, names + int8(1))


def list_offsets(topic, partition_count, count, timestamp=-1):
    """ListOffsets v5 with that many rows, of the topic's partitions over and over."""
    rows = [
        int32(index % partition_count) + int32(-1) + int64(timestamp) for index in range(count)
    ]
    return request(2, 5, int32(-1) + int8(0) + array([string(topic) + array(rows)]))


def join_group(group, metadata):
    """JoinGroup v3 of a new member."""
    protocols = array([string("range") + byte_string(metadata)])
    timeouts = int32(10_000) + int32(60_000)
    return request(11, 3, string(group) + timeouts + string("") + string("consumer") + protocols)


def produce(topic, partition, records, acks=-1):
    """Produce v8 of one partition."""
    return request(0, 8, produce_body(topic, partition, records, acks))


def giant_produce(frame_bytes):
    """The head of a Produce request whose frame is so large, and how many bytes are missing."""
    head = header(0, 8, 7, "hostile") + string(None) + int16(1) + int32(1000)
    head += int32(1) + string("nobody") + int32(1) + int32(0)
    missing = frame_bytes - len(head) - 4
    return int32(frame_bytes) + head + int32(missing), missing
