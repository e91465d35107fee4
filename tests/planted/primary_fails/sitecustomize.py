"""A planted fault: the Primary's guest cannot be saved any more after ten checkpoints."""

from itertools import count

from colo_fsm.services.sqlite import SqliteGuest

save, times = SqliteGuest.save, count()


def fail(self, everything):
    if next(times) > 10:
        raise RuntimeError("planted")
    return save(self, everything)


SqliteGuest.save = fail
