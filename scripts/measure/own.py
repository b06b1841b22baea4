"""A long set: what runs, and with which settings its broker starts."""

from collections.abc import Callable
from dataclasses import dataclass


def _none(_args):
    return {}


@dataclass(frozen=True)
class Own:
    """A set with a broker of its own."""

    # Takes the round.
    run: Callable
    # Takes the command line's arguments; {setting: value} of the broker.
    properties: Callable = _none
