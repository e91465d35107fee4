"""Print the figures of this machine. Absolute ones drift; quote the ratios."""

from __future__ import annotations

from . import machine, qemu, rounds

for part in (machine, rounds, qemu):
    part.main()
