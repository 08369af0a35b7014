"""`watchkeep signals list|show`: what is watched of whom, and what isn't and why.

Names come from whoever can create a pod, so each goes through `plain`, and into a `Text`, which
reads no markup.
"""

import difflib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from rich.console import Console, JustifyMethod
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from watchkeep.schemas.entity import Entity
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.signal import Folding, Role, Signal
from watchkeep.schemas.text import clock_time, how_often, plain
from watchkeep.streams.catalogue import DroppedRow, RefusalRow
from watchkeep.streams.lookup import CatalogueStore, Count, Watched
from watchkeep.streams.stores import SignalRow

NAME_MAX: Final = 300
_NEAR: Final = 3


class Shown(NamedTuple):
    """All that is known of one entity."""

    entity: Entity
    watched: Sequence[Watched]
    dropped: Sequence[DroppedRow]
    refusals: Sequence[RefusalRow]


async def list_entities(
    store: CatalogueStore, console: Console, pattern: str, url: str, *, as_json: bool
) -> None:
    """Print one line an entity; `url` is where senders are to write to."""
    counts = await store.counts()
    chosen = [count for count in counts if _fits(count.entity, pattern)]
    if as_json:
        for count in chosen:
            _out(console, _named(count.entity) | count._asdict())
    elif chosen:
        print_entities(console, chosen)
        if not pattern and (unnamed := sum(row.series for row in await store.dropped(""))):
            told = f"{unnamed:,} series more are dropped, too many for detect to tell of whom"
            console.print(f"{told}; `watchkeep doctor` shows the limits")
    else:
        console.print(await _nothing(store, pattern, url))


async def list_signals(
    store: CatalogueStore, console: Console, pattern: str, url: str, *, as_json: bool
) -> None:
    """Print one line a signal."""
    counts = await store.counts()
    chosen = [count.entity for count in counts if _fits(count.entity, pattern)]
    watched = await store.watched(chosen)
    if as_json:
        for one in watched:
            _out(console, _described(one))
    elif watched:
        print_signals(console, watched)
    else:
        console.print(await _nothing(store, pattern, url))


async def show(
    store: CatalogueStore, console: Console, name: str, url: str, *, as_json: bool
) -> None:
    """Print all that is known of an entity.

    Raises:
        ConfigError: nothing has this name, or several have it.
    """
    known = [count.entity for count in await store.counts()]
    if not known:
        raise ConfigError(str(await _nothing(store, "", url)))
    key = find(name, known)
    refusals = [row for row in await store.refusals() if row.entity == key]
    watched, dropped = await store.watched([key]), await store.dropped(key)
    shown = Shown(Entity.from_key(key), watched, dropped, refusals)
    if as_json:
        _out(console, _whole(shown))
    else:
        print_entity(console, shown)


def find(name: str, known: Collection[str]) -> str:
    """Find an entity's key by its key or its title.

    Raises:
        ConfigError: nothing has this name, or several have it.
    """
    found = [key for key in known if name in {key, Entity.from_key(key).title}]
    if len(found) == 1:
        return found[0]
    if found:
        keys = ", ".join(plain(key) for key in found)
        raise ConfigError(f"several clusters have {plain(name)}; name one of {keys}")
    near = _near(name, known)
    advice = f"did you mean {near}?" if near else "`watchkeep signals list` lists all"
    raise ConfigError(f"nothing that is watched is called {plain(name)!r}; {advice}")


def _near(name: str, known: Collection[str]) -> str:
    titles = {Entity.from_key(key).title: key for key in known}
    close = difflib.get_close_matches(name, titles, n=_NEAR)
    close += difflib.get_close_matches(name, known, n=_NEAR) if not close else []
    close += [title for title in titles if name and name in title] if not close else []
    return " or ".join(plain(one) for one in close[:_NEAR])


def _fits(key: str, pattern: str) -> bool:
    return not pattern or any(
        fnmatchcase(name, pattern) for name in (key, Entity.from_key(key).title)
    )


async def _nothing(store: CatalogueStore, pattern: str, url: str) -> Text:
    known = [count.entity for count in await store.counts()]
    if known:
        near = _near(pattern, known)
        advice = f"did you mean {near}?" if near else "`watchkeep signals list` lists all"
        return Text(f"nothing that is watched fits {plain(pattern)!r}; {advice}")
    if await store.newest_cell_ms() is None:
        return Text(
            f"no data has arrived yet: have a Prometheus write to {url}; `watchkeep doctor` tells "
            "what stands in its way"
        )
    return Text(
        "data has arrived, and detect hasn't told yet what it watches; it does so every few minutes"
    )


def print_entities(console: Console, counts: Sequence[Count]) -> None:
    """Print a table of entities, and their sum."""
    entities = [Entity.from_key(count.entity) for count in counts]
    clusters = {entity.cluster for entity in entities}
    table = _table()
    for heading in ("kind", "entity", "cluster")[: 2 + (len(clusters) > 1)]:
        table.add_column(heading, overflow="fold")
    for heading in ("signals", "may page", "series", "members", "dropped"):
        table.add_column(heading, justify="right", no_wrap=True)
    for entity, count in zip(entities, counts, strict=True):
        names = [entity.kind.value, _where(entity), entity.cluster][: 2 + (len(clusters) > 1)]
        numbers = [f"{number:,}" if number else "-" for number in count[1:]]
        table.add_row(*[Text(plain(text)) for text in [*names, *numbers]])
    console.print(table)
    _, signals, page, series, _, dropped = zip(*counts, strict=True)
    console.print(
        f"\n{_many(len(counts), 'entity', 'entities')}, {_many(sum(signals), 'signal')} of which "
        f"{sum(page):,} may page, from {sum(series):,} series; {sum(dropped):,} series are dropped"
    )


def print_signals(console: Console, watched: Sequence[Watched]) -> None:
    """Print a table of signals."""
    table = _table()
    for heading in ("entity", "signal", "value", "folding", "series", "role"):
        justify: JustifyMethod = "right" if heading in {"value", "series"} else "left"
        table.add_column(heading, justify=justify, overflow="fold")
    for one in watched:
        where = plain(Entity.from_key(one.signal.entity).title)
        role = Text("page", "bold") if one.signal.role == Role.PAGE else Text(one.signal.role)
        name, value, folding, _, series, _ = _row(one)
        table.add_row(Text(where), name, value, folding, series, role)
    console.print(table)


def print_entity(console: Console, shown: Shown) -> None:
    """Print all that is known of an entity: what may page, what explains, what is dropped."""
    entity, watched = shown.entity, shown.watched
    page = [one for one in watched if one.signal.role == Role.PAGE]
    evidence = [one for one in watched if one.signal.role != Role.PAGE]
    members = max((one.feed.members for one in watched), default=0)
    name = Text(plain(entity.title), "bold")
    console.print(name.append(f", a {entity.kind} in cluster {plain(entity.cluster)}", "not bold"))
    told = _many(len(watched), "signal") + (f" of {_many(members, 'member')}" if members else "")
    if page:
        console.print(f"{told}, {len(page):,} may page\n\n[bold]May page[/]\n")
    else:
        console.print(f"{told}: it is never paged for")
    for one in page:
        _print_page(console, one)
    if evidence:
        _print_evidence(console, evidence)
    _print_dropped(console, shown.dropped)
    if shown.refusals:
        console.print("\n[bold]Refused[/], as a limit was reached\n")
    for row in shown.refusals:
        head = Text(f"{plain(row.limit)}: {row.count:,} times, last {clock_time(row.at_ms)}")
        _stack(console, head, f"for example {plain(row.what, NAME_MAX)}")


def _print_page(console: Console, one: Watched) -> None:
    signal, feed = one.signal, one.feed
    head = Text.assemble((title(signal), "bold"), "  ", _value(one))
    how = (
        f"{signal.folding} of {feed.series:,} series over {_many(feed.members, 'member')}, every "
        f"{signal.step_s} s"
    )
    folded = ", ".join(map(plain, feed.folded))
    lines = [f"{how}; folded away: {folded}" if folded else how]
    _stack(console, head, *lines, plain(signal.why, NAME_MAX), readiness(one))


def _print_evidence(console: Console, evidence: Sequence[Watched]) -> None:
    usual, _ = Counter(one.feed.folded for one in evidence).most_common(1)[0]
    folded = ", ".join(map(plain, usual))
    heading = "\n[bold]Evidence[/], which only explains"
    console.print(Text.from_markup(heading).append(f"; folded away: {folded}" * bool(folded)))
    console.print()
    table = _table()
    _add_columns(table)
    for one in evidence:
        row = _row(one)
        if one.feed.folded != usual:
            other = ", ".join(map(plain, one.feed.folded)) or "nothing"
            row[0].append(f"\n  folded away: {other}", "dim")
        table.add_row(*row)
    console.print(Padding(table, (0, 0, 0, 2)))


def _print_dropped(console: Console, dropped: Sequence[DroppedRow]) -> None:
    reasons: defaultdict[str, list[DroppedRow]] = defaultdict(list)
    for row in dropped:
        reasons[row.reason].append(row)
    if reasons:
        console.print("\n[bold]Dropped[/], so not watched\n")
    for reason, rows in reasons.items():
        series, metrics = sum(row.series for row in rows), len({row.metric for row in rows})
        head = Text.assemble(
            (plain(reason), "bold"), f"  {series:,} series of {_many(metrics, 'metric')}"
        )
        example = f"for example {plain(rows[0].example, NAME_MAX)}"
        _stack(console, head, plain(rows[0].why, NAME_MAX), example)


def title(row: SignalRow) -> str:
    """Give a signal's name as people write it."""
    labels = tuple(sorted(row.labels.items()))
    return plain(Signal(row.entity, row.metric, labels, Folding(row.folding)).title, NAME_MAX)


def readiness(one: Watched) -> str:
    """Say whether a signal is ready to page, and if not, what it waits for."""
    last = one.last
    if one.feed.asleep:
        return "Asleep: it was constant up to now, and is scored once it moves."
    if last is None:
        return "No cell of it is stored yet."
    if last.warmup < 1:
        return (
            f"Warms up: it has {last.warmup:.0%} of the history that it needs before it may page."
        )
    if last.alone is None:
        return "Its last cell could not be scored."
    return f"Ready: what its last cell showed is {how_often(last.alone)}."


def _row(one: Watched) -> tuple[Text, Text, str, str, str, str]:
    signal, feed = one.signal, one.feed
    step = f"{signal.step_s} s"
    name, value = Text(title(signal)), _value(one)
    return name, value, signal.folding, step, f"{feed.series:,}", f"{feed.members:,}"


def _value(one: Watched) -> Text:
    value = one.feed.value
    if value is None:
        return Text("no value yet", "dim")
    text = f"{value:.4g} {plain(one.signal.unit)}".rstrip()
    return Text(f"{text}, asleep", "dim") if one.feed.asleep else Text(text)


def _add_columns(table: Table) -> None:
    table.add_column("signal", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("folding", no_wrap=True)
    for heading in ("step", "series", "members"):
        table.add_column(heading, justify="right", no_wrap=True)


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)


def _stack(console: Console, head: Text, *lines: str) -> None:
    console.print(Padding(head, (0, 0, 0, 2), expand=False))
    for line in filter(None, lines):
        console.print(Padding(Text(line, "dim"), (0, 0, 0, 4), expand=False))


def _many(number: int, one: str, more: str = "") -> str:
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def _where(entity: Entity) -> str:
    return f"{entity.namespace}/{entity.name}" if entity.namespace else entity.name


def _out(console: Console, record: dict[str, object]) -> None:
    console.out(json.dumps(record), highlight=False)


def _named(key: str) -> dict[str, object]:
    entity = Entity.from_key(key)
    return {"entity": key, "title": entity.title, **entity._asdict()}


def _numbers(record: dict[str, object]) -> dict[str, object]:
    """Leave out what JSON has no numbers for: gauges may be infinite."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }


def _described(one: Watched) -> dict[str, object]:
    signal, feed, last = one
    return {
        **signal._asdict(),
        "signal_id": f"{signal.signal_id:016x}",
        "title": title(signal),
        "labels": dict(signal.labels),
        **_numbers({name: value for name, value in feed._asdict().items() if name != "signal_id"}),
        "ready": readiness(one),
        "last": None if last is None else _numbers(last._asdict()),
    }


def _whole(shown: Shown) -> dict[str, object]:
    def signals(role: Role) -> Iterator[dict[str, object]]:
        return (_described(one) for one in shown.watched if one.signal.role == role)

    return {
        **_named(shown.entity.key),
        "page": list(signals(Role.PAGE)),
        "evidence": list(signals(Role.EVIDENCE)),
        "dropped": [row._asdict() for row in shown.dropped],
        "refusals": [row._asdict() for row in shown.refusals],
    }
