"""Print the figures of this machine. Absolute ones drift; quote the ratios."""

from __future__ import annotations

from . import explore, machine, members, qemu, rounds, standby

for part in (machine, explore, rounds, members, qemu, standby):
    part.main()
