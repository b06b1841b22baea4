"""Measures Apache Kafka and Corelog in turn; see compare-kafka.sh.

How the figures are kept honest is told in measure/rounds.py; what is measured, and which ratios are
wanted, in measure/loads.py.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from measure import loads, machine, noise, page, table, turns
from measure.rounds import Round


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="Apache Kafka and Corelog side by side")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=",".join(loads.SETS), help="sets of loads, with commas")
    parser.add_argument("--brokers", default=",".join(turns.KINDS), help="kafka, corelog or both")
    parser.add_argument("--list", action="store_true", help="the sets and their figures")
    parser.add_argument("--seconds", type=float, default=5, help="length of each measurement")
    parser.add_argument("--warm", type=float, default=40, help="seconds to warm the JVM up")
    parser.add_argument("--rate", type=float, help="instead of 60 %% of Kafka's highest rate")
    parser.add_argument("--records", type=int, help="for Apache's tools and librdkafka")
    parser.add_argument("--backfill-gib", type=float, default=20, help="what `backfill` reads")
    parser.add_argument("--soak-minutes", type=float, default=60, help="length of `soak`")
    parser.add_argument("--no-floors", dest="floors", action="store_false")
    parser.add_argument(
        "--disturbed",
        type=float,
        default=machine.DISTURBED_CORES,
        help="cores that others may use before a load is repeated",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=300,
        help="seconds a broker's round may wait for a quiet machine, and repeat what was disturbed",
    )
    parser.add_argument(
        "--no-keep-memory",
        dest="keep_memory",
        action="store_false",
        help=f"do not {machine.KEEP_HELP}",
    )
    parser.add_argument("--pinned", action="store_true", help="broker on core 1, client on core 0")
    parser.add_argument("--json", default=str(ROOT / "target" / "compare-kafka.json"))
    parser.add_argument("--html", default=str(ROOT / "target" / "compare-kafka.html"))
    parser.add_argument("--append", action="store_true", help="go on with the rounds of --json")
    parser.add_argument("--redraw", help="prints the table and draws the page of an earlier JSON")
    args = parser.parse_args()
    args.only = [name for name in args.only.split(",") if name]
    args.brokers = [name for name in args.brokers.split(",") if name]
    for what, given, known in (
        ("set", args.only, loads.EVERY),
        ("broker", args.brokers, turns.KINDS),
    ):
        if unknown := set(given) - set(known):
            wrong = ", ".join(sorted(unknown))
            parser.error(f"no such {what}: {wrong}; there are {', '.join(known)}")
    return args


def listed():
    """The sets in words."""
    for name, (words, figures) in loads.EVERY.items():
        print(f"{name}: {words}{' (only when named)' if name in loads.HEAVY else ''}")
        for figure, aim in figures.items():
            floor, limit = loads.FLOOR_AIMS.get(figure, ""), loads.LIMITS.get(figure)
            said = [table.aimed(aim, ""), f"{table.aimed(floor, '')} of the bare loop's"]
            said = said[:1] * bool(aim) + said[1:] * bool(floor)
            wanted = "; ".join(said + [f"Corelog at most {limit}"] * bool(limit))
            print(f"    {figure}{f'  ({wanted})' if wanted else ''}")


class Comparison:
    """All rounds, and what is said of them."""

    def __init__(self, args):
        self.args = args
        self.shared = {"rate": args.rate} if args.rate else {}
        self.found = {
            "when": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "machine": machine.description(),
            "arguments": vars(args),
            "rounds": {},
            "floors": [],
            "latencies": {kind: [] for kind in turns.KINDS},
            "series": {kind: [] for kind in turns.KINDS},
            "noise": [],
            "repeated": [],
            "notes": [],
        }
        if args.append:
            self.go_on(turns.read_json(args.json))

    def go_on(self, earlier):
        """Takes up the rounds of an earlier run, and the rates that it found."""
        now, machines = self.found, {earlier["machine"], self.found["machine"]}
        self.found = {**earlier, "arguments": now["arguments"]}
        self.found["when"] = f"{earlier['when']}; {now['when']}"
        self.found["machine"] = "; ".join(sorted(machines))
        self.shared = {**earlier.get("shared", {}), **self.shared}

    def measure(self, number, kind):
        """One broker of one round."""
        one = Round(kind, self.args, self.shared)
        one.run()
        found = self.found
        found["repeated"] += [(number + 1, kind, *row) for row in one.disturbed]
        found["notes"] += [note for note in one.notes if note not in found["notes"]]
        found["noise"].append(noise.of(number + 1, one))
        found["latencies"][kind].append(one.latencies)
        found["series"][kind].append(one.series)
        if kind == "corelog":
            found["floors"].append(one.floors)
        return one.figures

    def keep(self, rounds):
        """Writes down what there is so far."""
        self.found |= {"rounds": rounds, "shared": self.shared}
        turns.write_json(self.args.json, self.found)
        page.write(self.args.html, self.found, rows(self.found))


def rows(kept):
    """The rows of the table."""
    sides = {**kept["rounds"], "floor": kept["floors"]}
    found = table.rows(sides, loads.AIMS, loads.FLOOR_AIMS)
    return sorted(found, key=lambda row: loads.ORDER.get(row.name, len(loads.ORDER)))


def tell(found):
    """Prints everything as Markdown."""
    kept = rows(found)
    count = max(map(len, found["rounds"].values()))
    print(f"{found['machine']}; rounds: {count}; {found['when']}\n")
    print(table.markdown(kept))
    print()
    for line in limits(kept) + noise.lines(found) + [f"note: {note}" for note in found["notes"]]:
        print(f"- {line}")


def limits(kept):
    """What is wanted of Corelog alone."""
    lines = []
    for row in kept:
        if row.corelog and (limit := loads.LIMITS.get(row.name)):
            met = "met" if row.corelog.middle <= limit else "NOT met"
            lines.append(f"{row.name}: {table.number(row.corelog)}, at most {limit} wanted: {met}")
    return lines


def main():
    """Runs what the command line says."""
    args = arguments()
    if args.list:
        return listed()
    if args.redraw:
        found = turns.read_json(args.redraw)
        page.write(args.html, found, rows(found))
        return tell(found)
    machine.raise_files()
    comparison = Comparison(args)
    try:
        with machine.memory_kept(args.keep_memory):
            earlier = comparison.found["rounds"]
            turns.in_turn(
                args.rounds, comparison.measure, comparison.keep, args.brokers, earlier
            )
    finally:
        # A run that is broken off still tells of its whole rounds.
        if comparison.found["rounds"]:
            tell(comparison.found)
    turns.say(f"every measurement: {args.json}; plots: {args.html}")
    return None


if __name__ == "__main__":
    main()
