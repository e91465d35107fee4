"""Pictures of the protocol, drawn from its tables alone: DOT, Mermaid, SVG, PNG.

Install the extra `draw`. `python -m colo_fsm.draw diagrams` writes the pictures of this repository.
"""

from .picture import FORMATS, Picture, pair, pictures, side, stale, write_all
from .renderer import DrawError, dot_hash, render

__all__ = [
    "FORMATS",
    "DrawError",
    "Picture",
    "dot_hash",
    "pair",
    "pictures",
    "render",
    "side",
    "stale",
    "write_all",
]
