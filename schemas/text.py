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
