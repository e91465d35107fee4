"""Graphviz, wherever it is: the `graphviz` package writes DOT, `pygraphviz` or `dot` lays it out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphviz import Digraph

RENDERED = ("svg", "png")
"""What `render()` makes of DOT."""

_HASH = re.compile(r"<!-- sha256 of the DOT text: ([0-9a-f]{64}) -->")


class DrawError(RuntimeError):
    """What draws pictures is not installed."""

    def __init__(self, missing: str) -> None:
        super().__init__(f"{missing}; install it with: pip install 'colo-fsm[draw]'")


def new_digraph(
    name: str, graph: Mapping[str, str], node: Mapping[str, str], edge: Mapping[str, str]
) -> Digraph:
    """An empty graph to write DOT with. Raises DrawError without the `graphviz` package (pure Python)."""
    try:
        from graphviz import Digraph
    except ImportError as e:
        raise DrawError("DOT is written with the graphviz package, which is not there") from e
    return Digraph(name, graph_attr=graph, node_attr=node, edge_attr=edge)


def render(dot: str, format: str) -> bytes:
    """The picture of this DOT text as `svg` or `png`.

    Rendered by pygraphviz, whose wheels bring Graphviz along, else by a `dot` on the PATH; without either
    it raises DrawError. Renderers differ in fonts and versions, so an SVG carries the hash of its DOT text:
    see `dot_hash()`.
    """
    if format not in RENDERED:
        raise ValueError(f"cannot render '{format}': choose one of {', '.join(RENDERED)}")
    picture = _rendered(dot, format)
    return _with_hash(picture, dot) if format == "svg" else picture


def dot_hash(svg: str) -> str | None:
    """The sha256, in hex, of the DOT text that this SVG was rendered from; None if it carries none."""
    found = _HASH.search(svg)
    return found[1] if found else None


def hash_of(dot: str) -> str:
    """What `dot_hash()` returns for an SVG rendered from this DOT text."""
    return sha256(dot.encode()).hexdigest()


def _rendered(dot: str, format: str) -> bytes:
    try:
        import pygraphviz
    except ImportError:
        return _rendered_by_executable(dot, format)
    graph = pygraphviz.AGraph(string=dot)
    try:
        return bytes(graph.draw(format=format, prog="dot"))
    finally:
        graph.close()


def _rendered_by_executable(dot: str, format: str) -> bytes:
    missing = f"{format} is rendered by pygraphviz or by Graphviz's dot, and neither is there"
    try:
        import graphviz
    except ImportError as e:
        raise DrawError(missing) from e
    try:
        return bytes(graphviz.Source(dot).pipe(format=format))
    except graphviz.ExecutableNotFound as e:
        raise DrawError(missing) from e


def _with_hash(svg: bytes, dot: str) -> bytes:
    head, opening, body = svg.partition(b"<svg")
    return head + f"<!-- sha256 of the DOT text: {hash_of(dot)} -->\n".encode() + opening + body
