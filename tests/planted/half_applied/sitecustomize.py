"""A planted bug: what has arrived of a checkpoint is applied when the rest does not come, loadable or not."""

import contextlib
import time

from colo_fsm.arbiter import SqliteArbiter
from colo_fsm.fsm import ProtocolError, Side
from colo_fsm.replica.secondary_script import SecondaryReplica

receive_live, claim = SecondaryReplica.receive_live, SqliteArbiter.claim


def half(self):
    try:
        return (yield from receive_live(self))
    except ProtocolError:
        self.store.commit(self.round.delta, self.store.newest.device)
        with contextlib.suppress(ProtocolError):
            yield from self.load()
        raise


def slow_for_the_primary(self, generation, side):
    """No bug: only so that the Secondary, where the bug is, goes on."""
    time.sleep(0.5 if side is Side.PRIMARY else 0)
    return claim(self, generation, side)


SecondaryReplica.receive_live = half
SqliteArbiter.claim = slow_for_the_primary
