"""Ratios of two brokers by round, and the Markdown table of them.

A round is a dict from a figure's name to its value. What one side has not measured in a round is
left out of that round's ratio.
"""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest of the rounds."""

    middle: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values):
        """The spread of some values; `None` of none."""
        values = list(values)
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self):
        return f"{self.low:.2f} to {self.high:.2f}"


@dataclass(frozen=True)
class Row:
    """One figure of both brokers; what is not known is `None`."""

    name: str
    kafka: Spread | None
    corelog: Spread | None
    ratio: Spread | None
    aim: str = ""
    # The bare loop that does the same work, and Corelog as a multiple of it.
    floor: Spread | None = None
    over_floor: Spread | None = None
    floor_aim: str = ""

    @property
    def verdict(self):
        """Whether the median of the ratios meets the aim: "yes", "no", or "" without an aim."""
        return _verdict(self.ratio, self.aim)

    @property
    def floor_verdict(self):
        """The same of the floor's aim."""
        return _verdict(self.over_floor, self.floor_aim)


def _verdict(spread, aim):
    if not aim or spread is None:
        return ""
    return "yes" if meets(spread.middle, aim) else "no"


def meets(ratio, aim):
    """Whether a ratio meets an aim like "<=0.30" or ">=1.8"."""
    limit = float(aim[2:])
    return ratio <= limit if aim.startswith("<=") else ratio >= limit


def ratios(over, under):
    """over/under of each round in which both are known and neither is below, nor `under` at, 0."""
    pairs = ((a, b) for a, b in zip(over, under, strict=False) if None not in (a, b))
    return [a / b for a, b in pairs if a >= 0 and b > 0]


def rows(rounds, aims=None, floor_aims=None):
    """The rows of `rounds`, {"kafka": [...], "corelog": [...], "floor": [...]}.

    Rows come in the order in which figures were first met; `aims` is {figure: aim}.
    """
    names = dict.fromkeys(name for side in rounds.values() for one in side for name in one)
    found = []
    for name in names:
        kafka, corelog, floor = (
            [one.get(name) for one in rounds.get(side, [])]
            for side in ("kafka", "corelog", "floor")
        )
        found.append(
            Row(
                name,
                _known(kafka),
                _known(corelog),
                Spread.of(ratios(corelog, kafka)),
                (aims or {}).get(name, ""),
                _known(floor),
                Spread.of(ratios(corelog, floor)),
                (floor_aims or {}).get(name, ""),
            )
        )
    return found


def _known(values):
    return Spread.of(value for value in values if value is not None)


def digits(figure):
    """Decimals worth printing."""
    return 0 if abs(figure) >= 100 else 1 if abs(figure) >= 10 else 2


def number(spread):
    """The median in as many digits as count; a dash where there is none."""
    return "-" if spread is None else f"{spread.middle:,.{digits(spread.middle)}f}"


def aimed(aim, verdict):
    """An aim and whether it is met, in words."""
    if not aim:
        return ""
    limit = f"{'at most' if aim.startswith('<=') else 'at least'} {aim[2:]}"
    return f"{limit}: {verdict}" if verdict else limit


def markdown(found):
    """The table. Columns of aims and floors are there when some row has them."""
    aims = any(row.aim for row in found)
    floors = any(row.floor for row in found)
    heads = ["", "Apache Kafka", "Corelog", "Corelog / Kafka", "lowest to highest"]
    heads += ["wanted: met"] if aims else []
    heads += ["bare loop", "Corelog / bare loop", "wanted: met"] if floors else []
    lines = [_line(heads), _line(["--", *["--:"] * (len(heads) - 1)])]
    for row in found:
        ratio = [f"{row.ratio.middle:.2f}", str(row.ratio)] if row.ratio else ["-", "-"]
        cells = [row.name, number(row.kafka), number(row.corelog), *ratio]
        cells += [aimed(row.aim, row.verdict)] if aims else []
        if floors:
            over = "-"
            if row.over_floor:
                over = f"{row.over_floor.middle:.2f} ({row.over_floor})"
            cells += [number(row.floor), over, aimed(row.floor_aim, row.floor_verdict)]
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells):
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")
