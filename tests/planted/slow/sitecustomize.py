"""No bug: a machine on which a side takes long to start, and each checkpoint takes 0.1 s."""

import sys
import time

from colo_fsm.services.sqlite import SqliteGuest

save = SqliteGuest.save


def slowly(self, everything):
    time.sleep(0.1)
    return save(self, everything)


SqliteGuest.save = slowly
time.sleep(1.0 if {"primary", "secondary"} & set(sys.orig_argv) else 0)
