"""A planted bug: a side takes its claim for won without asking."""

from colo_fsm.arbiter import Claim, SqliteArbiter
from colo_fsm.arbiter.base import fresh_number

SqliteArbiter.claim = lambda self, generation, side: Claim(side, fresh_number(generation))
