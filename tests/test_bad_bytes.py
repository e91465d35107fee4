"""Whatever bytes or text come from outside: a value or a documented error, never another one."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standby_process import initial
from vm_link import link, recorded

from colo_fsm.arbiter import ArbiterError, open_arbiter
from colo_fsm.check.simulate import Schedule
from colo_fsm.qemu.hold.inspect import inspect_file
from colo_fsm.qemu.watch.capture import Capture, CaptureError
from colo_fsm.qemu.watch.log import TraceError, read_log
from colo_fsm.qemu.watch.tap import review
from colo_fsm.qemu.watch.trace import check
from colo_fsm.replica import Address, AddressError, Options
from colo_fsm.services.sqlite import SqliteGuest, Statements
from colo_fsm.services.wire import reply_to
from colo_fsm.stream import StreamError

EXAMPLES = int(os.environ.get("COLO_FSM_EXAMPLES", "150"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 150)

ANY_TEXT = st.text(st.characters())  # surrogates, too: what is not UTF-8 on a command line
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda more: st.lists(more, max_size=4) | st.dictionaries(ANY_TEXT, more, max_size=4),
)


@FUZZ
@given(
    st.tuples(
        st.sampled_from(["", "tcp:", "unix:", "tcp:[", "tcp:a."]), ANY_TEXT, st.just(":80") | st.just("")
    )
)
def test_an_address(parts: tuple[str, str, str]) -> None:
    """One that was taken can be written, bound to or looked up without another kind of error."""
    text = "".join(parts)
    with contextlib.suppress(AddressError):
        address = Address.parse(text)
        assert Address.parse(str(address)) == address
        if address.path:
            os.fsencode(address.path)
        else:
            assert address.host.encode("idna")


@FUZZ
@given(
    st.dictionaries(st.sampled_from(["interval", "deadline", "claim_retry", "connect_timeout"]), st.floats())
)
def test_a_time(times: dict[str, float]) -> None:
    with contextlib.suppress(ValueError):
        made = Options(**times)  # type: ignore[arg-type]
        assert all(0 <= getattr(made, name) <= 86400 for name in times)


@FUZZ
@given(ANY_TEXT)
def test_an_arbiter(text: str) -> None:
    for scheme in ("", "exec:"):
        with contextlib.suppress(ValueError, ArbiterError):
            open_arbiter(scheme + text)


WORDS = st.sampled_from([
    "colo_send_message Send 'checkpoint-request' message\n",
    "colo_receive_message Receive 'vmstate-size' message",
    "1@2.5:colo_vm_state_change Change 'run' => 'stop'\n",
    "colo_failover_set_state new state active\n",
    "colo_send_message Send 'checkpoint-ready' message\n",
    "9@" + "9" * 400 + ".1:", "\0", "colo_", "'", "\r\n",
])  # fmt: skip


@FUZZ
@given(st.lists(st.lists(WORDS | st.text(max_size=5), max_size=20), min_size=1, max_size=2))
def test_logs(texts: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(TraceError):
        for number, words in enumerate(texts):
            Path(folder, str(number)).write_bytes("".join(words).encode(errors="surrogatepass"))
        check([read_log(Path(folder, str(number))) for number in range(len(texts))]).lines()


CHANGES = st.lists(st.tuples(st.floats(0, 0.999), st.binary(max_size=6), st.integers(0, 6)), max_size=6)
"""Where, what comes there, and how much of what was there goes."""


def changed(data: bytes, changes: list[tuple[float, bytes, int]]) -> bytes:
    for where, new, gone in changes:
        at = int(where * len(data))
        data = data[:at] + new + data[at + gone :]
    return data


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("capture")
    recorded(folder / "c", 2)
    return folder / "c"


@FUZZ
@given(data=st.data())
def test_a_recording(capture: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("index", "p2s", "s2p"):
            whole = (capture / name).read_bytes()
            Path(folder, name).write_bytes(changed(whole, data.draw(CHANGES, label=name)))
        for look in (lambda: review(Capture(folder)), lambda: Capture(folder).layout()):
            with contextlib.suppress(CaptureError):
                look()


HEAD = initial()


@FUZZ
@given(CHANGES)
def test_a_stream(changes: list[tuple[float, bytes, int]]) -> None:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(changed(HEAD, changes))
        with contextlib.suppress(StreamError):
            inspect_file(Path(file.name)).facts()


@FUZZ
@given(st.binary() | JSON.map(lambda it: json.dumps(it).encode()) | st.fixed_dictionaries(
    {"sql": st.sampled_from(["SELECT ?", "SELECT :a", "INSERT INTO t VALUES (?)", "\0", "SELECT 1e999"])},
    optional={"id": JSON, "params": JSON, "key": JSON},
).map(lambda it: json.dumps(it).encode()))  # fmt: skip
def test_a_request_to_the_sqlite_service(line: bytes) -> None:
    """It has one reply, a line of JSON."""
    reply = reply_to(STATEMENTS, line) + "}"
    assert "\n" not in reply
    assert {"id"} < json.loads(reply).keys()


STATEMENTS = Statements(SqliteGuest(1 << 20, schema="CREATE TABLE t (a)").connection)


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"id":' * 50_000, b'{"id": ' + b"9" * 10_000 + b"}"])
def test_a_request_that_is_deep_or_long(line: bytes) -> None:
    assert json.loads(reply_to(STATEMENTS, line) + "}").keys() == {"id", "error"}


@FUZZ
@given(ANY_TEXT, JSON)
def test_a_schedule(text: str, values: object) -> None:
    for each in (text, json.dumps(values), json.dumps({"faults": values, "release_on": "loaded"})):
        with contextlib.suppress(ValueError):
            Schedule.from_json(each)


def test_what_is_not_changed_is_read(capture: Path) -> None:
    """Else the tests above would show nothing."""
    assert review(Capture(capture)).text.startswith("2 rounds")
    assert len(list(link(2))) > 10
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(HEAD)
        assert inspect_file(Path(file.name)).machine == "pc-i440fx-7.2"
