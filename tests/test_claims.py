"""What keeps a survivor from running, and what heals it: real processes, and claims that go wrong."""

from __future__ import annotations

from pathlib import Path

from standby_process import StandbyProcess, StreamPrimary

from colo_fsm.arbiter import SqliteArbiter


def test_a_claim_file_made_anew_is_no_answer_until_the_right_one_is_back(tmp_path: Path) -> None:
    claims, kept = tmp_path / "claim.db", tmp_path / "kept.db"
    with StandbyProcess(tmp_path, "--arbiter", f"sqlite:{claims}") as standby:
        with StreamPrimary(standby.connect()) as primary:
            primary.begin().round(1)
            claims.rename(kept)
            SqliteArbiter(claims).open()
        said = standby.says(
            r"does not answer: generation (\d+) is unknown at \S+: put its record back.*asking again"
        )
        assert int(said[1]) == standby.generation
        kept.replace(claims)
        assert standby.wait() == 0
    assert standby.objects[-1]["won"] is True
