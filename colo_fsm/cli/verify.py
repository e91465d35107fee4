"""`colo-fsm verify`: is it still safe? A proof, or a shortest counterexample."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import attrs
import click

from colo_fsm.check import (
    DOCUMENTED,
    Arbiter,
    Bounds,
    Documented,
    MemberProperty,
    MemberScenario,
    Policy,
    Property,
    Scenario,
    Strike,
    TooLarge,
    Verdict,
    judged,
    report,
)
from colo_fsm.colo import Mode, Profile, ReleaseOn, ResumeOn, Variant
from colo_fsm.draw import DrawError
from colo_fsm.fsm import CompleteTable, Side, TableError, complete

from .load import table_named
from .status import exit_codes

EXIT_CODES = exit_codes(
    "every verdict is the documented one; in a system of your own: everything holds",
    "another verdict, the system is larger than --limit, or standard output could not be written",
)
FORMATS: dict[str, Literal["svg", "png", "mermaid", "text"]] = {
    ".svg": "svg",
    ".png": "png",
    ".mmd": "mermaid",
    ".txt": "text",
}
DEFAULT_FAULTS = frozenset(Strike) - {Strike.LEAVE, Strike.INJECT}


def _choice(kind: Any) -> click.Choice[str]:
    return click.Choice([*map(str, kind)])


@click.command(epilog=EXIT_CODES)
@click.option(
    "--scenario", "name", metavar="NAME", help="A documented system, or `all` of them. --list names them."
)
@click.option("--list", "lists", is_flag=True, help="Name the documented systems, and end.")
@click.option("--profile", type=_choice(Profile), help="Default: qemu.")
@click.option("--mode", type=_choice(Mode), help="Default: periodic.")
@click.option("--release-on", type=_choice(ReleaseOn), help="Default: loaded, as pairs do.")
@click.option("--resume-on", type=_choice(ResumeOn), help="Default: saved, as pairs do; with a gate loaded.")
@click.option("--arbiter", type=_choice(Arbiter), help="Default: claim.")
@click.option(
    "--faults",
    metavar="KIND,...",
    help=f"Any of {', '.join(Strike)}; or none. Default: all but leave and inject.",
)
@click.option(
    "--budget",
    type=click.IntRange(0, 9),
    help="How many disturbances of the wire strike in one run. Default: 1.",
)
@click.option("--policy", type=_choice(Policy), help="A driver with this bug. Default: sound.")
@click.option("--primary", "primary_spec", metavar="MODULE:TABLE", help="A Table of yours for the Primary.")
@click.option(
    "--secondary", "secondary_spec", metavar="MODULE:TABLE", help="A Table of yours for the Secondary."
)
@click.option("--members", is_flag=True, default=None, help="Two members, with restarts and rejoin.")
@click.option(
    "--failures",
    type=click.IntRange(0, 9),
    help="How often a member crashes or its link is lost. Default: 2. With --members.",
)
@click.option(
    "--lost-disks",
    type=click.IntRange(0, 9),
    help="How many of these crashes may take the disk along. Default: 0. With --members.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=5_000_000,
    show_default=True,
    help="How many states at the most.",
)
@click.option(
    "--counterexample",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw the counterexample: .svg, .png, .mmd or .txt.",
)
@click.option(
    "--property",
    "which",
    type=_choice([*Property, *MemberProperty]),
    metavar="PROPERTY",
    help="Which counterexample to show or draw. Default: all; drawn, the first.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def verify(
    name: str | None,
    lists: bool,
    limit: int,
    counterexample: Path | None,
    which: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Explore both machines, the link, faults and arbiter exhaustively, from the tables that run.

    With --members: two members in every order of crash, restart and rejoin, from the rules that run.

    Without --scenario the options describe a system of your own, which has to hold in everything.

    \b
    Examples:
      colo-fsm verify --scenario all
      colo-fsm verify --release-on received
      colo-fsm verify --scenario plain-link --counterexample split.svg
      colo-fsm verify --secondary mymodule:SECONDARY
      colo-fsm verify --members --failures 3
    """
    if lists:
        for each in DOCUMENTED:
            click.echo(f"{each.name:<24} {each.scenario}")
        return
    chosen = _chosen(name, options)
    if len(chosen) > 1 and (counterexample or which):
        raise click.UsageError("--counterexample and --property take one system: name a --scenario")
    if which is not None and which not in _properties(chosen[0]):
        raise click.BadParameter(f"'{which}' is no property of {chosen[0].name}", param_hint="--property")
    format = _format_of(counterexample)
    verdicts = [_explored(each, limit) for each in chosen]
    if as_json:
        click.echo(json.dumps(report.as_json(verdicts), indent=2))
    else:
        _tell(verdicts, which)
    if counterexample is not None and format is not None:
        _draw(verdicts[0], which, counterexample, format)
    sys.exit(1 if any(v.surprises for v in verdicts) else 0)


def _chosen(name: str | None, options: dict[str, Any]) -> list[Documented[Any]]:
    given = [option for option, value in options.items() if value is not None]
    if name is None:
        _of_one_kind(given)
        return [Documented(_members(options) if options["members"] else _described(options))]
    if given:
        raise click.UsageError(
            f"{_flags(given)}: a documented scenario has its own; leave --scenario out to describe yours"
        )
    if name == "all":
        return list(DOCUMENTED)
    known = {each.name: each for each in DOCUMENTED}
    if name not in known:
        names = ", ".join(known)
        raise click.BadParameter(f"'{name}' is none of: all, {names}", param_hint="--scenario")
    return [known[name]]


def _properties(chosen: Documented[Any]) -> tuple[str, ...]:
    return tuple(MemberProperty if isinstance(chosen.scenario, MemberScenario) else Property)


def _flags(options: Iterable[str]) -> str:
    return ", ".join("--" + option.removesuffix("_spec").replace("_", "-") for option in options)


def _of_one_kind(given: list[str]) -> None:
    """Members have options of their own. Raises click.UsageError where those of a pair are among them."""
    own = [option for option in given if option in ("failures", "lost_disks")]
    rest = [option for option in given if option not in (*own, "members")]
    if "members" in given and rest:
        raise click.UsageError(f"{_flags(rest)}: of a pair; --members takes --failures and --lost-disks")
    if own and "members" not in given:
        raise click.UsageError(f"{_flags(own)}: say --members too")


def _members(options: dict[str, Any]) -> MemberScenario:
    failures = Bounds().failures if options["failures"] is None else options["failures"]
    disks = options["lost_disks"] or 0
    if disks > failures:
        raise click.BadParameter(
            f"{disks} disks cannot be lost in {failures} failures", param_hint="--lost-disks"
        )
    return MemberScenario("yours", bounds=Bounds(failures=failures, disks=disks))


def _described(options: dict[str, Any]) -> Scenario:
    release_on = ReleaseOn(options["release_on"] or ReleaseOn.LOADED)
    resume_on = ResumeOn.LOADED if release_on is ReleaseOn.GATE else ResumeOn.SAVED
    try:
        variant = Variant(
            Profile(options["profile"] or Profile.QEMU),
            Mode(options["mode"] or Mode.PERIODIC),
            release_on,
            ResumeOn(options["resume_on"] or resume_on),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    budget = 1 if options["budget"] is None else options["budget"]
    scenario = Scenario(
        "yours", variant, Arbiter(options["arbiter"] or Arbiter.CLAIM), _faults(options["faults"]), budget,
        Policy(options["policy"] or Policy.SOUND),
    )  # fmt: skip
    tables = {
        side: _table(side, options[f"{side}_spec"], variant) for side in Side if options[f"{side}_spec"]
    }
    scenario = attrs.evolve(scenario, tables=tables or None)
    try:
        scenario.law  # noqa: B018 - asks whether the tables are of one protocol
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--primary, --secondary") from None
    return scenario


def _faults(given: str | None) -> frozenset[Strike]:
    if given is None:
        return DEFAULT_FAULTS
    words = [word.strip() for word in given.split(",") if word.strip() not in ("", "none")]
    unknown = [word for word in words if word not in [*map(str, Strike)]]
    if unknown:
        raise click.BadParameter(
            f"'{unknown[0]}' is none of: none, {', '.join(Strike)}", param_hint="--faults"
        )
    return frozenset(map(Strike, words))


def _table(side: Side, spec: str, variant: Variant) -> CompleteTable:
    """The table that `module:name` is, made total. Raises click.BadParameter."""
    hint = f"--{side}"
    try:
        return complete(table_named(spec, hint, side), variant)
    except TableError as error:
        raise click.BadParameter(f"'{spec}': {error}", param_hint=hint) from None


def _explored(chosen: Documented[Any], limit: int) -> Verdict:
    try:
        return judged(chosen, limit)
    except TooLarge as error:
        raise click.ClickException(f"{chosen.name}: {error}") from None


def _tell(verdicts: list[Verdict], which: str | None) -> None:
    if len(verdicts) > 1:
        for line in report.matrix_lines(verdicts):
            click.secho(line, fg="red" if "UNEXPECTED" in line else None)
        seconds = sum(v.result.seconds for v in verdicts)
        wrong = sum(bool(v.surprises) for v in verdicts)
        said = f"{wrong} of them differ" if wrong else "every verdict is the documented one"
        click.secho(
            f"\n{len(verdicts)} systems in {seconds:.1f} s: {said}", bold=True, fg="red" if wrong else "green"
        )
        return
    (verdict,) = verdicts
    result = verdict.result
    click.echo(f"{verdict.documented.name}: {result.scenario}")
    click.echo(f"{result.states:,} states, {result.transitions:,} steps, {result.seconds:.2f} s\n")
    for line in report.property_lines(verdict):
        click.secho(line, fg="red" if "  fails  " in line or "(was" in line else None)
    for broken in (p for p in result.fails if which in (None, p)):
        click.echo("\n" + verdict.exchange(broken).text, nl=False)
        if reason := verdict.documented.fails.get(broken):
            click.echo(f"\nwhy: {reason}")


def _format_of(file: Path | None) -> Literal["svg", "png", "mermaid", "text"] | None:
    if file is not None and file.suffix not in FORMATS:
        raise click.BadParameter(
            f"'{file}': the name must end with one of {', '.join(FORMATS)}", param_hint="--counterexample"
        )
    return None if file is None else FORMATS[file.suffix]


def _draw(
    verdict: Verdict, which: str | None, file: Path, format: Literal["svg", "png", "mermaid", "text"]
) -> None:
    broken = [p for p in verdict.result.fails if which in (None, p)]
    if not broken:
        click.echo(f"nothing to draw: {which or 'everything'} holds; {file} was not written", err=True)
        return
    try:
        file.write_bytes(verdict.exchange(broken[0]).to(format))
    except DrawError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
