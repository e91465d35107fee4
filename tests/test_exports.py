"""What a package exports is what its `__all__` says, and the core needs transitions and attrs alone."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

PACKAGES = [
    "", ".fsm", ".colo", ".stream", ".arbiter", ".replica", ".services", ".qemu", ".check", ".conform",
    ".draw", ".cli"
]  # fmt: skip
EXTRAS = ("click", "rich", "graphviz", "pygraphviz", "etcd3gw", "requests", "aalpy")


def public_names(module: ModuleType) -> set[str]:
    """What a reader sees in the package's face: no modules, nothing private."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and (name in module.__all__ or not isinstance(value, ModuleType))
    } - {"annotations"}


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_what_a_package_exports(package: str) -> None:
    module = importlib.import_module("colo_fsm" + package)
    assert all(hasattr(module, name) for name in module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    assert public_names(module) == set(module.__all__)


def test_the_top_level_is_small() -> None:
    import colo_fsm

    assert len(colo_fsm.__all__) <= 45
    assert {
        "COLOMessage",
        "Guest",
        "PrimarySession",
        "SecondarySession",
        "primary",
        "secondary",
    } <= set(colo_fsm.__all__)


def without_extras(code: str) -> subprocess.CompletedProcess[str]:
    """Run this where none of the extras can be imported."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS}));"
    return subprocess.run([sys.executable, "-c", hide + code], capture_output=True, text=True, check=False)


def test_the_core_needs_no_extra() -> None:
    result = without_extras(
        "import colo_fsm, colo_fsm.services.sqlite; print(colo_fsm.PrimarySession().state)"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "init\n"


def test_the_command_without_its_extra_says_how_to_get_it() -> None:
    result = without_extras("from colo_fsm.cli import main; main()")
    assert result.returncode == 1
    assert result.stderr == "colo-fsm: the command line is an extra: pip install 'colo-fsm[cli]'\n"


def test_the_command_loads_little_before_it_has_its_say_on_an_interrupt() -> None:
    """Before that ^C is a traceback of Python's."""
    code = "import sys, colo_fsm.cli; print({'attr', 'transitions', 'asyncio', 'click'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_the_top_level_has_the_names_of_colo_where_fsm_has_them_too() -> None:
    import colo_fsm
    from colo_fsm import colo

    for name in set(colo_fsm.__all__) & set(colo.__all__):
        assert getattr(colo_fsm, name) is getattr(colo, name), name
