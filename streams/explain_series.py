"""`watchkeep signals explain`: what becomes of a series, by the rules alone; no server is asked."""

import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from watchkeep.schemas.entity import EntityKind, EntityRule, EntityRules, Place
from watchkeep.schemas.frame import MetricKind
from watchkeep.schemas.labels import METRIC_NAME, text
from watchkeep.schemas.settings import Gateway, Settings
from watchkeep.schemas.signal import Dropped, Feed, Folding, Part, Role, Signal, foldings
from watchkeep.schemas.signal_rules import SignalRules
from watchkeep.schemas.text import plain

_NAME_MAX: Final = 300

_PARTS: Final = {
    Part.COUNTER: "a counter: it counts up, and starts again from 0",
    Part.GAUGE: "a gauge: its value goes up and down",
    Part.UNKNOWN: "of unknown kind: a gauge, until it is seen to count up",
    Part.BUCKET: "a bucket of a histogram, merged with the others of all members",
    Part.NATIVE: "a native histogram, merged over all members",
    Part.COUNT: "the count of a histogram or summary",
    Part.SUM: "the sum of a histogram or summary, to be divided by its count",
}
_FOLDINGS: Final = {
    Folding.RATE: "the sum of the rates of its series",
    Folding.MEAN: "its mean over members",
    Folding.P50: "the median of what its members observed together",
    Folding.P99: "what 99 of 100 observations of its members stay under",
    Folding.AVERAGE: "the sum's growth divided by the count's",
}


class Rules(Protocol):
    """What decides about series; see `schemas.signal_rules`."""

    def feed(
        self, labels: Mapping[str, str], kind: MetricKind, entity: EntityKind, /
    ) -> Feed | Dropped:
        """Find how a series feeds signals, or why it isn't watched."""
        ...

    def role(
        self,
        metric: str,
        labels: tuple[tuple[str, str], ...],
        folding: Folding,
        entity: EntityKind,
        /,
    ) -> tuple[Role, str]:
        """Find a signal's role, and why it has it."""
        ...


class Fed(NamedTuple):
    """A signal that the series feeds."""

    title: str
    folding: Folding
    role: Role
    why: str


class Explained(NamedTuple):
    """What becomes of a series.

    Attributes:
        series: it, as people write it.
        removed: labels that the gateway removes, as they name one of a pair.
        rule: the number of the entity rule that fits, from 1; None when none does.
        when: what that rule asks for, as people write it.
        told: labels that the entity and the member are named after.
        folded: labels that are folded away.
        signals: none when it is dropped.
    """

    series: str
    kind: MetricKind
    removed: tuple[str, ...]
    place: Place
    rule: int | None
    when: str
    told: tuple[str, ...]
    feed: Feed | Dropped
    folded: tuple[str, ...]
    signals: tuple[Fed, ...]


def rules_of(settings: Settings) -> Rules:
    """Make the settings' signal rules ready for use."""
    return SignalRules(settings.detect.rules, settings.detect.step_s)


def explain(
    labels: Mapping[str, str],
    kind: MetricKind,
    gateway: Gateway,
    entity_rules: Sequence[EntityRule],
    signal_rules: Rules,
) -> Explained:
    """Find out what becomes of a series, as the gateway and detect will."""
    removed = tuple(sorted(set(gateway.replica_labels) & labels.keys()))
    labels = {name: value for name, value in labels.items() if name not in removed and value}
    cluster = labels.get(gateway.cluster_label, "default")
    place = EntityRules(entity_rules).place(labels, cluster)
    metric = labels[METRIC_NAME]
    fits = (rule.about(metric) and rule.fits(labels) for rule in entity_rules)
    number = next((n for n, fit in enumerate(fits) if fit), None)
    rule = None if number is None else entity_rules[number]
    told = _told(labels, rule)
    feed = signal_rules.feed(labels, kind, place.entity.kind)
    signals, folded = [], set(labels) - {METRIC_NAME, gateway.cluster_label, *told}
    if isinstance(feed, Feed):
        folded -= {"le"} if feed.part is Part.BUCKET else set()
        folded -= {name for name, _ in feed.labels}
        for folding in foldings(feed.part):
            role, why = signal_rules.role(feed.metric, feed.labels, folding, place.entity.kind)
            named = Signal(place.entity.key, feed.metric, feed.labels, folding).title
            signals.append(Fed(named, folding, role, why))
    return Explained(
        _written(labels),
        kind,
        removed,
        place,
        None if number is None else number + 1,
        _asked(rule),
        told,
        feed,
        tuple(sorted(folded)) if signals else (),
        tuple(signals),
    )


def _told(labels: Mapping[str, str], rule: EntityRule | None) -> tuple[str, ...]:
    """Name the labels that an entity rule takes its names from."""
    if rule is None:
        return ()
    found = []
    for names in (rule.namespace, rule.name, rule.member):
        first = next((name for name in names if labels.get(name)), None)
        if first is not None and first not in found:
            found.append(first)
    return tuple(found)


def _written(labels: Mapping[str, str]) -> str:
    others = {name: value for name, value in labels.items() if name != METRIC_NAME}
    return labels[METRIC_NAME] + text(others)


def _asked(rule: EntityRule | None) -> str:
    if rule is None:
        return ""
    if not rule.when:
        return "any series"
    return "{" + ",".join(f'{name}=~"{pattern}"' for name, pattern in rule.when.items()) + "}"


def show(console: Console, told: Explained, *, as_json: bool) -> None:
    """Print what becomes of a series."""
    if as_json:
        console.out(json.dumps(_record(told)), highlight=False)
        return
    console.print(Text(plain(told.series, _NAME_MAX), "bold"), soft_wrap=True)
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in _facts(told):
        table.add_row(Text(name, "dim"), Text(plain(fact, _NAME_MAX)))
    console.print(table)
    if isinstance(told.feed, Dropped):
        console.print(Text("\nIt is dropped, and feeds no signal", "bold"))
        why = f"{told.feed.reason}: {told.feed.why}"
        console.print(Padding(Text(plain(why, _NAME_MAX)), (0, 0, 0, 2), expand=False))
        return
    console.print("\n[bold]It feeds[/]")
    for one in told.signals:
        role = "may page" if one.role is Role.PAGE else "evidence"
        lines = [
            Text.assemble((plain(one.title, _NAME_MAX), "bold"), f"  {role}"),
            Text(f"  {_FOLDINGS[one.folding]}, in cells of {told.feed.step_s} s", "dim"),
            Text(f"  {plain(one.why, _NAME_MAX)}", "dim"),
        ]
        for line in lines:
            console.print(Padding(line, (0, 0, 0, 2), expand=False))


def _facts(told: Explained) -> list[tuple[str, str]]:
    entity, member = told.place
    by = "no entity rule fits"
    if told.rule is not None:
        by = f"{told.rule}, for {told.when}; named after {', '.join(told.told)}"
    facts = [
        ("entity", f"{entity.title}, a {entity.kind} in cluster {entity.cluster}"),
        ("by entity rule", by),
        ("member", member or "none: it is about the whole entity"),
    ]
    if told.removed:
        facts.append(("removed", f"{', '.join(told.removed)}: names one of a pair of senders"))
    if isinstance(told.feed, Feed):
        facts += [
            ("it is", _PARTS[told.feed.part]),
            ("kept labels", text(dict(told.feed.labels)) or "none"),
            ("folded away", ", ".join(told.folded) or "none"),
        ]
    return facts


def _record(told: Explained) -> dict[str, object]:
    feed = told.feed
    record = {
        "series": told.series,
        "kind": told.kind.name.lower(),
        "removed": told.removed,
        "entity": told.place.entity.key,
        "title": told.place.entity.title,
        "member": told.place.member,
        "entity_rule": told.rule,
    }
    if isinstance(feed, Dropped):
        return {**record, "dropped": feed._asdict(), "signals": []}
    return {
        **record,
        "dropped": None,
        "part": feed.part,
        "step_s": feed.step_s,
        "kept": dict(feed.labels),
        "folded": told.folded,
        "signals": [one._asdict() for one in told.signals],
    }
