"""What `watchkeep inspect` is asked about: an entity, maybe one of its signals, and a time."""

import difflib
import re
import shlex
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from watchkeep.schemas.entity import Entity
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.exposition import parse_series
from watchkeep.schemas.labels import METRIC_NAME
from watchkeep.schemas.signal import Folding
from watchkeep.schemas.text import plain
from watchkeep.streams.inspect_lookup import InspectStore
from watchkeep.streams.show_signals import NAME_MAX, find, title
from watchkeep.streams.stores import SignalRow

_LISTED: Final = 12
_NEAR: Final = 3
_FOLDED: Final = re.compile(r"\s*(?:(p50|p99|average)\((.*)\)|(.*))\s*", re.DOTALL)
# The foldings that a signal's name doesn't tell.
_UNSAID: Final = {Folding.RATE, Folding.MEAN}

_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_LENGTHS: Final = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_CLOCK: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
_DAY_MS: Final = 86_400_000


class Target(NamedTuple):
    """What is asked about.

    Attributes:
        entity: its key.
        signals: all that it has ever had.
        signal: the one of them that is asked about; None for the entity as a whole.
    """

    entity: str
    signals: Sequence[SignalRow]
    signal: SignalRow | None


class Written(NamedTuple):
    """A signal as somebody wrote it; without a folding any is meant."""

    metric: str
    labels: dict[str, str]
    folding: str | None

    def fits(self, row: SignalRow) -> bool:
        """Tell whether a signal has all that was written."""
        return (
            row.metric == self.metric
            and self.labels.items() <= row.labels.items()
            and self.folding in {None, row.folding}
        )

    def names(self, row: SignalRow) -> bool:
        """Tell whether it is a signal's whole name."""
        foldings = _UNSAID if self.folding is None else {self.folding}
        return row.metric == self.metric and row.labels == self.labels and row.folding in foldings


async def target(store: InspectStore, name: str, signal: str = "") -> Target:
    """Find what is asked about.

    Args:
        store: where to look.
        name: an entity's key or title; or, where `signal` is empty, a signal that only one has.
        signal: one of the entity's signals.

    Raises:
        ConfigError: nothing has this name, or several have it.
    """
    known = await store.entities()
    if not known:
        raise ConfigError("nothing is stored yet; `watchkeep doctor` tells what stands in its way")
    if signal or any(name in {key, Entity.from_key(key).title} for key in known):
        key = find(name, known)
        signals = await store.named(entity=key)
        return Target(key, signals, _one(signal, signals) if signal else None)
    try:
        written = read(name)
    except ConfigError:
        if "{" in name:
            raise
        written = Written(name, {}, None)
    found = await store.named(metric=written.metric)
    if not found:
        raise ConfigError(await _unknown(store, name, written, known))
    row = _one(name, found)
    return Target(row.entity, await store.named(entity=row.entity), row)


def read(text: str) -> Written:
    """Read a signal's name as people write it: ``p99(request_seconds{job="a"})``.

    Raises:
        ConfigError: this is no series; it says where and why.
    """
    found = _FOLDED.fullmatch(text)
    assert found is not None, "the last of its parts fits anything"
    folding, inner, bare = found.groups()
    labels = parse_series(inner if folding else bare)
    metric = labels.pop(METRIC_NAME)
    return Written(metric, labels, folding)


def _one(text: str, rows: Sequence[SignalRow]) -> SignalRow:
    """Find the signal that is meant: the one of this name, or else the only one that fits."""
    written = read(text)
    named = [row for row in rows if written.names(row)]
    found = named or [row for row in rows if written.fits(row)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(_several(text, found))
    titles = [title(row) for row in rows]
    near = _near(text, titles) or _within(written.metric, titles)
    whose = plain(Entity.from_key(rows[0].entity).title)
    show = f"`watchkeep signals show {shlex.quote(whose)}` lists all"
    advice = f"did you mean {near}?" if near else show
    raise ConfigError(f"{whose} has no signal {plain(text, NAME_MAX)}; {advice}")


def _several(text: str, found: Sequence[SignalRow]) -> str:
    """List what to write instead."""
    titles = [Entity.from_key(row.entity).title for row in found]
    keys = {row.entity for row in found}
    names = titles if len(keys) == len(set(titles)) else [row.entity for row in found]
    lines = [
        f"  watchkeep inspect {shlex.quote(plain(name))} {shlex.quote(title(row))}"
        for name, row in zip(names, found, strict=True)
    ]
    more = [f"  and {len(lines) - _LISTED} more"] * (len(lines) > _LISTED)
    head = f"{len(found)} signals fit {plain(text, NAME_MAX)}; ask for one of them:"
    return "\n".join([head, *lines[:_LISTED], *more])


async def _unknown(store: InspectStore, name: str, written: Written, known: Collection[str]) -> str:
    counts = {count.entity: count for count in await store.counts()}
    for key, count in counts.items():
        if name in {key, Entity.from_key(key).title} and not count.signals:
            shown = shlex.quote(plain(name))
            return (
                f"nothing of {plain(name)} is watched; `watchkeep signals show {shown}` tells why"
            )
    titles = [Entity.from_key(key).title for key in known]
    near = _near(name, titles) or _near(name, known) or _within(name, titles)
    near = near or _near(written.metric, await store.metrics())
    advice = f"did you mean {near}?" if near else "`watchkeep signals list` lists what is watched"
    return f"no entity and no signal is called {plain(name, NAME_MAX)!r}; {advice}"


def _near(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=_NEAR)
    return " or ".join(plain(one, NAME_MAX) for one in close)


def _within(name: str, known: Collection[str]) -> str:
    return " or ".join([plain(one, NAME_MAX) for one in known if name in one][:_NEAR])


def seconds(text: str, option: str) -> float:
    """Read a length of time: ``90s``, ``2h``, ``1d12h``.

    Raises:
        ConfigError: it is none, or not more than nothing.
    """
    length = sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text))
    if not _LENGTHS.fullmatch(text) or not length:
        raise ConfigError(f"{option}: {plain(text)!r} is no length of time; 90m, 6h and 1d12h are")
    return length


def moment(text: str, newest_ms: int) -> int:
    """Read a time, in ms since 1970; without a zone it is UTC.

    Args:
        text: ``2026-03-02T14:05``, ``14:05`` for the last time that it was this time of day, or
            ``-2h``; both are reckoned from the newest cell.
        newest_ms: the begin of the newest cell.

    Raises:
        ConfigError: it is no time.
    """
    if text.startswith("-"):
        return newest_ms - round(seconds(text[1:], "--at") * 1000)
    if clock := _CLOCK.fullmatch(text):
        hour, minute, second = (int(part or 0) for part in clock.groups())
        time_ms = newest_ms // _DAY_MS * _DAY_MS + (hour * 3600 + minute * 60 + second) * 1000
        return time_ms if time_ms <= newest_ms else time_ms - _DAY_MS
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"--at: {plain(text)!r} is no time; 2026-03-02T14:05, 14:05 and -2h are"
        ) from error
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
