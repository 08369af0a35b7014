"""What the doctor finds, and how it is told to people and programs."""

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from watchkeep.schemas.text import duration, plain

# Texts from outside may be so long; what we say around them is ours.
TEXT_MAX: Final = 500
_TOLD_MAX: Final = 1_500


class Level(StrEnum):
    """How something is."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


class Finding(NamedTuple):
    """One line.

    Attributes:
        stage: what it is about.
        told: what was found.
        advice: what to do about it; it may have several lines.
        blocks: while it is so, nothing fires, though nothing need be wrong.
    """

    level: Level
    stage: str
    told: str
    advice: str = ""
    blocks: bool = False


def ago(then_ms: int, now_ms: int) -> str:
    """Say how long ago something was."""
    return f"{duration(max(0, now_ms - then_ms) / 1000)} ago"


def first_cause(found: Sequence[Finding]) -> Finding:
    """Say what is first in the way of the data; findings come in the order of that way."""
    cause = next((one for one in found if one.level is Level.BAD or one.blocks), None)
    if cause is None:
        told = "nothing is in the way: what is abnormal fires, and is told"
        advice = "`watchkeep inspect ENTITY` tells why something did or didn't fire"
        return Finding(Level.OK, "verdict", told, advice)
    told = f"first in the way is {cause.stage}: {cause.told}"
    return Finding(cause.level, "verdict", told, cause.advice)


def show(console: Console, found: Sequence[Finding], *, as_json: bool) -> None:
    """Print one line a finding, and what to do."""
    if as_json:
        for finding in found:
            record = finding._asdict()
            del record["blocks"]
            console.out(json.dumps(record), highlight=False)
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    stage = ""
    for finding in found:
        if finding.stage == "verdict":
            continue
        name = finding.stage if finding.stage != stage else ""
        stage = finding.stage
        table.add_row(Text(finding.level, _STYLES[finding.level]), name, _text(finding))
    console.print(table)
    console.print(Text(f"\n{verdict(found)}"))
    for finding in found:
        if finding.stage == "verdict":
            console.print(_text(finding))


_STYLES: Final = {Level.OK: "green", Level.WARN: "yellow", Level.BAD: "bold red"}


def _text(finding: Finding) -> Text:
    told = Text(plain(finding.told, _TOLD_MAX))
    if finding.advice:
        told.append(f"\n-> {finding.advice}", "bold" if finding.level is Level.BAD else "")
    return told


def verdict(found: Sequence[Finding]) -> str:
    """Say in one line how much there is to do."""
    levels = [finding.level for finding in found if finding.stage != "verdict"]
    bad, warn = levels.count(Level.BAD), levels.count(Level.WARN)
    if not bad and not warn:
        return "all is well"
    if not bad:
        return f"it works, and {warn} {'thing wants' if warn == 1 else 'things want'} a look"
    told = f"{bad} {'thing is' if bad == 1 else 'things are'} wrong"
    return f"{told}, {warn} more to look at" if warn else told
