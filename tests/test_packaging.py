"""What is built: a wheel of the package and nothing else; an editable install that type checkers follow."""

from __future__ import annotations

import email
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import colo_fsm

ROOT = Path(__file__).parent.parent


def build(kind: str, folder: Path) -> zipfile.ZipFile:
    """What the build backend makes of this tree, as pip would have it."""
    code = f"import hatchling.build as b; b.build_{kind}({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def test_the_wheel_is_the_package_and_all_of_it(wheel: zipfile.ZipFile) -> None:
    """No tests; `py.typed` too."""
    files = (p for p in (ROOT / "colo_fsm").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    wanted = {str(p.relative_to(ROOT)) for p in files}
    assert "colo_fsm/py.typed" in wanted
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == wanted


def test_what_the_wheel_says_of_itself(wheel: zipfile.ZipFile) -> None:
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel.read(name))
    assert metadata["Version"] == colo_fsm.__version__
    needed = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert len(needed) == len(declared) == 2
    assert {r.partition("<")[0].partition(">")[0] for r in needed} == {"transitions", "attrs"}


def test_an_editable_install_is_a_path_and_no_hook(tmp_path: Path) -> None:
    """A type checker follows a path; what an import hook finds it does not see."""
    built = build("editable", tmp_path)
    (path,) = (n for n in built.namelist() if ".dist-info/" not in n)
    assert path.endswith(".pth")
    assert built.read(path).decode().strip() == str(ROOT)
