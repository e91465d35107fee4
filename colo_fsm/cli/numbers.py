"""Times and rates on the command line: numbers that can be waited for."""

from __future__ import annotations

import math
from typing import Any

import click

from colo_fsm.arbiter.base import LONGEST_TIME


class Number(click.FloatRange):
    """A range outside of which is nan, too: no comparison keeps it out."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"'{value}' is no number", param, ctx)
        return number


SECONDS = Number(min=0, min_open=True, max=LONGEST_TIME)
MILLISECONDS = Number(min=0, max=LONGEST_TIME * 1000)
