"""How figures spread and change: over threads, over minutes, over several runs. Pure."""

import bisect
import statistics
from collections import defaultdict

# Halvings when a quantile is looked for: enough for a part in a million.
STEPS = 60


def share_below(curve, value):
    """The share of a run at or below a value; `curve` is [(share, value)], both rising."""
    values = [at for _share, at in curve]
    place = bisect.bisect_right(values, value)
    if place == 0:
        return 0.0
    if place == len(curve):
        return 1.0
    (low, left), (high, right) = curve[place - 1], curve[place]
    return low + (high - low) * (value - left) / (right - left)


def pooled(reports, quantile):
    """A quantile of several runs of `corelog bench` taken together, in microseconds."""
    known = [(one["latency_us"]["count"], one["curve"]) for one in reports if one["curve"]]
    whole = sum(count for count, _curve in known)
    if not whole:
        return None
    low, high = 0.0, max(curve[-1][1] for _count, curve in known)
    for _ in range(STEPS):
        middle = (low + high) / 2
        below = sum(count * share_below(curve, middle) for count, curve in known)
        low, high = (low, middle) if below >= quantile * whole else (middle, high)
    return high


def slope(points):
    """The rise of a line through [(x, y)] by least squares, y for each x; 0 of fewer than two."""
    if len({x for x, _y in points}) < 2:
        return 0.0
    found = statistics.linear_regression(*zip(*points, strict=True))
    return found.slope


def steady(series, share=0.1):
    """What comes behind the first `share` of a series, at least one."""
    return series[min(len(series) - 1, round(len(series) * share)) :]


def cores(threads):
    """CPU seconds by core of Corelog, from [(name, seconds)] of its threads."""
    found = defaultdict(float)
    for name, seconds in threads:
        if name.startswith("core-"):
            found[name] += seconds
    return dict(found)


def grown(before, after):
    """What each name has more than before; what was not there before counts whole."""
    return {name: figure - before.get(name, 0.0) for name, figure in after.items()}


def busiest(figures):
    """(name, its share of the sum) of the largest; (`None`, 0) where nothing is."""
    whole = sum(figures.values())
    if whole <= 0:
        return None, 0.0
    name = max(figures, key=figures.get)
    return name, figures[name] / whole
