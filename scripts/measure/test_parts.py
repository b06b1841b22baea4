"""The parts that need no broker: ratios, tables, what tools print, the page.

python3 -m unittest discover -s scripts
"""

import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from measure import clients, floors, heavy, keeper, loads, machine, noise, page, rounds, shape
from measure import table, turns

ROUNDS = {
    "kafka": [{"CPU": 10.0, "idle": 0.0}, {"CPU": 20.0, "idle": 1.0}, {"CPU": 40.0}],
    "corelog": [{"CPU": 5.0, "idle": 1.0}, {"CPU": 4.0, "idle": 1.0, "ours": 3.0}, {"CPU": 4.0}],
    "floor": [{"CPU": 4.0}, {"CPU": 4.0}, {}],
}


class Tables(unittest.TestCase):
    def test_ratios_are_taken_round_by_round(self):
        (row,) = (row for row in table.rows(ROUNDS, {"CPU": "<=0.2"}) if row.name == "CPU")
        self.assertEqual((row.ratio.middle, row.ratio.low, row.ratio.high), (0.2, 0.1, 0.5))
        self.assertEqual((row.kafka.middle, row.corelog.middle), (20.0, 4.0))
        self.assertEqual((row.over_floor.middle, row.over_floor.count), (1.125, 2))
        self.assertEqual(row.verdict, "yes")

    def test_what_one_side_lacks_is_left_out(self):
        idle, ours = table.rows(ROUNDS)[1:]
        self.assertEqual((idle.ratio.middle, idle.ratio.count), (1.0, 1))
        self.assertIsNone(ours.ratio)
        self.assertIn("| ours | - | 3.00 | - | - |", table.markdown([ours]))

    def test_aims_hold_in_both_directions(self):
        for ratio, aim, held in [
            (0.30, "<=0.30", True),
            (0.31, "<=0.30", False),
            (1.8, ">=1.8", True),
            (1.7, ">=1.8", False),
        ]:
            self.assertEqual(table.meets(ratio, aim), held, (ratio, aim))

    def test_columns_of_aims_and_floors_are_there_when_needed(self):
        plain = table.markdown(table.rows({side: ROUNDS[side] for side in turns.KINDS}))
        self.assertEqual(plain.splitlines()[0].count("|"), 6)
        whole = table.markdown(table.rows(ROUNDS, {"CPU": "<=0.1"}, {"CPU": "<=1.2"}))
        heads, _line, first = whole.splitlines()[:3]
        self.assertEqual(heads.count("|"), first.count("|"))
        self.assertIn("at most 0.1: no", first)
        self.assertIn("at most 1.2: yes", first)


    def test_what_falls_has_no_ratio(self):
        for over, under, found in [([-1.0], [2.0], []), ([1.0], [-2.0], []), ([0.0], [2.0], [0.0])]:
            self.assertEqual(table.ratios(over, under), found, (over, under))


class Turns(unittest.TestCase):
    def test_who_goes_first_alternates_and_each_whole_round_is_kept(self):
        seen, kept = [], []
        found = turns.in_turn(
            2, lambda *turn: seen.append(turn) or len(seen), lambda now: kept.append(str(now))
        )
        order = [(0, "kafka"), (0, "corelog"), (1, "corelog"), (1, "kafka")]
        self.assertEqual(seen, order)
        self.assertEqual(found, {"kafka": [1, 4], "corelog": [2, 3]})
        self.assertEqual(len(kept), 2)


    def test_a_later_run_goes_on_with_the_rounds_of_an_earlier_one(self):
        seen = []
        earlier = {"kafka": [1, 3, 5], "corelog": [2, 4, 6]}
        found = turns.in_turn(1, lambda *turn: seen.append(turn) or 9, earlier=earlier)
        self.assertEqual(seen, [(3, "corelog"), (3, "kafka")])
        self.assertEqual(found, {"kafka": [1, 3, 5, 9], "corelog": [2, 4, 6, 9]})
        self.assertEqual(len(earlier["kafka"]), 3)

    def test_one_broker_alone_has_rounds_of_its_own(self):
        seen = []
        found = turns.in_turn(2, lambda *turn: seen.append(turn), kinds=("corelog",))
        self.assertEqual(seen, [(0, "corelog"), (1, "corelog")])
        self.assertEqual(found, {"kafka": [], "corelog": [None, None]})


class Memory(unittest.TestCase):
    def test_only_blocks_a_host_is_told_of_count_as_whole(self):
        counts = [9, 8, 7, 6, 5, 4, 3, 2, 1, 2, 3]
        text = f"Node 0, zone   Normal  {'  '.join(map(str, counts))} \n"
        self.assertEqual(keeper.whole(text * 2), 2 * ((2 << 9) + (3 << 10)) * keeper.PAGE)

    def test_one_page_is_kept_in_each_block(self):
        class Chunk:
            def __init__(self):
                self.given_back = []

            def madvise(self, _advice, at, length):
                self.given_back += range(at // keeper.PAGE, (at + length) // keeper.PAGE)

        pages = keeper.CHUNK // keeper.PAGE
        # Frames as they may lie: blocks in no order, one of them known from an earlier chunk.
        found = [(7 * page % pages) + 512 for page in range(pages)]
        have, chunk = {1}, Chunk()
        count = keeper.thin_one(chunk, keeper.blocks(found, 0), have)
        kept = set(range(pages)) - set(chunk.given_back)
        self.assertEqual(len(chunk.given_back), len(set(chunk.given_back)))
        self.assertEqual((count, len(kept)), (pages // 512 - 1, pages // 512 - 1))
        self.assertEqual({found[page] >> 9 for page in kept} | {1}, have)
        # Where nothing is told: four in the length of a block.
        chunk = Chunk()
        self.assertEqual(keeper.thin_one(chunk, keeper.blocks(None, 0), set()), pages // 128)


class Printed(unittest.TestCase):
    def test_apaches_tools_are_understood(self):
        out = (
            "10 records sent, 1.0 records/sec (0.00 MB/sec), 1.0 ms avg latency, 2.0 ms max.\n"
            "500 records sent, 5000.5 records/sec (4.88 MB/sec), 1.23 ms avg latency, "
            "99.00 ms max latency, 1 ms 50th, 2 ms 95th, 3 ms 99th, 40 ms 99.9th.\n"
        )
        said = clients.produced(out)
        self.assertEqual((said["mib"], said["p99"], said["p999"]), (4.88, 3.0, 40.0))
        out = (
            "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, "
            "rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n"
            "2026-11-21 10:00:00:000, 2026-11-21 10:00:05:000, 488.2, 97.6, 500000, 100000.0, "
            "3000, 2000, 244.1, 250000.0\n"
        )
        said = clients.consumed(out)
        self.assertEqual((said["data.consumed.in.MB"], said["fetch.MB.sec"]), (488.2, 244.1))
        self.assertEqual(clients.end_to_end_mean("0\t5.1\nAvg latency: 0.5432 ms\n"), 0.5432)

    def test_what_a_tool_does_not_say_is_an_error(self):
        for read in (clients.produced, clients.consumed, clients.end_to_end_mean):
            with self.assertRaises(clients.LoadFailed):
                read("nothing")


class Loads(unittest.TestCase):
    def test_every_figure_of_a_load_can_be_computed(self):
        latency = {"p50": 1.0, "p99": 2.0, "p99_9": 3.0, "max": 4.0}
        report = {"requests": 10, "bytes": 10**9, "requests_per_second": 5.0}
        report |= {"megabytes_per_second": 7.0, "latency_us": latency}

        wanted = {"CPU us/request": 200_000.0, "CPU s/GB": 2.0, "p99.9, us": 3.0, "worst, us": 4.0}
        every = [*loads.PRODUCE, *loads.LARGE, *loads.ONE_RECORD, *loads.CONSUME, *loads.LATENCY]
        units = {unit for load in every for unit in load.figures}
        found = {unit: rounds.loaded(unit, report, 2.0) for unit in units}
        self.assertEqual({unit: found[unit] for unit in wanted}, wanted)
        self.assertIsNone(found["worst second's p99, us"])

    def test_cpu_between_two_moments_is_read_off_the_samples(self):
        samples = [(0.0, 1.0), (10.0, 2.0), (20.0, 6.0)]
        for moment, cpu in [(-1.0, 1.0), (0.0, 1.0), (5.0, 1.5), (15.0, 4.0), (99.0, 6.0)]:
            self.assertEqual(machine.cpu_at(samples, moment), cpu, moment)

    def test_a_load_knows_its_sizes(self):
        sizes = [(load.partitions, load.connections, load.batch_bytes) for load in loads.LARGE]
        self.assertEqual(sizes, [(1, 1, 256 << 10), (16, 1, 256 << 10)])

    def test_a_rate_is_kept_when_answers_come_as_due(self):
        for rate, p50, kept in [(1000, 500, True), (1100, 500, False), (1000, 200_000, False)]:
            report = {"requests_per_second": 1000, "latency_us": {"p50": p50}}
            self.assertEqual(rounds.keeps(report, rate), kept, (rate, p50))


    def test_every_long_set_has_figures_and_a_function_and_is_run_when_named_only(self):
        self.assertEqual(list(rounds.LONG), list(loads.HEAVY))
        self.assertFalse(set(loads.HEAVY) & set(loads.SETS))
        for name in loads.HEAVY_LIMITS:
            self.assertIn(name, loads.AIMS)
        sizes = [(load.partitions, load.connections) for load in [*loads.DURABLE, *loads.SKEW]]
        self.assertEqual(sizes, [(16, 64), (1000, 64), (1, 64), (16, 64)])
        self.assertEqual(sum(loads.MANY_TOPICS), 10_000)

    def test_a_soak_forgets_within_its_first_tenth(self):
        for minutes in (1, 5, 60):
            retained, segment = heavy.soak_limits(minutes)
            written = minutes * 60 * loads.SOAK_RATE * loads.SOAK_BATCH * 1024 / 16
            self.assertGreaterEqual(segment, 1 << 20)
            self.assertLessEqual(segment, retained // 4)
            if minutes > 5:
                self.assertLess(retained + segment, written * heavy.SOAK_SHARE)

    def test_the_figures_of_a_soak_leave_its_beginning_out(self):
        def minute(number):
            p99 = 9000.0 if number == 0 else 1000.0 + number
            return {"at": 60.0 * number, "p99_us": p99, "resident_mib": 30.0} | {
                "kept": 5.0,
                "written": 50.0,
            }

        kept = {}

        class Kept:
            put = staticmethod(kept.__setitem__)

        heavy.soaked(Kept, [minute(number) for number in range(10)])
        self.assertAlmostEqual(kept["soak: p99 of a minute, us"], 1005.0)
        self.assertAlmostEqual(kept["soak: slope of the p99, us an hour"], 60.0)
        self.assertEqual(kept["soak: highest p99 of a minute, us"], 1009.0)
        self.assertEqual(kept["soak: bytes kept of those written, %"], 10.0)

    def test_what_ran_beyond_the_end_does_not_count(self):
        for answers, count in [([False], 1), ([True, True, True, False], 2), ([True, False], 1)]:
            left = iter([*answers, False])
            found = heavy.while_it(lambda left=left: next(left), dict)
            self.assertEqual(len(found), count, answers)


class Latency(unittest.TestCase):
    def test_the_bare_echo_is_asked_as_often_as_the_broker(self):
        due = [load.due(3000.0) for load in loads.LATENCY]
        self.assertEqual(due, [5000.0, 1000.0, 3000.0, 100.0])

    def test_the_bare_echo_answers_each_request_and_tells_its_latency(self):
        report = floors.run(floors.paced(0.5, 3, 1000, 400.0))
        self.assertEqual((report["requests"], report["asked"]), (200, 200))
        told = [report[loads.PACED[unit]] for unit in loads.PACED]
        self.assertEqual(told, sorted(told))
        self.assertGreater(told[0], 0)


class Shape(unittest.TestCase):
    def test_a_quantile_of_several_runs_is_that_of_all_their_requests(self):
        def run(count, top):
            return {"latency_us": {"count": count}, "curve": [(0.0, 0.0), (1.0, top)]}

        for reports, quantile, found in [
            ([run(100, 100.0)], 0.99, 99.0),
            ([run(100, 100.0), run(100, 100.0)], 0.5, 50.0),
            ([run(100, 100.0), run(100, 300.0)], 0.75, 150.0),
            ([run(0, 100.0)], 0.99, None),
        ]:
            got = shape.pooled(reports, quantile)
            if found is None:
                self.assertIsNone(got)
            else:
                self.assertAlmostEqual(got, found, places=3)

    def test_a_curve_with_steps_is_read_from_above(self):
        curve = [(0.0, 10.0), (0.5, 10.0), (0.9, 20.0), (1.0, 20.0)]
        for value, share in [(9.0, 0.0), (10.0, 0.5), (15.0, 0.7), (20.0, 1.0), (99.0, 1.0)]:
            self.assertAlmostEqual(shape.share_below(curve, value), share, msg=value)

    def test_a_line_through_points(self):
        for points, rise in [
            ([(0, 1.0), (1, 3.0), (2, 5.0)], 2.0),
            ([(0, 4.0), (1, 4.0)], 0.0),
            ([(0, 4.0)], 0.0),
            ([], 0.0),
        ]:
            self.assertAlmostEqual(shape.slope(points), rise, msg=points)

    def test_the_busiest_core_is_that_of_both_threads_of_its_name(self):
        before = shape.cores([("core-0", 1.0), ("core-0", 0.5), ("core-1", 1.0), ("disk-0.0", 9.0)])
        after = shape.cores([("core-0", 2.0), ("core-0", 2.5), ("core-1", 2.0)])
        self.assertEqual(shape.busiest(shape.grown(before, after)), ("core-0", 0.75))
        self.assertEqual(shape.busiest({"core-0": 0.0}), (None, 0.0))

    def test_the_beginning_is_left_out_but_never_all(self):
        for length, left in [(1, 1), (5, 5), (10, 9), (60, 54)]:
            self.assertEqual(len(shape.steady(list(range(length)))), left, length)


class Page(unittest.TestCase):
    def test_the_page_has_a_row_for_each_ratio_and_both_latencies(self):
        name = "latency, 5,000 requests of 1 record a second: p99, us"
        sides = {"kafka": [{name: 100.0, "a<b": 1.0}], "corelog": [{name: 50.0, "a<b": 2.0}]}
        calibration = {"arithmetic_ms": 100.0, "copy_ms": 200.0, "wake_us": 10.0}
        told = {"round": 1, "calibration": calibration, "others_cores": [0.1]}
        told |= {"steal_cores": [], "kernel_cores": []}
        found = {"machine": "2 CPUs", "when": "now", "rounds": sides, "noise": [told]}
        found |= {"notes": [], "repeated": [], "shared": {"rate": 600.0}}
        drawn = page.whole(found, table.rows(sides, {name: "<=0.5"}))
        self.assertEqual(drawn.count("<svg"), 2)
        self.assertEqual(drawn.count('class="aim"'), 1)
        self.assertEqual(drawn.count("<circle"), 2 + 2)
        self.assertNotIn("a<b", drawn)
        self.assertEqual(len(noise.lines(found)), 5)

    def test_an_axis_holds_what_it_is_made_for(self):
        for values in ([0.01, 3.0], [1.0], [], [0.0, 5000.0]):
            scale = page.Scale(values)
            self.assertTrue(scale.ticks(), values)
            for value in values:
                at = scale.at(value)
                end = page.LABEL_WIDTH + page.PLOT_WIDTH
                self.assertTrue(page.LABEL_WIDTH <= at <= end, (value, values))


if __name__ == "__main__":
    unittest.main()
