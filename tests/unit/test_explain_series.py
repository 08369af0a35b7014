"""What becomes of a series, told by the rules alone."""

import json
from collections.abc import Mapping

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from watchkeep.schemas.entity import DEFAULT_RULES, EntityKind, EntityRules
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.exposition import parse_series
from watchkeep.schemas.frame import MetricKind
from watchkeep.schemas.labels import text
from watchkeep.schemas.settings import Gateway, Settings
from watchkeep.schemas.signal import Dropped, Feed, Folding, Part, Role, foldings
from watchkeep.streams import explain_series
from watchkeep.streams.cli import main
from watchkeep.streams.cli_signals import _KINDS
from watchkeep.streams.explain_series import Explained, explain, rules_of, show

CART = (
    'http_requests_total{namespace="shop",pod="cart-7d9c5b8f6d-x2x4z",code="500",'
    'instance="10.0.0.7:80",path="/[red]a",cluster="prod",prometheus_replica="b"}'
)


class FewRules:
    """A few rules, in the place of the shipped ones."""

    def feed(self, labels: Mapping[str, str], kind: MetricKind, _: EntityKind, /) -> Feed | Dropped:
        """Drop info; keep the class of a code."""
        metric = labels["__name__"]
        if kind is MetricKind.INFO:
            return Dropped("info", "It says what is, not how it does.")
        kept = (("code", labels["code"][0] + "xx"),) if "code" in labels else ()
        if metric.endswith("_bucket"):
            return Feed(Part.BUCKET, metric.removesuffix("_bucket"), kept, float(labels["le"]), 60)
        return Feed(Part.COUNTER, metric, kept, float("nan"), 30)

    def role(
        self, metric: str, _: tuple[tuple[str, str], ...], folding: Folding, __: EntityKind, /
    ) -> tuple[Role, str]:
        """Have errors page, and the slowest requests."""
        if folding is Folding.P99 or metric == "http_requests_total":
            return Role.PAGE, "Its callers notice."
        return Role.EVIDENCE, "No rule says that it may page."


def explained(series: str, kind: MetricKind = MetricKind.UNKNOWN) -> Explained:
    """Explain a series by few rules."""
    return explain(parse_series(series), kind, Gateway(), DEFAULT_RULES, FewRules())


def shown(told: Explained, width: int = 100) -> str:
    """Print it to a text."""
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        show(console, told, as_json=False)
    return capture.get()


def test_a_series_is_placed_as_the_gateway_would() -> None:
    told = explained(CART)
    assert told.place.entity.key == "workload/prod/shop/cart"
    assert told.place.member == "cart-7d9c5b8f6d-x2x4z"
    assert told.removed == ("prometheus_replica",)
    assert told.told == ("namespace", "pod")
    assert told.folded == ("instance", "path")
    assert [one.title for one in told.signals] == ['http_requests_total{code="5xx"}']
    assert told.signals[0].role is Role.PAGE


@pytest.mark.parametrize(
    "series",
    ['kube_pod_info{namespace="shop",pod="a-1"}', 'node_load1{instance="n1:9100"}', 'up{job="x"}'],
)
def test_the_rule_that_is_told_is_the_one_that_placed_it(series: str) -> None:
    told = explained(series)
    assert told.rule is not None
    rules = EntityRules([DEFAULT_RULES[told.rule - 1]])
    assert told.place == rules.place(parse_series(series), "default")


def test_a_bucket_feeds_quantiles_and_its_bound_is_not_folded_away() -> None:
    told = explained('request_seconds_bucket{job="x",le="0.5"}')
    assert [(one.title, one.role) for one in told.signals] == [
        ("p99(request_seconds)", Role.PAGE),
        ("p50(request_seconds)", Role.EVIDENCE),
    ]
    assert told.folded == ()


@pytest.mark.parametrize("part", Part)
def test_every_part_can_be_told(part: Part) -> None:
    class Rules(FewRules):
        def feed(self, *_: object) -> Feed:
            return Feed(part, "m", (), 1.0, 60)

    told = explain({"__name__": "m"}, MetricKind.UNKNOWN, Gateway(), DEFAULT_RULES, Rules())
    assert [one.folding for one in told.signals] == list(foldings(part))
    assert shown(told).count("in cells of 60 s") == len(told.signals)


def test_the_shipped_rules_are_asked() -> None:
    told = explain(
        parse_series(CART), MetricKind.COUNTER, Gateway(), DEFAULT_RULES, rules_of(Settings())
    )
    assert isinstance(told.feed, Feed)
    assert told.signals[0].role is Role.PAGE


@pytest.mark.parametrize("width", [80, 120])
def test_people_are_told_all_of_it(width: int) -> None:
    text_ = " ".join(shown(explained(CART), width).split())
    assert "entity shop/cart, a workload in cluster prod" in text_
    assert 'for {namespace=~".+",pod=~".+"}; named after namespace, pod' in text_
    assert 'kept labels {code="5xx"}' in text_
    assert "folded away instance, path" in text_
    assert 'http_requests_total{code="5xx"} may page' in text_
    assert "in cells of 30 s Its callers notice." in text_
    assert 'path="/[red]a"' in text_


def test_a_dropped_series_says_why() -> None:
    told = explained("build_info", MetricKind.INFO)
    assert not told.signals
    assert not told.folded
    assert "info: It says what is, not how it does." in shown(told)
    assert "no entity rule fits" in shown(told)


@pytest.mark.parametrize("kind", [MetricKind.COUNTER, MetricKind.INFO])
def test_programs_are_told_too(kind: MetricKind) -> None:
    console = Console(width=20)
    with console.capture() as capture:
        show(console, explained(CART, kind), as_json=True)
    told = json.loads(capture.get())
    assert told["entity"] == "workload/prod/shop/cart"
    assert bool(told["signals"]) is (kind is MetricKind.COUNTER) is (told["dropped"] is None)


def test_it_is_a_command_that_asks_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain_series, "rules_of", lambda _: FewRules())
    done = CliRunner().invoke(main, ["signals", "explain", CART, "--kind", "counter", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["part"] == "counter"


def test_a_series_that_the_shell_has_eaten_into_is_told_in_one_line() -> None:
    done = CliRunner().invoke(main, ["signals", "explain", "up{job=x}"])
    assert done.exit_code == 2
    assert "in single quotes" in done.output
    assert done.output.count("\n") == 1


def test_every_kind_may_be_named() -> None:
    assert set(_KINDS) == {kind.name.lower() for kind in MetricKind}


names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True)


@given(name=names, labels=st.dictionaries(names, st.text(min_size=1), max_size=4))
def test_what_is_written_is_read_back(name: str, labels: dict[str, str]) -> None:
    labels.pop("__name__", None)
    assert parse_series(name + text(labels)) == {"__name__": name, **labels}


@pytest.mark.parametrize(
    ("series", "labels"),
    [
        ("up", {"__name__": "up"}),
        ("up{}", {"__name__": "up"}),
        (' up { a = "1" , b="}" , } ', {"__name__": "up", "a": "1", "b": "}"}),
        ('{__name__="up",a=""}', {"__name__": "up", "a": ""}),
        ('{"http.requests","k8s.pod"="x"}', {"__name__": "http.requests", "k8s.pod": "x"}),
        (r'up{a="\\\"\n"}', {"__name__": "up", "a": '\\"\n'}),
    ],
)
def test_series_are_read_as_people_write_them(series: str, labels: dict[str, str]) -> None:
    assert parse_series(series) == labels


@pytest.mark.parametrize(
    ("series", "told"),
    [
        ("", "at its begin, it has no metric name"),
        ('{a="b"}', "it has no metric name"),
        ("up{a=b}", "after 'up{a=', a value in double quotes is expected; put the whole series"),
        ('up{a="b}', "the double quotes don't end"),
        ('up{a="b"', "a comma or } is expected"),
        ('up{a="b" c="d"}', "a comma or } is expected"),
        ('up{a="b",a="c"}', "the label a is there twice"),
        ('up{"down"}', "the metric's name is there twice"),
        ('up{a="b"} 42', "nothing more is expected"),
        ("up{,}", "a label's name is expected"),
        ("up{a}", '="value" is expected'),
        (r'up{a="\t"}', r"\t is no escape"),
        ("7up", "nothing more is expected"),
    ],
)
def test_what_is_no_series_is_told_in_one_line(series: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_series(series)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.text())
def test_any_text_is_read_or_refused(series: str) -> None:
    try:
        labels = parse_series(series)
    except ConfigError as refused:
        assert "\n" not in str(refused)  # noqa: PT017 - Most texts are refused, some are not.
    else:
        assert labels["__name__"]
