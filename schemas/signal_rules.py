"""Which signals a series feeds, and which signals may page: rules over its labels and its kind.

The shipped rules are data (`signals.toml`); a user's rules (`[[detect.rules]]`) come before them.
Each rule may decide several things, and says nothing of the others: for each thing, the first rule
that fits and says something of it decides. What a series is to its signals (a counter, a bucket,
...) follows from its kind, and from its name where the sender doesn't tell the kind.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from importlib.resources import files
from typing import Final, Generic, Literal, NamedTuple, Self, TypeVar

import xxhash
from pydantic import BaseModel, ConfigDict, Field, model_validator

from watchkeep.schemas.entity import EntityKind, Pattern
from watchkeep.schemas.frame import MetricKind
from watchkeep.schemas.labels import METRIC_NAME
from watchkeep.schemas.shapes import Shape, families, feed_of, shape_of, shorten
from watchkeep.schemas.signal import Dropped, Feed, Folding, Role, Side, Signal

Kind = Literal[
    "unknown",
    "counter",
    "gauge",
    "histogram",
    "gauge_histogram",
    "summary",
    "info",
    "state_set",
]

_HOUR_S: Final = 3600
_CACHED_MAX: Final = 8_192
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_Said = TypeVar("_Said")
_FOLDED_AWAY: Final = frozenset({METRIC_NAME, "le", "quantile"})


class SignalRule(BaseModel):
    """One rule: the labels a series must have, and what is decided for it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    why: str = Field(min_length=1, max_length=200, description="why, in one sentence for people")
    when: dict[str, Pattern] = Field(
        min_length=1,
        description="label name -> regular expression that its whole value must match; __name__ "
        "is the metric, of a histogram or summary without _bucket, _count and _sum",
    )
    entity: tuple[EntityKind, ...] = Field(
        default=(), description="kinds of entity that it is for; empty for all"
    )
    folding: tuple[Folding, ...] = Field(
        default=(), description="foldings that role and side are for; empty for all"
    )
    role: Role | None = Field(default=None, description="page, or only evidence")
    side: Side | None = Field(
        default=None, description="which way it must leave what is expected to page"
    )
    keep: tuple[str, ...] | None = Field(
        default=None, description="labels that tell signals apart; all others are folded away"
    )
    drop: bool | None = Field(
        default=None,
        description="true: isn't watched; false: is watched, though its name says information or "
        "a point in time",
    )
    step_s: int | None = Field(
        default=None, ge=10, le=300, description="width of its cells; must divide an hour"
    )
    kind: Kind | None = Field(default=None, description="its kind, whatever the sender says")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.step_s is not None and _HOUR_S % self.step_s:
            raise ValueError(f"step_s must divide an hour, and {self.step_s} doesn't")
        if wrong := sorted(_FOLDED_AWAY.intersection(self.keep or ())):
            raise ValueError(f"{wrong[0]} can't be kept: it is part of how a signal is folded")
        said = [self.keep, self.drop, self.step_s, self.kind]
        if self.folding and any(one is not None for one in said):
            raise ValueError("folding is for role and side; put the rest into another rule")
        if self.role is None and self.side is None and all(one is None for one in said):
            raise ValueError("it decides nothing; set role, side, keep, drop, step_s or kind")
        return self

    @cached_property
    def asks(self) -> tuple[tuple[str, re.Pattern[str]], ...]:
        """What it asks of labels other than the metric."""
        return tuple((k, re.compile(v)) for k, v in self.when.items() if k != METRIC_NAME)

    @cached_property
    def _name(self) -> re.Pattern[str]:
        return re.compile(self.when.get(METRIC_NAME, ".*"), re.DOTALL)

    def about(self, metric: str, entity: EntityKind) -> bool:
        """Tell whether it is about a metric of such an entity, for some labels."""
        fits = not self.entity or entity in self.entity
        return fits and self._name.fullmatch(metric) is not None


@cache
def shipped_rules() -> tuple[SignalRule, ...]:
    """Read the rules for the usual exporters."""
    text = files("watchkeep.schemas").joinpath("signals.toml").read_text()
    return tuple(SignalRule.model_validate(rule) for rule in tomllib.loads(text)["rules"])


class _Choice(NamedTuple, Generic[_Said]):
    """What a rule says of one thing, if the labels are as it asks."""

    asks: tuple[tuple[str, re.Pattern[str]], ...]
    said: _Said
    why: str


_Choices = tuple[_Choice[_Said], ...]


class _Plan(NamedTuple):
    """What may hold for series of one name, kind and kind of entity; the first choice that fits."""

    shape: Shape
    kinds: _Choices[MetricKind]
    drops: _Choices[bool]
    keeps: _Choices[tuple[str, ...]]
    steps: _Choices[int]


class SignalRules:
    """Rules ready for use. Pure: what they find depends on their arguments alone.

    Attributes:
        hash: names this set of rules, the shipped ones included.
    """

    def __init__(self, user_rules: Sequence[SignalRule] = (), step_s: int = 60) -> None:
        """Put a user's rules before the shipped ones.

        Args:
            user_rules: tried first to last.
            step_s: the width of cells where no rule says another.
        """
        self._rules = (*user_rules, *shipped_rules())
        self._step_s = step_s
        text = "\n".join(rule.model_dump_json() for rule in self._rules)
        self.hash = xxhash.xxh3_64_hexdigest(f"{step_s}\n{text}".encode())
        self._plans: dict[tuple[str, int, str], _Plan] = {}
        self._choices: dict[tuple[str, str, str, str], _Choices[str]] = {}

    def feed(
        self, labels: Mapping[str, str], kind: MetricKind, entity: EntityKind
    ) -> Feed | Dropped:
        """Find how a series feeds signals, or why it isn't watched.

        Args:
            labels: the series' labels; untrusted, any text.
            kind: what the sender says of the metric.
            entity: the kind of entity that the series belongs to.
        """
        name = shorten(labels.get(METRIC_NAME, ""))
        plan = self._plan(name, kind, entity)
        if plan.kinds and (told := _first(plan.kinds, labels)):
            plan = self._plan(name, told.said, entity)
        drop = _first(plan.drops, labels) if plan.drops else None
        if drop is not None and drop.said:
            return Dropped("rule", drop.why)
        shape = plan.shape
        if shape.dropped is not None and (drop is None or not shape.pardonable):
            return shape.dropped
        keep = _first(plan.keeps, labels)
        step = _first(plan.steps, labels) if plan.steps else None
        return feed_of(
            shape,
            labels,
            keep.said if keep is not None else (),
            step.said if step is not None else self._step_s,
        )

    def role(
        self,
        metric: str,
        labels: tuple[tuple[str, str], ...],
        folding: Folding,
        entity: EntityKind,
    ) -> tuple[Role, str]:
        """Find a signal's role, and why it has it.

        Args:
            metric: the signal's metric.
            labels: its kept labels; a rule about others doesn't fit.
            folding: how it is folded.
            entity: the kind of entity that it is of.
        """
        choice = self._chosen("role", Signal("", metric, labels, folding), entity)
        if choice is None:
            return Role.EVIDENCE, "No rule says that it may page."
        return Role(choice.said), choice.why

    def side(
        self,
        metric: str,
        labels: tuple[tuple[str, str], ...],
        folding: Folding,
        entity: EntityKind,
    ) -> Side:
        """Find which way a signal must leave what is expected to page; see `role`."""
        choice = self._chosen("side", Signal("", metric, labels, folding), entity)
        return Side.BOTH if choice is None else Side(choice.said)

    def _chosen(self, what: str, signal: Signal, entity: EntityKind) -> _Choice[str] | None:
        """Find what is decided for a signal, whose entity's name doesn't matter."""
        folding = signal.folding
        key = (what, signal.metric, str(folding), str(entity))
        choices = self._choices.get(key)
        if choices is None:
            rules = tuple(r for r in self._rules if not r.folding or folding in r.folding)
            choices = tuple(
                _Choice(rule.asks, str(said), rule.why)
                for rule in _about(rules, (signal.metric,), entity)
                if (said := getattr(rule, what)) is not None
            )
            _put(self._choices, key, _sure(choices))
        return _first(choices, dict(signal.labels))

    def _plan(self, name: str, kind: MetricKind, entity: EntityKind) -> _Plan:
        key = (name, int(kind), str(entity))  # An enum's own hash is slow.
        if (plan := self._plans.get(key)) is None:
            plan = self._made(name, kind, entity)
            _put(self._plans, key, plan)
        return plan

    def _made(self, name: str, kind: MetricKind, entity: EntityKind) -> _Plan:
        shape = shape_of(name, kind)
        kinds = [
            _Choice(rule.asks, MetricKind[rule.kind.upper()], rule.why)
            for rule in _about(self._rules, families(name), entity)
            if rule.kind is not None
        ]
        rules = _about(self._rules, (shape.metric,), entity)
        return _Plan(
            shape,
            _sure(kinds),
            _sure([_Choice(r.asks, r.drop, r.why) for r in rules if r.drop is not None]),
            _sure(
                [
                    _Choice(r.asks, tuple(sorted(set(r.keep))), r.why)
                    for r in rules
                    if r.keep is not None
                ]
            ),
            _sure([_Choice(r.asks, r.step_s, r.why) for r in rules if r.step_s is not None]),
        )


def _about(
    rules: Sequence[SignalRule], metrics: tuple[str, ...], entity: EntityKind
) -> list[SignalRule]:
    return [rule for rule in rules if any(rule.about(metric, entity) for metric in metrics)]


def _sure(choices: Sequence[_Choice[_Said]]) -> _Choices[_Said]:
    """Leave out what stands behind a choice that fits any labels."""
    end = next((i for i, choice in enumerate(choices, 1) if not choice.asks), len(choices))
    return tuple(choices[:end])


def _first(choices: _Choices[_Said], labels: Mapping[str, str]) -> _Choice[_Said] | None:
    for choice in choices:
        for label, pattern in choice.asks:
            if pattern.fullmatch(labels.get(label, "")) is None:
                break
        else:
            return choice
    return None


def _put(cached: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Remember; all is forgotten when it is too much, as names come from outside."""
    if len(cached) >= _CACHED_MAX:
        cached.clear()
    cached[key] = value
