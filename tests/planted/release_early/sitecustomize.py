"""A planted bug: packets leave at once, not when a checkpoint covers them."""

from colo_fsm.replica.outbox import Outbox

Outbox.hold = lambda self, deliver, drop=None: deliver()
