"""Does an implementation keep to its table? Tests from the table alone, for whoever sees only the wire.

    machine = blackbox(complete(SECONDARY, Variant()))
    for word in wp(machine, extra=1): ...   # give its inputs, compare with machine.run(word)

Pure: no socket, no clock, and nothing of COLO. `suites.py` says what each suite promises.
"""

from .blackbox import END, INVALID, Input, Output, Reaction, blackbox, opening, reaction
from .mealy import Mealy, difference
from .suites import switches, tour, w, wp

__all__ = [
    "END",
    "INVALID",
    "Input",
    "Mealy",
    "Output",
    "Reaction",
    "blackbox",
    "difference",
    "opening",
    "reaction",
    "switches",
    "tour",
    "w",
    "wp",
]
