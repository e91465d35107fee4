"""Logs of real QEMUs are checked: whole, in parts, doctored; one or both; with times or without."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from chance_pair import Pair
from click.testing import CliRunner
from qemu import colo_pair, needs_kvm

from colo_fsm.cli.app import cli
from colo_fsm.colo import COLOMessage
from colo_fsm.fsm import Do, Side
from colo_fsm.qemu.watch import log
from colo_fsm.qemu.watch.log import TraceError, read_log
from colo_fsm.qemu.watch.shadow import Act
from colo_fsm.qemu.watch.trace import Report, check

Logs = tuple[Path, Path]


@pytest.fixture(
    scope="module",
    params=[
        "made",
        "made with times",
        *(pytest.param(p, marks=needs_kvm) for p in ("real", "real with times")),
    ],
)
def logs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Logs:
    """Of a pair: five rounds, then the Primary dies, and the Secondary takes over."""
    folder = tmp_path_factory.mktemp("pair")
    times = request.param.endswith("with times")
    found = folder / "primary.trace", folder / "secondary.trace"
    if request.param.startswith("made"):
        make(found, times)
    else:
        extra = ("-msg", "timestamp=on") if times else ()
        with colo_pair(folder, memory=16, trace=True, extra=extra) as (primary, secondary):
            for _ in range(5):
                primary.checkpoint()
            primary.kill()
            secondary.lost_heartbeat()
    assert ("@" in found[0].read_text()) == times
    return found


def make(found: Logs, times: bool) -> None:
    """What QEMU would write of a pair of sessions, and the guest's changes among it."""
    pair = Pair(1)
    while pair.said.count((Side.SECONDARY, COLOMessage.VMSTATE_LOADED)) < 5 or any(pair.inboxes.values()):
        pair.step()
    words = {
        Act.SENT: "colo_send_message Send '{}' message",
        Act.RECEIVED: "colo_receive_message Receive '{}' message",
        Act.DID: "colo_vm_state_change Change 'x' => '{}'",
    }
    for side, path in zip(Side, found, strict=True):
        said = [
            (
                at,
                words[seen.act].format(
                    seen.what.text if isinstance(seen.what, COLOMessage) else CHANGE[seen.what]
                ),
            )
            for at, seen in enumerate(pair.acts)
            if seen.side is side
        ]
        end = (len(pair.acts), "colo_failover_set_state new state active")
        path.write_text("".join(f"{f'7@{at}.5:' if times else ''}{text}\n" for at, text in (*said, end)))


CHANGE: Mapping[object, str] = {Do.resume: "run", Do.suspend: "stop"}


def checked(*paths: Path) -> Report:
    return check([read_log(path) for path in paths])


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


def written(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(lines))
    return path


def test_a_real_pair_is_in_order(logs: Logs) -> None:
    for some in (logs, logs[::-1], logs[:1], logs[1:]):
        report = checked(*some)
        assert report.deviation is None
        (only,) = report.replications
        assert report.lines()[0].startswith("ok: ")
        assert set(only.states) == {read_log(path).parts[0].side for path in some}
    assert read_log(logs[0]).parts[0].side is Side.PRIMARY


@pytest.mark.parametrize("side", [0, 1])
def test_any_part_of_a_log_is_in_order(logs: Logs, side: int, tmp_path: Path) -> None:
    """Beside the whole log of the other side, and beside a part of it."""
    lines, other = lines_of(logs[side]), logs[1 - side]
    half = written(tmp_path / "other", lines_of(other)[len(lines_of(other)) // 2 :])
    for cut in range(1, len(lines) - 4):
        for part in (lines[cut:], lines[:-cut]):
            log = written(tmp_path / "part", part)
            if "_message" in log.read_text():
                assert checked(log, other).deviation is None
                assert checked(half, log).deviation is None


@pytest.mark.parametrize("side", [0, 1])
def test_a_missing_line_is_found_where_it_is_missing(logs: Logs, side: int, tmp_path: Path) -> None:
    """Not the first nor the last message: a log may begin and end anywhere."""
    lines = lines_of(logs[side])
    messages = [n for n, line in enumerate(lines) if "_message" in line]
    for gone, behind in itertools.pairwise(messages[1:]):
        log = written(tmp_path / "doctored", lines[:gone] + lines[gone + 1 :])
        for some in ((log,), (log, logs[1 - side])):
            found = checked(*some).deviation
            assert found is not None
            path, line = found.place.split(":")
            assert path == str(log)
            assert gone < int(line) <= behind


def test_a_part_of_a_log_is_not_excused(logs: Logs, tmp_path: Path) -> None:
    """A line is missing behind where a cut log has begun; the other log is cut, too."""
    lines = lines_of(logs[1])
    other = written(tmp_path / "other", lines_of(logs[0])[12:])
    gone = next(n for n, line in enumerate(lines) if n > 30 and "Send 'vmstate-received'" in line)
    log = written(tmp_path / "doctored", lines[9:gone] + lines[gone + 1 :])
    found = checked(log, other).deviation
    assert found is not None
    assert found.place.startswith(f"{log}:")
    assert found.side is Side.SECONDARY


def test_another_message_is_found_at_its_line(logs: Logs, tmp_path: Path) -> None:
    lines = lines_of(logs[1])
    at = next(n for n, line in enumerate(lines) if n > 20 and "Send 'vmstate-received'" in line)
    lines[at] = lines[at].replace("vmstate-received", "checkpoint-reply")
    log = written(tmp_path / "doctored", lines)
    result = CliRunner().invoke(cli, ["trace", str(logs[0]), str(log)])
    assert result.exit_code == 1
    assert result.output == (
        f"deviation: {log}:{at + 1}: the secondary sent checkpoint-reply in 'sized', "
        "where it sends vmstate-received\n"
    )


def test_two_clocks_that_differ(logs: Logs, tmp_path: Path) -> None:
    for shift in (-3600.0, -0.01, 0.01, 3600.0):

        def shifted(found: re.Match[str], shift: float = shift) -> str:
            return f"@{float(found[1]) + shift:.6f}:"

        log = tmp_path / "shifted"
        log.write_text(re.sub(r"@(\d+\.\d+):", shifted, logs[1].read_text()))
        assert checked(logs[0], log).deviation is None


def test_lines_in_a_wrong_order_are_found(logs: Logs, tmp_path: Path) -> None:
    lines = [line for line in lines_of(logs[0]) if "_message" in line]
    rng = random.Random(5)
    for _ in range(30):
        at = rng.randrange(1, len(lines) - 2)
        swapped = [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]
        found = checked(written(tmp_path / "swapped", swapped), logs[1]).deviation
        assert found is not None
        assert found.place == f"{tmp_path / 'swapped'}:{at + 1}"


def test_command_line(logs: Logs, tmp_path: Path) -> None:
    assert trace(*logs)[0] == 0
    assert trace(*logs)[1].startswith("ok: ")
    assert trace()[0] == trace(*logs, logs[0])[0] == trace(tmp_path / "none")[0] == 2
    status, text = trace(logs[0], logs[0])
    assert (status, text) == (1, "Error: both logs are of a primary: give one of each side\n")
    status, text = trace(written(tmp_path / "empty", []))
    assert (status, text.count("\n")) == (1, 1)
    assert "-trace" in text


def test_what_is_no_message_is_one_clear_error(logs: Logs, tmp_path: Path) -> None:
    lines = [line.replace("vmstate-size", "vmstate-sighs") for line in lines_of(logs[0])]
    with pytest.raises(TraceError, match=r"bad:\d+: 'vmstate-sighs' is no COLO message"):
        read_log(written(tmp_path / "bad", lines))


def trace(*paths: Path) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["trace", *map(str, paths)])
    return result.exit_code, result.output


def later(line: str, seconds: int) -> str:
    return re.sub(r"@(\d+)\.", lambda at: f"@{int(at[1]) + seconds}.", line)


class TestFailover:
    """What comes behind one in the same log."""

    AFTER = (
        "7@90.5:colo_vm_state_change Change 'stop' => 'run'\n",
        "colo_send_message Send 'vmstate-loaded' message\n",
    )

    def test_another_replication_is_checked_too(self, logs: Logs, tmp_path: Path) -> None:
        """The survivor is the Primary of the next one."""
        first, second = lines_of(logs[1]), lines_of(logs[0])
        log = written(tmp_path / "survivor", [*first, *self.AFTER, *second])
        status, text = trace(log)
        assert status == 0
        at = len(first) + len(self.AFTER) + 1
        ready = next(n for n, line in enumerate(second) if "checkpoint-ready" in line)
        assert [line.split(" ok: ")[0] for line in text.splitlines()] == [
            f"{log}:1:", f"{log}:{at + ready}:",
            f"not looked at: {2 + ready} lines behind the failover, {log}:{len(first) + 1} and on",
        ]  # fmt: skip

    def test_its_deviation_is_found(self, logs: Logs, tmp_path: Path) -> None:
        first, second = lines_of(logs[1]), lines_of(logs[0])
        gone = next(n for n, line in enumerate(second) if n > 20 and "Send 'vmstate-send'" in line)
        log = written(tmp_path / "survivor", [*first, *second[:gone], *second[gone + 1 :]])
        status, text = trace(log)
        assert status == 1
        fine, wrong, *_ = text.splitlines()
        assert fine.startswith(f"{log}:1: ok: ")
        assert f"deviation: {log}:" in wrong
        assert int(wrong.split("deviation: ")[1].split(":")[1]) > len(first) + gone

    def test_it_is_held_against_its_own_other_side(self, logs: Logs, tmp_path: Path) -> None:
        """One replication in one log, two in the other: which belong together, the sides say."""
        log = written(tmp_path / "survivor", [*lines_of(logs[1]), *lines_of(logs[0])])
        status, text = trace(log, logs[0])
        assert status == 0
        assert f"{log}:1 and {logs[0]}:1: ok: " in text
        gone = [line for line in lines_of(logs[0]) if "Send 'checkpoint-request'" not in line]
        assert trace(written(tmp_path / "other", gone), log)[0] == 1

    def test_without_times_it_is_said_what_cannot_be_told(self, logs: Logs, tmp_path: Path) -> None:
        """A Primary has had two Secondaries, and one of them is here."""
        once = [re.sub(r"@\d+\.\d+:", ":", line) for line in lines_of(logs[0])]
        twice = [*once, "colo_failover_set_state new state active\n", *once]
        status, text = trace(written(tmp_path / "twice", twice), logs[1])
        assert status == 0
        assert text.splitlines()[-1] == (
            "not looked at: one log beside the other where it cannot be told what belongs together: "
            "give the one replication only, or logs with times (-msg timestamp=on)"
        )

    def test_with_times_the_one_of_the_same_time_is_taken(self, tmp_path: Path) -> None:
        found = tmp_path / "primary", tmp_path / "secondary"
        make(found, times=True)
        lines = lines_of(found[0])
        log = written(tmp_path / "twice", [*lines, *(later(line, 5000) for line in lines)])
        for shift, begins in ((0, 1), (5000, len(lines) + 1)):
            other = written(tmp_path / "other", [later(line, shift) for line in lines_of(found[1])])
            text = trace(log, other)[1]
            assert f"{log}:{begins} and {other}:1: ok: " in text
            assert "belongs together" not in text

    def test_what_is_no_part_of_the_protocol_is_said_and_not_judged(self, logs: Logs, tmp_path: Path) -> None:
        log = written(tmp_path / "more", [*lines_of(logs[1]), *self.AFTER])
        status, text = trace(logs[0], log)
        assert status == 0
        assert text.splitlines()[-1].startswith("not looked at: 2 lines behind the failover, ")

    def test_without_a_failover_a_new_beginning_is_a_deviation(self, logs: Logs, tmp_path: Path) -> None:
        lines = lines_of(logs[1])
        log = written(tmp_path / "twice", [*(line for line in lines if "failover" not in line), *lines])
        assert checked(logs[0], log).deviation is not None


class TestNoLog:
    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/urandom", "/dev/full"])
    def test_what_never_ends_is_no_log(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(log, "LONGEST_SEARCH", 1 << 20)
        status, text = trace(Path(path))
        assert (status, text.count("\n")) == (1, 1)
        assert text.startswith("Error: /dev/")

    def test_the_longest_line(self, tmp_path: Path) -> None:
        for more, said in ((0, "has no line"), (1, "log:2: more than 65536 characters")):
            path = written(tmp_path / "log", ["\n", "x" * (log.LONGEST_LINE + more - 1) + "\n"])
            with pytest.raises(TraceError, match=said):
                read_log(path)
