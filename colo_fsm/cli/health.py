"""What a side or a member says by HTTP: whether it is the one to be asked (as Patroni does), and its figures.

One request a connection, GET, HEAD or OPTIONS, HTTP/1.0 or 1.1: enough for haproxy, Prometheus and curl.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from .figures import Figures

PLACES = ("/primary", "/secondary", "/health", "/metrics")
METHODS = ("GET", "HEAD", "OPTIONS")

METRICS = (
    ("runs", "gauge", "runs", "1 where the guest runs here"),
    ("ready", "gauge", "ready", "1 on a Secondary with a whole checkpoint"),
    ("healthy", "gauge", "healthy", "1 while it can do its part"),
    ("protected", "gauge", "protected", "1 while two have what is acknowledged, and this is one of them"),
    ("generation", "gauge", "generation", "The replication generation"),
    ("token", "gauge", "token", "The fencing token under which it runs"),
    ("checkpoint", "gauge", "checkpoint", "The newest checkpoint of this generation"),
    ("checkpoint_age", "gauge", "checkpoint_age_seconds", "Since the newest checkpoint"),
    ("pause", "gauge", "checkpoint_pause_seconds", "How long the guest stood still for the newest one"),
    ("paused", "counter", "paused_seconds_total", "How long the guest stood still for all of them"),
    ("checkpoints", "counter", "checkpoints_total", "Checkpoints taken by this process"),
    ("bytes", "counter", "checkpoint_bytes_total", "Bytes of checkpoints on the wire"),
    ("pages", "counter", "checkpoint_pages_total", "Pages of checkpoints"),
    ("waiting_replies", "gauge", "waiting_replies", "Replies that wait for a checkpoint"),
    ("capacity", "gauge", "capacity_bytes", "What the guest may use"),
    ("capacity_used", "gauge", "capacity_used_bytes", "What it uses"),
    ("claim_seconds", "gauge", "claim_seconds", "From the newest break to the arbiter's answer"),
    (
        "unprotected_seconds",
        "counter",
        "unprotected_seconds_total",
        "How long the guest ran here without a Secondary",
    ),
    ("failovers", "counter", "failovers_total", "How often this process went on alone after a break"),
    ("moves", "counter", "role_changes_total", "How often this member became something else"),
)
"""What of `Figures.status`, as what, under which name behind `colo_fsm_`, and its help."""


def answer(figures: Figures, heard: bytes) -> bytes | None:
    """The reply to what has arrived, None while that is no whole request."""
    head, end, _ = heard.replace(b"\r\n", b"\n").partition(b"\n\n")
    if not end:
        return None
    try:
        method, target, version = head.partition(b"\n")[0].decode("ascii").split(" ")
    except ValueError:
        return _reply(HTTPStatus.BAD_REQUEST, "no request of HTTP\n")
    if not version.startswith("HTTP/1."):
        return _reply(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.0 or 1.1\n")
    if method not in METHODS:
        return _reply(HTTPStatus.METHOD_NOT_ALLOWED, f"{', '.join(METHODS)}\n")
    status, text, kind = _page(figures, target.partition("?")[0])
    return _reply(status, text, kind, body=method == "GET")


def _page(figures: Figures, path: str) -> tuple[HTTPStatus, str, str]:
    """`/` is `/primary`, which is what a load balancer means that was told no path."""
    if path not in ("/", *PLACES):
        return HTTPStatus.NOT_FOUND, f"{', '.join(PLACES)}\n", _TEXT
    known = figures.status()
    if path == "/metrics":
        return HTTPStatus.OK, metrics(known), "text/plain; version=0.0.4; charset=utf-8"
    which = {"/secondary": "ready", "/health": "healthy"}.get(path, "runs")
    status = HTTPStatus.OK if known[which] else HTTPStatus.SERVICE_UNAVAILABLE
    return status, json.dumps(known) + "\n", "application/json"


_TEXT = "text/plain; charset=utf-8"


def _reply(status: HTTPStatus, text: str, kind: str = _TEXT, body: bool = True) -> bytes:
    data = text.encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(data)}",
        f"Allow: {', '.join(METHODS)}",
        "Cache-Control: no-store",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + (data if body else b"")


def metrics(known: dict[str, Any]) -> str:
    """These figures in Prometheus' text format; what is not known is left out."""
    label = f'state="{known["state"]}"' + (f',member="{_quoted(known["name"])}"' if known["name"] else "")
    lines = [
        "# HELP colo_fsm_state What it is",
        "# TYPE colo_fsm_state gauge",
        f"colo_fsm_state{{{label}}} 1",
    ]
    for key, kind, name, text in METRICS:
        if (value := known[key]) is not None:
            lines += [f"# HELP colo_fsm_{name} {text}", f"# TYPE colo_fsm_{name} {kind}"]
            lines.append(f"colo_fsm_{name} {+value}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
