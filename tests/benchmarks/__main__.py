"""Print the figures of this machine. Absolute ones drift; quote the ratios."""

from __future__ import annotations

from . import explore, machine, members, memory, qemu, rounds

for part in (machine, explore, rounds, memory, members, qemu):
    part.main()
