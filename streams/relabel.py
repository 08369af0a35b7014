"""Relabelling: what rules make of a label set, or that they drop it. Pure, and as in Prometheus."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from watchkeep.schemas.relabel import Match, Regex, RelabelRule, compiled

_Expand = Callable[[Match], str]


class _Labels:
    """A label set while rules rewrite it. A label without a value is the same as none.

    Attributes:
        values: each label's value.
    """

    __slots__ = ("_written", "values")

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.values = {name: value for name, value in labels.items() if value}
        self._written: dict[str, None] = {}

    def put(self, name: str, value: str) -> None:
        """Write a label."""
        if not value:
            self.remove(name)
            return
        self.values[name] = value
        self._written.setdefault(name)

    def remove(self, name: str) -> None:
        """Remove a label, if it is there."""
        self.values.pop(name, None)
        self._written.pop(name, None)

    def items(self) -> list[tuple[str, str]]:
        """List the labels as Prometheus does: those that came by name, then those written.

        Where labelmap gives one name to several labels, the last one's value stays.
        """
        came = sorted(name for name in self.values if name not in self._written)
        return [(name, self.values[name]) for name in (*came, *self._written)]


_Step = Callable[[_Labels], bool]


class Relabel:
    """Rules ready for use."""

    def __init__(self, rules: Sequence[RelabelRule]) -> None:
        self._steps = tuple(_MAKERS[rule.action](rule) for rule in rules)

    def apply(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        """Rewrite a label set.

        Args:
            labels: untrusted, any text; they are left as they are.

        Returns:
            The new labels, none of them with an empty value; None if a rule drops the series.
        """
        rewritten = _Labels(labels)
        for step in self._steps:
            if not step(rewritten):
                return None
        return rewritten.values


def _joined(rule: RelabelRule) -> Callable[[_Labels], str]:
    """Make what joins the values of a rule's source labels."""
    names, separator = rule.source_labels, rule.separator
    if len(names) == 1:
        (name,) = names
        return lambda labels: labels.values.get(name, "")
    return lambda labels: separator.join([labels.values.get(name, "") for name in names])


def _replace(rule: RelabelRule) -> _Step:
    joined, regex = _joined(rule), compiled(rule.regex)
    target = _template(rule.target_label, regex)
    replacement = _template(rule.replacement, regex)

    def step(labels: _Labels) -> bool:
        found = regex.search(joined(labels).encode())
        if found is not None and (name := target(found)):
            labels.put(name, replacement(found))
        return True

    return step


def _keep_or_drop(rule: RelabelRule) -> _Step:
    joined, regex = _joined(rule), compiled(rule.regex, captures=False)
    keep = rule.action == "keep"
    return lambda labels: (regex.search(joined(labels).encode()) is not None) is keep


def _equal(rule: RelabelRule) -> _Step:
    joined, target = _joined(rule), rule.target_label
    keep = rule.action == "keepequal"
    return lambda labels: (labels.values.get(target, "") == joined(labels)) is keep


def _label_keep_or_drop(rule: RelabelRule) -> _Step:
    regex, keep = compiled(rule.regex, captures=False), rule.action == "labelkeep"

    def step(labels: _Labels) -> bool:
        for name in [*labels.values]:
            if (regex.search(name.encode()) is not None) is not keep:
                labels.remove(name)
        return True

    return step


def _label_map(rule: RelabelRule) -> _Step:
    regex = compiled(rule.regex)
    new_name = _template(rule.replacement, regex)

    def step(labels: _Labels) -> bool:
        for name, value in labels.items():
            found = regex.search(name.encode())
            # Prometheus itself would write a label without a name, which nobody can use.
            if found is not None and (new := new_name(found)):
                labels.put(new, value)
        return True

    return step


def _hash_mod(rule: RelabelRule) -> _Step:
    joined, target, modulus = _joined(rule), rule.target_label, rule.modulus

    def step(labels: _Labels) -> bool:
        digest = hashlib.md5(joined(labels).encode(), usedforsecurity=False).digest()
        labels.put(target, str(int.from_bytes(digest[8:]) % modulus))
        return True

    return step


def _case(rule: RelabelRule) -> _Step:
    joined, target = _joined(rule), rule.target_label
    change = _lower if rule.action == "lowercase" else _upper

    def step(labels: _Labels) -> bool:
        labels.put(target, change(joined(labels)))
        return True

    return step


_MAKERS: Final[dict[str, Callable[[RelabelRule], _Step]]] = {
    "replace": _replace,
    "keep": _keep_or_drop,
    "drop": _keep_or_drop,
    "keepequal": _equal,
    "dropequal": _equal,
    "labelkeep": _label_keep_or_drop,
    "labeldrop": _label_keep_or_drop,
    "labelmap": _label_map,
    "hashmod": _hash_mod,
    "lowercase": _case,
    "uppercase": _case,
}


def _lower(text: str) -> str:
    """Lower each letter by itself, as Go does; Python minds what stands around it."""
    return text.lower() if text.isascii() else "".join([char.lower()[0] for char in text])


def _upper(text: str) -> str:
    """Raise each letter to one letter, as Go does; Python makes SS of ß."""
    return text.upper() if text.isascii() else "".join(map(_upper_of, text))


def _upper_of(char: str) -> str:
    return next((one for one in (char.upper(), char.title()) if len(one) == 1), char)


def _template(text: str, regex: Regex) -> _Expand:
    """Read a text in which $1, ${1}, $name and ${name} stand for groups, and $$ for $.

    A group that the expression hasn't is empty. A $ that begins none of these is itself.
    """
    parts: list[bytes | int] = []
    while text:
        before, dollar, text = text.partition("$")
        parts.append(before.encode())
        if not dollar:
            break
        if text.startswith("$"):
            parts.append(b"$")
            text = text[1:]
        elif (read := _name(text)) is None:
            parts.append(b"$")
        else:
            name, text = read
            if (group := _group(name, regex)) is not None:
                parts.append(group)
    plain = [part for part in parts if isinstance(part, bytes)]
    if len(plain) == len(parts):
        always = b"".join(plain).decode()
        return lambda _: always
    return lambda found: b"".join(
        [part if isinstance(part, bytes) else found[part] or b"" for part in parts]
    ).decode()


def _name(text: str) -> tuple[str, str] | None:
    """Read a group's name behind a $, as long as it gets; return it and what follows."""
    braced = text.startswith("{")
    rest = text[braced:]
    end = next((i for i, char in enumerate(rest) if not _in_name(char)), len(rest))
    if not end or (braced and rest[end : end + 1] != "}"):
        return None
    return rest[:end], rest[end + braced :]


def _in_name(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdecimal()


def _group(name: str, regex: Regex) -> int | None:
    """Find the number of a group; with a zero before it, it is a name."""
    if name.isascii() and name.isdecimal() and (name == "0" or name[0] != "0"):
        return int(name) if len(name) < 9 and int(name) <= regex.groups else None
    return regex.groupindex.get(name)
