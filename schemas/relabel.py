"""Rules that drop, keep and rewrite label sets: Prometheus' relabelling, checked as it checks it.

The rules are those of `write_relabel_configs` in Prometheus 3, where a label's name may be any
text. Their regular expressions run in RE2: it has the syntax that Prometheus has, and reads a text
in time linear in its length, whatever the text is, so a sender can't stall the gateway with one.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Protocol, Self

import re2
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

Action = Literal[
    "replace",
    "keep",
    "drop",
    "labeldrop",
    "labelkeep",
    "labelmap",
    "hashmod",
    "lowercase",
    "uppercase",
    "keepequal",
    "dropequal",
]

ANY: Final = "(.*)"
_WHOLE: Final = "$1"
_MODULUS_MAX: Final = 2**64 - 1
_TARGETED: Final = {"replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal"}
# What an action takes beside itself, where it refuses the rest.
_TAKES: Final = {
    "labeldrop": ("regex",),
    "labelkeep": ("regex",),
    "keepequal": ("source_labels", "target_label"),
    "dropequal": ("source_labels", "target_label"),
}
# What is quoted as it is, and what a backslash stands before.
_ESCAPED: Final = re.compile(r"\\Q.*?(?:\\E|$)|\\(.)", re.DOTALL)


class Match(Protocol):
    """Where a regular expression matched."""

    def __getitem__(self, group: int) -> bytes | None:
        """Give what a group matched; None if it took no part."""


class Regex(Protocol):
    """A regular expression that matches whole texts, in UTF-8: text itself takes thrice as long.

    Attributes:
        groups: how many groups it has.
        groupindex: the number of each group that has a name.
    """

    groups: int
    groupindex: Mapping[str, int]

    def search(self, text: bytes) -> Match | None:
        """Match a text from its beginning to its end, line breaks included."""


def compiled(regex: str, *, captures: bool = True) -> Regex:
    """Make a regular expression ready for use, anchored as in Prometheus.

    Args:
        regex: one that a rule may have.
        captures: whether it tells what its groups matched; it is faster if it needn't.

    Raises:
        re2.error: it is none.
    """
    options = re2.Options()
    options.log_errors = False
    options.never_capture = not captures
    ready: Regex = re2.compile(f"^(?s:{regex})$", options)
    return ready


def _compiles(regex: str) -> str:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(regex, options)  # By itself: "a)|(b" would be one between our parentheses.
        compiled(regex)
    except re2.error as error:
        told = error.args[0]
        told = told.decode(errors="replace") if isinstance(told, bytes) else told
        raise ValueError(
            f"should be a regular expression as Prometheus has them, of RE2's syntax; {told}"
        ) from error
    if any(found.group(1) == "C" for found in _ESCAPED.finditer(regex)):
        raise ValueError(r"should be a regular expression without \C, a single byte; take . for it")
    return regex


class RelabelRule(BaseModel):
    """One rule: an action, and on what it acts. The rules act one after the other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action = Field(default="replace", description="what it does")
    source_labels: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="labels whose values are joined; one that is missing is empty"
    )
    separator: str = Field(default=";", description="what stands between the joined values")
    regex: Annotated[str, AfterValidator(_compiles)] = Field(
        default=ANY,
        description="regular expression that all of the joined values must match; of labeldrop, "
        "labelkeep and labelmap, all of a label's name",
    )
    modulus: int = Field(
        default=0, ge=0, le=_MODULUS_MAX, description="hashmod: how many remainders there are"
    )
    target_label: str = Field(
        default="", description="the label that is written, or compared; replace expands $1 in it"
    )
    replacement: str = Field(
        default=_WHOLE,
        description="replace: the value that is written; labelmap: the new name; $1, ${1} and "
        "${name} are what a group matched, $$ is $",
    )

    @field_validator("action", mode="before")
    @classmethod
    def _lower(cls, action: object) -> object:
        return action.lower() if isinstance(action, str) else action

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.action == "hashmod" and not self.modulus:
            raise ValueError("hashmod needs to know what to divide by; set modulus, as modulus = 4")
        if self.action in _TARGETED and not self.target_label:
            raise ValueError(f"{self.action} needs a label to write or compare; set target_label")
        if self.action == "labelmap" and not self.replacement:
            raise ValueError('labelmap needs a new name; set replacement, as replacement = "$1"')
        if self.action in ("lowercase", "uppercase") and self.replacement != _WHOLE:
            raise ValueError(f"{self.action} writes the joined values; remove replacement")
        if takes := _TAKES.get(self.action):
            fields = type(self).model_fields
            set_too = [name for name, value in self if value != fields[name].default]
            for name in set_too:
                if name not in ("action", *takes):
                    raise ValueError(
                        f"{self.action} takes only {' and '.join(takes)}; remove {name}"
                    )
        return self
