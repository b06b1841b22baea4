"""The checker finds what is wrong in small histories, and nothing in right ones.

python3 -m unittest discover -s scripts
"""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crash.history import ASSIGN, COMMIT, CORRUPT, POLL, Group, History, Sends, check, record_id

PARTITIONS = 2


def row(offset, count, partition=0, producer=1):
    """A read record."""
    return partition, offset, record_id(producer, count)


def found(final, **given):
    """Names and counts of the anomalies; producer 1 sent 0..8 and was told nothing by default."""
    producers = {1: Sends(given.pop("idempotent", True), 8, given.pop("acks", []))}
    producers[1].gave_up = given.pop("gave_up", False)
    return dict(check(History(PARTITIONS, producers, final, **given)).counts)


# Partition 0 has counts 0, 2, 4, partition 1 has 1, 3.
LOG = [row(0, 0), row(1, 2), row(2, 4), row(0, 1, 1), row(1, 3, 1)]
ACKS = [(0, 0, 0), (1, 1, 0), (2, 0, 1), (3, 1, 1), (4, 0, 2)]


class Producers(unittest.TestCase):
    def test_a_right_history_has_no_anomaly(self):
        self.assertEqual(found(LOG, acks=ACKS, readers={"a": LOG}), {})
        self.assertEqual(found(LOG, acks=[(4, 0, -1)]), {})
        self.assertEqual(found([]), {})

    def test_what_is_wrong_has_its_name(self):
        cases = [
            ("lost in the middle", [row(0, 0), row(1, 4)], [(2, 0, 1)],
             {"lost-write": 1, "hole": 1}),
            ("lost at the end", LOG[:2], [(4, 0, 2)], {"unseen": 1}),
            ("lost, offset unknown", LOG[:2], [(4, 0, -1)], {"lost-write": 1}),
            ("elsewhere", LOG, [(2, 0, 2)], {"inconsistent-offsets": 1}),
            ("twice", [*LOG[:2], row(2, 2)], [], {"duplicate": 1}),
            ("out of order", [row(0, 0), row(1, 4), row(2, 2)], [],
             {"nonmonotonic-send": 1, "hole": 1}),
            ("told out of order", [row(0, 2), row(1, 0)], [(0, 0, 1), (2, 0, 0)],
             {"nonmonotonic-send": 2, "hole": 1}),
            ("never sent", [row(0, 0), row(1, 2), row(2, 88)], [], {"phantom": 1}),
            ("of nobody", [row(0, 0, producer=3)], [], {"phantom": 1}),
            ("in another partition", [row(0, 1)], [], {"phantom": 1}),
            ("damaged", [(0, 0, CORRUPT)], [], {"corrupt": 1}),
            ("a gap", [row(0, 0), row(3, 2)], [], {"poll-skip": 1}),
            ("backwards", [row(0, 0), row(0, 0)], [], {"nonmonotonic-poll": 1}),
        ]
        for name, final, acks, anomalies in cases:
            with self.subTest(name):
                self.assertEqual(found(final, acks=acks), anomalies)

    def test_without_idempotence_records_may_be_there_twice_and_in_any_order(self):
        final = [row(0, 4), row(1, 0), row(2, 4)]
        self.assertEqual(found(final, acks=[(4, 0, 2), (0, 0, 1)], idempotent=False), {})
        self.assertEqual(found(final, acks=[(2, 0, 0)], idempotent=False), {"lost-write": 1})

    def test_where_sends_were_given_up_holes_are_no_anomaly(self):
        self.assertEqual(found([row(0, 0), row(1, 4)], gave_up=True), {})


class Readers(unittest.TestCase):
    def test_what_is_wrong_has_its_name(self):
        cases = [
            ("skipped", [LOG[0], LOG[2], *LOG[3:]], {"poll-skip": 1}),
            ("again", [LOG[0], LOG[0], *LOG[1:]], {"nonmonotonic-poll": 1}),
            ("read too little", LOG[:4], {"unseen": 1}),
            ("read what is gone", [*LOG, row(3, 6)], {"lost-write": 1}),
            ("read another record", [row(0, 6), *LOG[1:]], {"inconsistent-offsets": 1}),
        ]
        for name, rows, anomalies in cases:
            with self.subTest(name):
                self.assertEqual(found(LOG, readers={"a": rows}), anomalies)

    def test_a_reader_that_was_cut_off_need_not_be_at_the_end(self):
        self.assertEqual(found(LOG, readers={"a": LOG[:1]}, cut=True), {})

    def test_what_a_reader_has_seen_tells_lost_from_unseen(self):
        acks = [(2, 0, 1)]
        self.assertEqual(found(LOG[:1], acks=acks), {"unseen": 1})
        rows = [LOG[0], LOG[1]]
        self.assertEqual(found(LOG[:1], acks=acks, readers={"a": rows}), {"lost-write": 2})


def member(*rows):
    """Rows of one member on partition 0: (kind, time, offset)."""
    return [(kind, at, 0, offset, record_id(1, offset * 2)) for kind, at, offset in rows]


class Groups(unittest.TestCase):
    def names(self, committed, **members):
        return found(LOG[:3], groups={"g": Group(members, {0: committed})})

    def test_a_partition_handed_over_at_its_commit_is_right(self):
        a = member((ASSIGN, 1, 0), (POLL, 2, 0), (POLL, 3, 1), (COMMIT, 4, 1))
        b = member((ASSIGN, 5, 0), (POLL, 6, 1), (POLL, 7, 2), (COMMIT, 8, 3))
        self.assertEqual(self.names(3, a=a, b=b), {})

    def test_what_is_wrong_has_its_name(self):
        begun = member((ASSIGN, 1, 0), (POLL, 2, 0), (POLL, 3, 1), (COMMIT, 4, 2))
        late = member((ASSIGN, 5, 0), (POLL, 6, 2))
        back = member((ASSIGN, 5, 0), (POLL, 6, 1), (POLL, 7, 2))
        cases = [
            ("began below a commit", 2, {"a": begun, "b": back}, {"lost-commit": 1}),
            ("ended below a commit", 1, {"a": begun, "b": late}, {"lost-commit": 1}),
            ("one record read by nobody", 2, {"a": begun}, {"poll-skip": 1}),
            ("skipped", 0, {"a": member((ASSIGN, 1, 0), (POLL, 2, 0), (POLL, 3, 2))},
             {"poll-skip": 2}),
        ]
        for name, committed, members, anomalies in cases:
            with self.subTest(name):
                self.assertEqual(self.names(committed, **members), anomalies)

    def test_commits_count_where_members_were_cut_off_too(self):
        rows = member((ASSIGN, 1, 0), (POLL, 2, 0), (COMMIT, 3, 1))
        groups = {"g": Group({"a": rows}, {0: 0})}
        self.assertEqual(found(LOG[:3], groups=groups, cut=True), {"lost-commit": 1})


if __name__ == "__main__":
    unittest.main()
