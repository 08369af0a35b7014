"""Label sets: one canonical form in bytes, and the id of a series.

The canonical form is ``name FF value FF`` for each label in the order of the names. The byte FF
occurs in no UTF-8 text, so two label sets never share a form.
"""

from collections.abc import Iterable, Mapping

import xxhash

from watchkeep.schemas.errors import FrameError

SEPARATOR = b"\xff"
METRIC_NAME = "__name__"


def canonical(labels: Iterable[tuple[str, str]]) -> bytes:
    """Put labels into canonical form; a label with an empty value is the same as none."""
    parts = [part for name, value in sorted(labels) if value for part in (name, value)]
    if not parts:
        return b""
    return SEPARATOR.join(part.encode() for part in parts) + SEPARATOR


def parse(form: bytes) -> dict[str, str]:
    """Read a canonical form back.

    Raises:
        FrameError: the bytes are no canonical form.
    """
    parts = form.split(SEPARATOR)
    if parts.pop() or len(parts) % 2:
        raise FrameError("a label set ends in the middle of a label")
    try:
        return {
            name.decode(): value.decode()
            for name, value in zip(parts[::2], parts[1::2], strict=True)
        }
    except UnicodeDecodeError as error:
        raise FrameError(f"a label set is not UTF-8: {error}") from error


def series_id(form: bytes) -> int:
    """Identify a series: xxh3-64 of its canonical label set, as an unsigned integer."""
    return xxhash.xxh3_64_intdigest(form)


def text(labels: Mapping[str, str]) -> str:
    """Write labels as people know them: ``{code="500",method="GET"}``."""
    if not labels:
        return ""
    inner = ",".join(f'{name}="{_escape(value)}"' for name, value in sorted(labels.items()))
    return "{" + inner + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
