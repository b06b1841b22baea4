"""The page of a comparison: ratios with their spread, latencies of both, the table. Plain SVG."""

import math
from html import escape
from pathlib import Path

from . import noise, table

LABEL_WIDTH, PLOT_WIDTH, RIGHT_WIDTH = 530, 480, 130
WIDTH = LABEL_WIDTH + PLOT_WIDTH + RIGHT_WIDTH
ROW_HEIGHT, HEAD_HEIGHT = 24, 34
STYLE = """
:root { --ink: #1b1f24; --soft: #667080; --line: #d8dde3; --paper: #fff; --ours: #0b6e99;
  --theirs: #c2571a; --met: #1f7a3d; --missed: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #98a2b0; --line: #343b45;
  --paper: #14181d; --ours: #4fb3dd; --theirs: #ee8c4f; --met: #5cc281; --missed: #f2827b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1160px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
svg { width: 100%; height: auto; font-size: 12.5px; } svg text { fill: var(--ink); }
svg .soft { fill: var(--soft); } svg .grid { stroke: var(--line); }
svg .one { stroke: var(--soft); stroke-width: 1.5; }
.ours { fill: var(--ours); stroke: var(--ours); } .theirs { fill: var(--theirs); }
svg .theirs { stroke: var(--theirs); } .met { color: var(--met); } .missed { color: var(--missed); }
svg text.ours { stroke: none; } svg text.theirs { stroke: none; }
svg .aim { stroke: var(--ink); stroke-width: 2; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 3px 9px; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } .wide { overflow-x: auto; }
p, li { color: var(--soft); }
"""


class Scale:
    """A logarithmic axis over the plot's width."""

    def __init__(self, values):
        known = [value for value in values if value > 0]
        low, high = min(known, default=0.1), max(known, default=10)
        self.low = math.floor(math.log10(low) * 3 - 0.2) / 3
        self.high = max(math.ceil(math.log10(high) * 3 + 0.2) / 3, self.low + 0.7)

    def at(self, value):
        """Where a value lies; what is not above 0 lies at the left end."""
        share = (math.log10(value) - self.low) / (self.high - self.low) if value > 0 else 0
        return LABEL_WIDTH + PLOT_WIDTH * min(1.0, max(0.0, share))

    def ticks(self):
        """Round values within the axis."""
        exponents = range(math.floor(self.low), math.ceil(self.high) + 1)
        values = [digit * 10.0**exponent for exponent in exponents for digit in (1, 2, 5)]
        return [value for value in values if self.low <= math.log10(value) <= self.high]


def write(path, found, rows):
    """Writes the page."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(whole(found, rows))


def whole(found, rows):
    """The page's text."""
    count = max((len(side) for side in found["rounds"].values()), default=0)
    said = "".join(f"<li>{escape(line)}</li>" for line in noise.lines(found) + found["notes"])
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Corelog beside Apache Kafka</title>
<style>{STYLE}</style>
<h1>Corelog beside Apache Kafka</h1>
<p>{escape(found["machine"])}. {count} rounds in turn, {escape(found["when"])}. One broker alive at
a time; the same load on both.</p>
<h2>Corelog as a share of Apache Kafka</h2>
<p>The dot is the median of the rounds' ratios, the bar runs from the lowest to the highest, the
black stroke is what is wanted. CPU, latency, memory and times: left of 1 is less than Apache Kafka
needs. MB/s, requests/s and fetches/s: right of 1 is more.</p>
{ratio_plot(rows)}
<h2>Latency</h2>
<p>Open loop, counted from when a request was due; medians of the rounds, microseconds.
<span class="theirs">Apache Kafka</span> and <span class="ours">Corelog</span>.</p>
{latency_plot(rows)}
<h2>All figures</h2><div class="wide">{figures(rows)}</div>
<h2>The machine's noise</h2><ul>{said}</ul></html>
"""


def svg(height, parts):
    """A drawing of the common width."""
    body = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{body}</svg>'


def axis(scale, height, unit=""):
    """The grid with its numbers on top."""
    for value in scale.ticks():
        at = scale.at(value)
        yield upright(at, HEAD_HEIGHT - 8, height, "grid")
        yield text(at, HEAD_HEIGHT - 14, f"{value:,g}{unit}", "middle", "soft")


def upright(at, top, bottom, kind):
    """A line from top to bottom."""
    return f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}"/>'


def text(x, y, words, anchor="start", kind=""):
    """Words in a drawing."""
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escape(words)}</text>'


def dot(scale, value, y, kind, radius=5):
    """A value."""
    return f'<circle class="{kind}" cx="{scale.at(value):.1f}" cy="{y}" r="{radius}"/>'


def bar(scale, low, high, y, kind):
    """From a lowest to a highest value."""
    left, right = scale.at(low), scale.at(high)
    return (
        f'<line class="{kind}" x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}" '
        'stroke-width="5" stroke-opacity="0.35" stroke-linecap="round"/>'
    )


def ratio_plot(rows):
    """Every ratio with its spread."""
    kept = [row for row in rows if row.ratio and row.ratio.low > 0]
    if not kept:
        return "<p>Nothing yet.</p>"
    aims = [float(row.aim[2:]) for row in kept if row.aim]
    ends = [end for row in kept for end in (row.ratio.low, row.ratio.high)]
    scale = Scale([*ends, *aims, 1.0])
    height = HEAD_HEIGHT + ROW_HEIGHT * len(kept) + 6
    parts = [*axis(scale, height)]
    parts.append(upright(scale.at(1.0), HEAD_HEIGHT - 8, height, "one"))
    for index, row in enumerate(kept):
        y = HEAD_HEIGHT + ROW_HEIGHT * index + ROW_HEIGHT // 2
        parts.append(text(LABEL_WIDTH - 12, y + 4, row.name, "end"))
        parts.append(bar(scale, row.ratio.low, row.ratio.high, y, "ours"))
        if row.aim:
            parts.append(upright(scale.at(float(row.aim[2:])), y - 8, y + 8, "aim"))
        parts.append(dot(scale, row.ratio.middle, y, "ours"))
        words = f"{row.ratio.middle:.2f}  {row.aim and table.aimed(row.aim, '')}"
        parts.append(text(LABEL_WIDTH + PLOT_WIDTH + 10, y + 4, words.strip(), kind="soft"))
    return svg(height, parts)


def latency_plot(rows):
    """p50 to the worst of both, one line a quantile."""
    kept = [row for row in rows if row.name.endswith(", us") and row.kafka and row.corelog]
    if not kept:
        return "<p>Not measured.</p>"
    ends = [
        end for row in kept for side in (row.kafka, row.corelog) for end in (side.low, side.high)
    ]
    scale = Scale(ends)
    height = HEAD_HEIGHT + ROW_HEIGHT * len(kept) + 6
    parts = [*axis(scale, height)]
    for index, row in enumerate(kept):
        y = HEAD_HEIGHT + ROW_HEIGHT * index + ROW_HEIGHT // 2
        parts.append(text(LABEL_WIDTH - 12, y + 4, row.name, "end"))
        for side, kind, shift in ((row.kafka, "theirs", -4), (row.corelog, "ours", 4)):
            parts.append(bar(scale, side.low, side.high, y + shift, kind))
            parts.append(dot(scale, side.middle, y + shift, kind, 4))
        words = f"{table.number(row.kafka)} / {table.number(row.corelog)}"
        parts.append(text(LABEL_WIDTH + PLOT_WIDTH + 10, y + 4, words, kind="soft"))
    return svg(height, parts)


def figures(rows):
    """The table."""
    heads = ["", "Apache Kafka", "Corelog", "ratio", "lowest to highest", "wanted"]
    heads += ["bare loop", "Corelog / bare loop", "wanted"]
    lines = ["".join(f"<th>{escape(head)}</th>" for head in heads)]
    for row in rows:
        ratio = [f"{row.ratio.middle:.2f}", str(row.ratio)] if row.ratio else ["-", "-"]
        cells = [row.name, table.number(row.kafka), table.number(row.corelog), *ratio]
        over = f"{row.over_floor.middle:.2f} ({row.over_floor})" if row.over_floor else ""
        cells += [(row.aim, row.verdict), table.number(row.floor) if row.floor else "", over]
        cells += [(row.floor_aim, row.floor_verdict)]
        lines.append("".join(cell(words) for words in cells))
    return f"<table><tr>{'</tr><tr>'.join(lines)}</tr></table>"


def cell(words):
    """One cell; an aim and its verdict are coloured."""
    if isinstance(words, str):
        return f"<td>{escape(words)}</td>"
    aim, verdict = words
    kind = {"yes": ' class="met"', "no": ' class="missed"'}.get(verdict, "")
    return f"<td{kind}>{escape(table.aimed(aim, verdict))}</td>"
