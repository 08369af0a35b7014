"""Series as people write them: ``up{job="node",instance="n1:9100"}``, the exposition's syntax."""

import re
from typing import Final

from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.labels import METRIC_NAME

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_QUOTED: Final = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_ESCAPE: Final = re.compile(r"\\(.)")
_MEANT: Final = {"\\": "\\", '"': '"', "n": "\n"}
_SHELL: Final = "; put the whole series in single quotes, so that the shell leaves its own alone"


def parse_series(text: str) -> dict[str, str]:
    r"""Read a series' labels, its name among them as `__name__`.

    >>> parse_series(r'up{job="a\"b",}')
    {'__name__': 'up', 'job': 'a"b'}
    >>> parse_series('{"http.requests", "k8s.pod"="cart-1"}')
    {'__name__': 'http.requests', 'k8s.pod': 'cart-1'}

    Raises:
        ConfigError: this is no series; it says where and why.
    """
    reader = _Reader(text.strip())
    labels: dict[str, str] = {}
    if name := reader.take(_NAME):
        labels[METRIC_NAME] = name
    if reader.skip("{"):
        while not reader.skip("}"):
            name, value = reader.pair()
            if name in labels:
                what = f"the label {name}" if name != METRIC_NAME else "the metric's name"
                raise reader.wrong(f"{what} is there twice")
            labels[name] = value
            if not reader.skip(",") and not reader.sees("}"):
                raise reader.wrong("a comma or } is expected")
    if not reader.at_end():
        raise reader.wrong("nothing more is expected")
    if not labels.get(METRIC_NAME):
        raise reader.wrong("it has no metric name")
    return labels


class _Reader:
    """A place in a text, and what stands there."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def wrong(self, what: str, advice: str = "") -> ConfigError:
        """Make the error for this place."""
        before = self._text[max(0, self._at - 20) : self._at]
        where = f"after {before!r}" if before else "at its begin"
        return ConfigError(f"this is no series: {where}, {what}{advice}")

    def at_end(self) -> bool:
        """Tell whether nothing is left."""
        return self._at == len(self._text)

    def sees(self, mark: str) -> bool:
        """Tell whether a mark comes next, after blanks."""
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        return self._text.startswith(mark, self._at)

    def skip(self, mark: str) -> bool:
        """Step over a mark, and blanks before it, if it is there."""
        if not self.sees(mark):
            return False
        self._at += len(mark)
        return True

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """Step over what fits."""
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found.group(pattern.groups)

    def pair(self) -> tuple[str, str]:
        """Read ``name="value"``; a quoted name alone is the metric's."""
        if self.sees('"'):
            name = self.quoted()
            if not self.sees("="):
                return METRIC_NAME, name
        else:
            name = self.take(_NAME) or ""
        if not name:
            raise self.wrong("a label's name is expected")
        if not self.skip("="):
            raise self.wrong('="value" is expected')
        return name, self.quoted()

    def quoted(self) -> str:
        """Read what stands in double quotes."""
        if not self.sees('"'):
            raise self.wrong("a value in double quotes is expected", _SHELL)
        text = self.take(_QUOTED)
        if text is None:
            raise self.wrong("the double quotes don't end")
        if unknown := [c for c in _ESCAPE.findall(text) if c not in _MEANT]:
            raise self.wrong(f'\\{unknown[0]} is no escape; \\\\, \\" and \\n are')
        return _ESCAPE.sub(lambda found: _MEANT[found.group(1)], text)
