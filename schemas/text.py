"""Untrusted text: names and labels are written by whoever can create a pod."""

import unicodedata
from datetime import UTC, datetime
from typing import Final

LENGTH_MAX: Final = 120

# Control, format (bidi, zero-width), surrogate, private use, line and paragraph separators.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def plain(text: str, length_max: int = LENGTH_MAX) -> str:
    """Make text safe to show: one line, nothing invisible, not too long."""
    seen = "".join(c if unicodedata.category(c) not in _UNSEEN else " " for c in text)
    one_line = " ".join(seen.split())
    return one_line if len(one_line) <= length_max else one_line[: length_max - 1] + "…"


def clock_time(time_ms: int) -> str:
    """Write a time as people read it: ``2026-03-02 14:05 UTC``."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def duration(seconds: float) -> str:
    """Write a duration as people say it: ``45 s``, ``12 min``, ``1 h 30 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def iso_time(time_ms: int) -> str:
    """Write a time for machines: RFC 3339 in UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def how_often(rarity: float, known_ms: int = 0) -> str:
    """Say how rare something is: ``about once in 3 months``.

    Args:
        rarity: minus log10 of how often a week it is expected.
        known_ms: how long the past is that says so; a short one doesn't tell of years. 0 if that
            isn't known.
    """
    weeks = 10.0**rarity
    if weeks < 1 / 20:
        return "nothing unusual"
    if 0 < _PASTS_TOLD * known_ms < weeks * _WEEK_MS:
        return f"not seen in the {_past(known_ms)} known"
    for unit, unit_weeks, most in _SPANS:
        count = weeks / unit_weeks
        if count < 1 / 1.5:
            return f"seen about {1 / count:.0f} times a {unit}"
        if count < 1.5:
            return f"seen about once a {unit}"
        if count < most:
            return f"seen about once in {count:.0f} {unit}s"
    return "seen less than once in 10 years"


def _past(known_ms: int) -> str:
    days = round(known_ms / _DAY_MS)
    return f"{days} days" if days > 1 else duration(known_ms / 1000)


_DAY_MS: Final = 86_400_000
_WEEK_MS: Final = 604_800_000
# How many times as long as the past what is told may be.
_PASTS_TOLD: Final = 10
# A unit, its length in weeks, and up to how many of them are told.
_SPANS: Final = (("week", 1.0, 6.0), ("month", 4.35, 18.0), ("year", 52.2, 10.0))
