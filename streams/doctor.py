"""`watchkeep doctor`: stage by stage, is all well, and if not, what to do."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from watchkeep.schemas.entity import Entity
from watchkeep.schemas.errors import ConfigError, WatchkeepError
from watchkeep.schemas.settings import Settings
from watchkeep.schemas.text import clock_time, duration, plain
from watchkeep.streams import config, kafka, running, store
from watchkeep.streams.catalogue import RefusalRow
from watchkeep.streams.lookup import CatalogueStore, Heard
from watchkeep.streams.ports import Clock
from watchkeep.streams.topics import specs

_ANSWER_S: Final = 15.0
# detect counts a sender that is silent for so long as gone, and one so far behind as backlog.
_SILENT_S: Final = 60.0
_BEHIND_S: Final = 600.0
# Cells close a little after their end, and are written in the next moments.
_CELLS_LATE_S: Final = 300.0
# detect tells what it watches every few minutes.
_REPORT_LATE_S: Final = 900.0
_TEXT_MAX: Final = 500

_RULE: Final = "keep fewer labels with a rule, drop what nobody needs, or raise the limit"
# By the setting of each limit, what to do when it refuses.
LIMITS: Final[Mapping[str, str]] = {
    "signals_per_entity": _RULE,
    "entities": "see with `watchkeep signals list` whether an entity rule makes too many of one "
    "thing, or raise the limit",
    "members_per_entity": "further ones are folded as one: see whether an entity rule puts "
    "strangers together, or raise the limit",
    "new_series_per_minute": "find the label that changes all the time, and drop it at the sender "
    "or its metric with a rule",
}
_REASONS: Final[Mapping[str, str]] = {
    "clock_ahead": "set the sender's clock; it is ahead of the gateway's",
    "late": "see why they come after their cell has closed, or raise detect.grace_s",
    "not_newer": "see whether two senders send the same series: each of a pair needs a replica "
    "label that gateway.replica_labels names",
    "before_1970": "see which exporter sets such times",
    "negative_counter": "tell its kind with a rule: what goes below zero is no counter",
    "buckets_per_histogram": "see which exporter changes the bounds of its native histograms: of "
    "each, 400 buckets are folded",
    "no_histogram": "see which exporter sends native histograms of what it calls something else",
    "too_large": "see which exporter sends such values; none is real",
    "unknown_series": "wait ten minutes after a start in the middle of the log; labels are sent "
    "again by then",
}
_HARMLESS: Final[Mapping[str, str]] = {
    "standby_replica": "the other one of a pair is folded, as it should be",
}


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
        advice: what to do about it.
    """

    level: Level
    stage: str
    told: str
    advice: str = ""


async def examine(file: Path | None, clock: Clock) -> list[Finding]:
    """Look at everything that can be looked at."""
    try:
        settings = config.load(file)
    except ConfigError as error:
        return [Finding(Level.BAD, "settings", str(error), "mend that first")]
    found = [Finding(Level.OK, "settings", "they are fine")]
    try:
        settings = running.resolved(settings)
    except ConfigError as error:
        return [*found, Finding(Level.BAD, "servers", str(error))]
    found.append(await _within("broker", _broker(settings)))
    database = await _within("database", _database(settings))
    found.append(database)
    if database.level is Level.OK:
        try:
            url = settings.database.url.get_secret_value()
            async with asyncio.timeout(_ANSWER_S), store.open_store(url) as opened:
                found += await of_store(opened, settings, clock)
        except (WatchkeepError, TimeoutError) as error:
            found.append(Finding(Level.BAD, "database", f"it can't be read: {error}"))
    return found


async def _within(stage: str, looking: Awaitable[Finding]) -> Finding:
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await looking
    except WatchkeepError as error:
        return Finding(Level.BAD, stage, str(error))
    except TimeoutError:
        return Finding(
            Level.BAD, stage, f"no answer within {_ANSWER_S:.0f} s", "is a firewall in between?"
        )


async def _broker(settings: Settings) -> Finding:
    where, wanted = settings.broker.bootstrap, specs()
    if missing := await kafka.missing_topics(where, wanted):
        told = f"{where} answers, and has no topic {', '.join(missing)}"
        return Finding(Level.BAD, "broker", told, "`watchkeep topics apply` creates them")
    return Finding(Level.OK, "broker", f"{where} answers, all {len(wanted)} topics are there")


async def _database(settings: Settings) -> Finding:
    url = settings.database.url.get_secret_value()
    where = store.place(url)
    if missing := await store.pending(url):
        told = f"{where} answers, and its tables lack {', '.join(missing)}"
        return Finding(Level.BAD, "database", told, "`watchkeep migrate` brings them up to date")
    return Finding(Level.OK, "database", f"{where} answers, its tables are up to date")


async def of_store(opened: CatalogueStore, settings: Settings, clock: Clock) -> list[Finding]:
    """Judge what detect has written."""
    cells, senders = await opened.newest_cell_ms(), await opened.senders()
    # Event time says nothing about today.
    now_ms = clock.now_ms() if settings.clock == "wall" else None
    refusals = await opened.refusals()
    return [
        *of_senders(senders, now_ms, _address(settings), folded=cells is not None),
        of_cells(cells, now_ms, settings.detect.step_s),
        *of_limits(refusals, settings.detect.model_dump()),
        *of_reasons(refusals),
    ]


def _address(settings: Settings) -> str:
    return f"{settings.gateway.url}/api/v1/write"


def of_senders(
    senders: Sequence[Heard], now_ms: int | None, address: str, *, folded: bool
) -> list[Finding]:
    """Judge who sends, how far behind each is, and which one of a pair is folded.

    Args:
        senders: as the store tells of them.
        now_ms: the time; None when event time is what counts.
        address: where senders are to write to.
        folded: there are cells, so that somebody has sent.
    """
    if not senders and folded:
        told = "detect hasn't told yet whom it hears; it does so every few minutes"
        return [Finding(Level.WARN, "senders", told, "ask again in a few minutes")]
    if not senders:
        advice = f"have a Prometheus write to {address}; its own log tells if that fails"
        return [Finding(Level.BAD, "senders", "nobody has been heard yet", advice)]
    told_ms = max(sender.told_ms for sender in senders)
    found = [] if now_ms is None else [_report(told_ms, now_ms)]
    # What is known is as old as the report: who is silent was silent then.
    then_ms = told_ms if now_ms is not None else max(sender.heard_ms for sender in senders)
    return found + [_sender(sender, then_ms) for sender in senders]


def _report(told_ms: int, now_ms: int) -> Finding:
    told = f"detect reported {_ago(told_ms, now_ms)}; as of then:"
    if now_ms - told_ms <= _REPORT_LATE_S * 1000:
        return Finding(Level.OK, "senders", told)
    return Finding(Level.BAD, "senders", told, "see whether `watchkeep detect` runs, and its log")


def _sender(sender: Heard, then_ms: int) -> Finding:
    silent_s = max(0, then_ms - sender.heard_ms) / 1000
    behind_s = max(0, sender.heard_ms - sender.newest_ms) / 1000
    told = f"cluster {plain(sender.cluster)}"
    if sender.replica:
        told += f", replica {plain(sender.replica)}, {_elected(sender)}"
    told += f": heard {duration(silent_s)} ago, its samples {duration(behind_s)} behind"
    if silent_s > _SILENT_S:
        # Another one of its group would have been elected by now, if there were one.
        level = Level.BAD if 2 * sender.elected > sender.shards else Level.WARN
        return Finding(level, "senders", told, "see whether that Prometheus runs and can write")
    if behind_s > _BEHIND_S:
        advice = "it works off a backlog, and nothing pages until it is done"
        return Finding(Level.WARN, "senders", told, advice)
    return Finding(Level.OK, "senders", told)


def _elected(sender: Heard) -> str:
    if sender.elected == sender.shards:
        return "elected"
    return f"elected in {sender.elected} of {sender.shards} shards" if sender.elected else "standby"


def of_cells(newest_ms: int | None, now_ms: int | None, step_s: int) -> Finding:
    """Judge whether samples are folded."""
    if newest_ms is None:
        advice = "a first cell closes a minute or two after the first samples"
        return Finding(Level.WARN, "folding", "nothing has been folded yet", advice)
    end_ms = newest_ms + step_s * 1000
    told = f"the newest cell is of {clock_time(newest_ms)}"
    if now_ms is None or now_ms - end_ms <= _CELLS_LATE_S * 1000:
        return Finding(Level.OK, "folding", told)
    told += f" and ended {_ago(end_ms, now_ms)}"
    advice = "see whether the senders above are heard, and whether `watchkeep detect` runs"
    return Finding(Level.BAD, "folding", told, advice)


def of_limits(refusals: Sequence[RefusalRow], settings: Mapping[str, object]) -> list[Finding]:
    """Judge each limit: has it refused anything."""
    found = []
    for limit, advice in LIMITS.items():
        name = f"detect.{limit}"
        told = f"{name} = {settings[limit]}" if limit in settings else name
        rows = [row for row in refusals if row.limit == limit]
        if rows:
            found.append(Finding(Level.WARN, "limit", f"{told}: {_refused(rows)}", advice))
        else:
            found.append(Finding(Level.OK, "limit", f"{told}: has refused nothing"))
    return found


def _refused(rows: Sequence[RefusalRow]) -> str:
    """Say how often a limit refused; the rows come most first."""
    first, entities = rows[0], {row.entity for row in rows if row.entity}
    told = f"refused {sum(row.count for row in rows):,}"
    if entities:
        most = next(row.entity for row in rows if row.entity)
        title = plain(Entity.from_key(most).title)
        told += f" for {title}" if len(entities) == 1 else ""
        told += f" for {len(entities):,} entities, most for {title}" if len(entities) > 1 else ""
    return f"{told}, e.g. {plain(first.what, _TEXT_MAX)}" if first.what else told


def of_reasons(refusals: Sequence[RefusalRow]) -> list[Finding]:
    """Tell for which reasons samples are dropped."""
    reasons: defaultdict[str, list[RefusalRow]] = defaultdict(list)
    for row in refusals:
        if row.limit not in LIMITS:
            reasons[row.limit].append(row)
    found = []
    for reason, rows in reasons.items():
        what = next((row.what for row in rows if row.what), "")
        count = sum(row.count for row in rows)
        last = clock_time(max(row.at_ms for row in rows))
        told = f"{plain(reason)}: {count:,}, last {last}"
        told += f", e.g. {plain(what, _TEXT_MAX)}" if what else ""
        if reason in _HARMLESS:
            found.append(Finding(Level.OK, "dropped", f"{told}; {_HARMLESS[reason]}"))
        else:
            found.append(Finding(Level.WARN, "dropped", told, _REASONS.get(reason, "")))
    return found or [Finding(Level.OK, "dropped", "no sample was dropped")]


def _ago(then_ms: int, now_ms: int) -> str:
    return f"{duration(max(0, now_ms - then_ms) / 1000)} ago"


def show(console: Console, found: Sequence[Finding], *, as_json: bool) -> None:
    """Print one line a finding, and what to do."""
    if as_json:
        for finding in found:
            console.out(json.dumps(finding._asdict()), highlight=False)
        return
    styles = {Level.OK: "green", Level.WARN: "yellow", Level.BAD: "bold red"}
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    stage = ""
    for finding in found:
        told = Text(plain(finding.told, 2 * _TEXT_MAX))
        if finding.advice:
            told.append(f"\n-> {finding.advice}", "bold" if finding.level is Level.BAD else "")
        name = finding.stage if finding.stage != stage else ""
        stage = finding.stage
        table.add_row(Text(finding.level, styles[finding.level]), name, told)
    console.print(table)
    console.print(Text(f"\n{verdict(found)}"))


def verdict(found: Sequence[Finding]) -> str:
    """Say it in one line."""
    levels = [finding.level for finding in found]
    bad, warn = levels.count(Level.BAD), levels.count(Level.WARN)
    if not bad and not warn:
        return "all is well"
    if not bad:
        return f"it works, and {warn} {'thing wants' if warn == 1 else 'things want'} a look"
    told = f"{bad} {'thing is' if bad == 1 else 'things are'} wrong"
    return f"{told}, {warn} more to look at" if warn else told
