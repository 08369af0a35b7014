"""Why a window opened at some time, or didn't, in words."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from watchkeep.enrichers.template import finding
from watchkeep.schemas.signal import Side
from watchkeep.schemas.text import clock_time, duration, how_often, plain
from watchkeep.schemas.window import Window, WindowState, known_ms
from watchkeep.streams.inspection import Inspection, Look, over_ms
from watchkeep.streams.show_signals import NAME_MAX, title

# What is less rare is nothing unusual, as `how_often` has it.
UNUSUAL: Final = -1.3


class Verdict(StrEnum):
    """What became of a time."""

    FIRED = "fired"  # A window was open.
    CALM = "calm"  # It was less rare than the budget asks for.
    COOLING = "cooling"  # It was rare enough, but a window had closed just before.
    UNTOLD = "untold"  # It was rare enough, and no window is stored.
    WARMING = "warming"  # Too little is known of it.
    NEVER = "never"  # None of its signals may page.
    ASLEEP = "asleep"  # All were constant up to now.
    NOTHING = "nothing"  # No cell is stored of this time.


class Told(NamedTuple):
    """A verdict, and why, in sentences."""

    verdict: Verdict
    why: str


def judge(found: Inspection, cool_down_s: float) -> Told:
    """Tell why the entity's window was open at the time, or wasn't."""
    if found.window is not None:
        return Told(Verdict.FIRED, _fired(found.window, found.at_ms))
    if found.cell_ms is None:
        return _nothing(found)
    if found.rarity is None or found.threshold is None:
        return _unknown(found)
    if found.rarity < found.threshold:
        return Told(Verdict.CALM, _calm(found, found.rarity, found.threshold))
    closed = [w for w in found.windows if over_ms(w) <= found.at_ms]
    if closed and found.at_ms < over_ms(closed[-1]) + cool_down_s * 1000:
        ended = clock(over_ms(closed[-1]), found.at_ms)
        why = (
            f"It didn't: it was {how_often(found.rarity)}, but a window had closed at {ended}, and "
            f"for {duration(cool_down_s)} only what is stronger or new opens another."
        )
        return Told(Verdict.COOLING, why)
    why = (
        f"It was rare enough, {how_often(found.rarity)}, but no window of this time is stored: "
        "incidents may be behind (`watchkeep doctor` tells), or no signal had left its band yet."
    )
    return Told(Verdict.UNTOLD, why)


def _fired(window: Window, at_ms: int) -> str:
    onset, found, closed = (
        clock(ms, at_ms) for ms in (window.onset_ms, window.detected_ms, window.at_ms)
    )
    if window.state is WindowState.OPEN:
        told = [f"It fired: a window is open since {onset}, found at {found}."]
    else:
        told = [f"It fired: a window was open from {onset} to {closed}, found at {found}."]
    if window.detected_ms > at_ms:
        told.append("That was after the time asked about.")
    if window.backlog:
        told.append("It was found in a backlog, so nobody was paged.")
    missing = next((shown for shown in window.evidence if shown.reason), None)
    if missing is not None:  # How often that is, nobody has counted.
        told.append(f"Somebody was missed: {finding(missing)}.")
    else:
        strength = how_often(window.strength, known_ms(window.evidence))
        told.append(f"At its strongest it was {strength}.")
        told += [f"Its strongest evidence: {finding(shown)}." for shown in window.evidence[:1]]
    return " ".join(told)


def _nothing(found: Inspection) -> Told:
    if found.looks and all(look.asleep for look in found.looks):
        why = "It sleeps: all its signals were constant up to now, and are scored once they move."
        return Told(Verdict.ASLEEP, why)
    before_ms, newest_ms = found.nearest_ms
    if newest_ms is None:
        return Told(Verdict.NOTHING, "No cell of it is stored.")
    newest = f"the newest cell is of {clock_time(newest_ms)}"
    if before_ms is None:
        why = f"Nothing is stored of this time, nor of any before; {newest}."
    elif before_ms == newest_ms:
        why = f"Nothing is stored of this time; {newest}."
    else:
        why = f"Nothing is stored of this time; the last before is of {clock_time(before_ms)}, and "
        why += f"{newest}."
    return Told(Verdict.NOTHING, why)


def _unknown(found: Inspection) -> Told:
    paging = [look for look in found.looks if look.pages]
    if not paging:
        return Told(Verdict.NEVER, "It never fires: none of its signals may page.")
    warmup = max((look.cell.warmup for look in paging if look.cell is not None), default=None)
    if warmup is None:
        why = "none of its signals that may page had a cell"
    elif warmup < 1:
        why = (
            f"it was warming up, with {warmup:.0%} of the history that it needs before it may page"
        )
    else:
        why = "its signals were known, but not yet how rare the entity was"
    return Told(Verdict.WARMING, f"It couldn't: {why}.")


def _calm(found: Inspection, rarity: float, threshold: float) -> str:
    parts = [
        f"It didn't: what it showed was {_seen(rarity)}; a window opens at {_opens(threshold)}."
    ]
    rarest = rarest_paging(found.looks)
    if rarest is None or rarest.rarest is None or rarest.rarest[1].rarity < UNUSUAL:
        other = any(look.pages and (look.rarity or UNUSUAL) > UNUSUAL for look in found.looks)
        side = " on the side on which it pages" * other
        return f"{parts[0]} None of its signals that may page was unusual{side}."
    channel, saw = rarest.rarest
    parts.append(
        f"The rarest signal that may page was {title(rarest.signal)}: {_seen(saw.rarity)}, to "
        f"{channel}."
    )
    if saw.rarity >= threshold:
        parts.append(
            "That alone isn't enough: with many signals one or another is often rare, and what "
            "lasts counts only while it grows."
        )
    return " ".join(parts)


def rarest_paging(looks: Sequence[Look]) -> Look | None:
    """Find the rarest of those that may page and are on the side that matters."""
    return next(
        (look for look in looks if look.pages and look.rarest and not look.wrong_side), None
    )


def _seen(rarity: float) -> str:
    return "nothing unusual" if rarity < UNUSUAL else f"{how_often(rarity)} ({rarity:+.1f})"


def _opens(threshold: float) -> str:
    return how_often(threshold).removeprefix("seen about ")


def of_signal(found: Inspection, look: Look) -> str:
    """Tell of one signal whether it pages, and what it showed at the time."""
    told = [_role(look)]
    if look.asleep:
        told.append("It sleeps: it was constant up to now, and is scored once it moves.")
    elif look.cell is None:
        told.append("It has no cell of this time.")
    elif look.rarest is None:
        told.append(
            f"It was warming up: it had {look.cell.warmup:.0%} of the history that it needs."
            if look.cell.warmup < 1
            else "No channel could tell how rare it was."
        )
    else:
        channel, saw = look.rarest
        told.append(f"By itself it was {_seen(saw.rarity)}, to {channel}.")
        if look.pages and look.wrong_side:
            where = "below" if look.side is Side.ABOVE else "above"
            told.append(f"It was {where} what was expected, where it doesn't page.")
    if (window := found.window) is not None:
        name = title(look.signal)
        shown = [each for each in window.evidence if plain(each.signal, NAME_MAX) == name]
        told.append(
            f"In the window it is evidence: {finding(shown[0])}."
            if shown
            else "It is no evidence of the window."
        )
    return " ".join(told)


_SIDES: Final = {
    Side.ABOVE: "It may page when it rises",
    Side.BELOW: "It may page when it falls",
    Side.BOTH: "It may page",
}


def _role(look: Look) -> str:
    why = plain(look.signal.why, NAME_MAX).rstrip(".")
    role = _SIDES[look.side] if look.pages else "It never pages, and only explains"
    return f"{role}: {why}." if why else f"{role}."


def clock(time_ms: int, near_ms: int) -> str:
    """Write a time as short as it is clear beside another: without the day if that is the same."""
    time, near = clock_time(time_ms).removesuffix(" UTC"), clock_time(near_ms)
    return time[11:] if time[:10] == near[:10] else time
