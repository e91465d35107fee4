"""Pictures of any protocol, drawn from its tables alone, and of exchanges: DOT, Mermaid, SVG, PNG.

Install the extra `draw`. `python -m colo_fsm.draw diagrams` writes the pictures of this repository.
"""

from .answers import Answers, Step
from .exchange import Exchange
from .kept import pictures, stale, write_all
from .moment import Moment, Tone
from .picture import FORMATS, Picture, beside, checkpoint, machine, pair, side
from .renderer import DrawError, dot_hash, render

__all__ = [
    "FORMATS",
    "Answers",
    "DrawError",
    "Exchange",
    "Moment",
    "Picture",
    "Step",
    "Tone",
    "beside",
    "checkpoint",
    "dot_hash",
    "machine",
    "pair",
    "pictures",
    "render",
    "side",
    "stale",
    "write_all",
]
