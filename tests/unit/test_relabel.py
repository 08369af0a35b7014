"""Rules rewrite label sets as Prometheus would."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.relabel import RelabelRule
from watchkeep.streams.config import load
from watchkeep.streams.relabel import Relabel

Labels = dict[str, str]
Rule = dict[str, Any]


def relabel(labels: Labels, *rules: Rule) -> Labels | None:
    return Relabel([RelabelRule(**rule) for rule in rules]).apply(labels)


def replace(label: str, regex: str, target: str, replacement: str = "$1") -> Rule:
    return {
        "source_labels": [label],
        "regex": regex,
        "target_label": target,
        "replacement": replacement,
    }


ABC = {"a": "foo", "b": "bar", "c": "baz"}
PORTS = {"one": "1234", "same": "1234", "other": "5678"}
LINES = {"a": "line1\nline2"}

# What came, the rules, and what they make of it.
CASES: list[tuple[Labels, list[Rule], Labels | None]] = [
    # A group stands in the value as often as it is named.
    (ABC, [replace("a", "f(.*)", "d", "ch${1}-ch${1}")], ABC | {"d": "choo-choo"}),
    # A rule sees what those before it wrote; several labels are joined.
    (
        ABC,
        [
            replace("a", "f(.*);(.*)r", "a", "b${1}${2}m") | {"source_labels": ["a", "b"]},
            replace("c", "(b).*b(.*)ba(.*)", "d", "$1$2$2$3") | {"source_labels": ["c", "a"]},
        ],
        {"a": "boobam", "b": "bar", "c": "baz", "d": "boooom"},
    ),
    (ABC, [replace("a", "(.*)-(.*)", "d") | {"separator": "-"}], ABC),
    (
        ABC,
        [replace("", "(.*)/bar", "d") | {"separator": "/", "source_labels": ["a", "b"]}],
        ABC | {"d": "foo"},
    ),
    # Without source labels, a fixed value; without a replacement, none.
    ({}, [{"target_label": "cluster", "replacement": "prod"}], {"cluster": "prod"}),
    ({"a": "x"}, [{"target_label": "a", "replacement": ""}], {}),
    ({"a": "x"}, [{"source_labels": ["a"], "target_label": "b"}], {"a": "x", "b": "x"}),
    # An absent label is empty, and what is written empty is removed.
    ({"b": "x"}, [{"source_labels": ["a"], "target_label": "b"}], {}),
    # What doesn't match stays; all of a value must match.
    ({"a": "boo"}, [replace("a", "f", "b", "bar")], {"a": "boo"}),
    ({"a": "foo"}, [replace("a", "f|o", "b", "bar")], {"a": "foo"}),
    ({"a": "abc"}, [replace("a", ".*(b).*", "d")], {"a": "abc", "d": "b"}),
    # A line break is a character like others.
    (LINES, [replace("a", "line1.*line2", "d", "match${1}")], LINES | {"d": "match"}),
    # The target's name is expanded, and left alone where that gives none.
    ({"a": "foo", "f": "baz"}, [replace("a", "(f).*", "$1", "$2")], {"a": "foo"}),
    ({"a": "is-b-c"}, [replace("a", "is-(.)-(.)", "${1}", "$2")], {"a": "is-b-c", "b": "c"}),
    ({"a": "is-b-c"}, [replace("a", "is-(.)-(.)", "${1}", "$3")], {"a": "is-b-c"}),
    ({"a": "is-b-c"}, [replace("a", "is-(.)-(.)", "${3}", "x")], {"a": "is-b-c"}),
    # Names of any characters, as in Prometheus 3.
    ({"a.b": "x"}, [replace("a.b", "(.)", "c-ü.${1}", "y")], {"a.b": "x", "c-ü.x": "y"}),
    # A tag of several.
    (
        {"tags": "path:/secret,job:some-job,label:foo=bar"},
        [
            replace("tags", "(?:.+,|^)job:([^,]+).*", "job"),
            replace("tags", "(?:.+,|^)label:([^=]+)=([^,]+).*", "$1", "$2"),
            {"action": "labeldrop", "regex": "tags"},
        ],
        {"job": "some-job", "foo": "bar"},
    ),
    # Nothing comes after a drop.
    (ABC, [{"action": "drop", "source_labels": ["a"], "regex": ".*o.*"}], None),
    (
        ABC,
        [
            {"action": "drop", "source_labels": ["a"], "regex": "foo"},
            {"target_label": "a", "replacement": "x"},
        ],
        None,
    ),
    (ABC, [{"action": "drop", "source_labels": ["a"], "regex": "f|o"}], ABC),
    (ABC, [{"action": "drop", "source_labels": ["a", "z", "b"], "regex": "foo;;bar"}], None),
    (ABC, [{"action": "keep", "source_labels": ["a"], "regex": "fo"}], None),
    (ABC, [{"action": "keep", "source_labels": ["a"], "regex": "^f.*$"}], ABC),
    (ABC, [{"action": "keep", "source_labels": ["z"], "regex": ".+"}], None),
    (ABC, [{"action": "DROP", "source_labels": ["a"], "regex": "(?i)FOO"}], None),
    (PORTS, [{"action": "keepequal", "source_labels": ["one"], "target_label": "same"}], PORTS),
    (PORTS, [{"action": "keepequal", "source_labels": ["one"], "target_label": "other"}], None),
    (PORTS, [{"action": "dropequal", "source_labels": ["one"], "target_label": "same"}], None),
    (PORTS, [{"action": "dropequal", "source_labels": ["one"], "target_label": "other"}], PORTS),
    # Labels that aren't there are equal.
    (PORTS, [{"action": "dropequal", "source_labels": ["y"], "target_label": "z"}], None),
    # The last eight bytes of MD5, as Prometheus takes them.
    (
        ABC,
        [{"action": "hashmod", "source_labels": ["c"], "target_label": "d", "modulus": 1000}],
        ABC | {"d": "976"},
    ),
    (
        {"a": "foo\nbar"},
        [{"action": "hashmod", "source_labels": ["a"], "target_label": "b", "modulus": 1000}],
        {"a": "foo\nbar", "b": "734"},
    ),
    # Old names stay beside the new ones.
    (
        {"a": "foo", "b1": "bar", "b2": "baz"},
        [{"action": "labelmap", "regex": "(b.*)", "replacement": "to_${1}"}],
        {"a": "foo", "b1": "bar", "b2": "baz", "to_b1": "bar", "to_b2": "baz"},
    ),
    ({"x_a": "1"}, [{"action": "labelmap", "regex": "x_(.*)"}], {"x_a": "1", "a": "1"}),
    ({"x_a": "1"}, [{"action": "labelmap", "regex": "x_.*"}], {"x_a": "1"}),
    # Of labels that get one name, that which was written last counts, else the last by name.
    (
        {"b2": "2", "b1": "1"},
        [{"action": "labelmap", "regex": "b.", "replacement": "b"}],
        {"b1": "1", "b2": "2", "b": "2"},
    ),
    (
        {"b2": "2", "b1": "1"},
        [
            {"target_label": "b1", "replacement": "new"},
            {"action": "labelmap", "regex": "b.", "replacement": "b"},
        ],
        {"b1": "new", "b2": "2", "b": "new"},
    ),
    (
        {"a": "foo", "b1": "bar", "b2": "baz"},
        [{"action": "labelkeep", "regex": "b.*"}],
        {"b1": "bar", "b2": "baz"},
    ),
    (
        {"a": "foo", "b1": "bar", "b2": "baz"},
        [{"action": "labeldrop", "regex": "b.*"}],
        {"a": "foo"},
    ),
    # A label that was removed may be written again.
    (
        {"port": "foo", "metrics": "9091"},
        [
            {"action": "labeldrop", "regex": "^port$"},
            replace("metrics", "(.+)", "port", "metrics"),
            {"action": "keep", "source_labels": ["port"], "regex": "^metrics$"},
        ],
        {"port": "metrics", "metrics": "9091"},
    ),
    # Letter by letter, as Go does it: ß has no capital, and a sigma at the end is like others.
    (
        {"a": "bAr123ß", "g": "ΟΔΟΣ İ"},
        [
            {"action": "uppercase", "source_labels": ["a"], "target_label": "a"},
            {"action": "lowercase", "source_labels": ["g"], "target_label": "g"},
        ],
        {"a": "BAR123ß", "g": "οδοσ i"},
    ),
    (
        {"a": "ǆᾳé"},
        [{"action": "uppercase", "source_labels": ["a"], "target_label": "b"}],
        {"a": "ǆᾳé", "b": "ǄᾼÉ"},
    ),
    # Labels without a value are none.
    ({"a": "", "b": "x"}, [], {"b": "x"}),
]


@pytest.mark.parametrize(("labels", "rules", "expected"), CASES)
def test_rules_do_to_labels_what_prometheus_does(
    labels: Labels, rules: list[Rule], expected: Labels | None
) -> None:
    before = dict(labels)
    assert relabel(labels, *rules) == expected
    assert labels == before


@pytest.mark.parametrize(
    ("replacement", "value"),
    [
        ("$1", "one"),
        ("${1}", "one"),
        ("$0", "one-two"),
        ("$1-$2", "one-two"),
        ("$second", "two"),
        ("${second}", "two"),
        ("$seconds", ""),
        ("${second}s", "twos"),
        ("$1x", ""),
        ("${1}x", "onex"),
        ("$10", ""),
        ("$01", ""),
        ("$3", ""),
        ("${3}", ""),
        ("$9999999999999999999", ""),
        ("$$1", "$1"),
        ("$$$1", "$one"),
        ("a$", "a$"),
        ("$-", "$-"),
        ("${", "${"),
        ("${}", "${}"),
        ("${1", "${1"),
        ("${1-}", "${1-}"),
        ("$é", ""),
        ("é$1", "éone"),
    ],
)
def test_a_replacement_is_expanded_as_go_does_it(replacement: str, value: str) -> None:
    rule = replace("a", "(one)-(?P<second>.*)", "b", replacement)
    assert relabel({"a": "one-two", "b": "was"}, rule) == {"a": "one-two"} | (
        {"b": value} if value else {}
    )


def test_a_group_that_took_no_part_is_empty() -> None:
    assert relabel({"a": "y"}, replace("a", "(x)?y", "b", "<$1>")) == {"a": "y", "b": "<>"}


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({}, "replace needs a label to write or compare; set target_label"),
        ({"action": "lowercase"}, "lowercase needs a label"),
        ({"action": "keepequal"}, "keepequal needs a label"),
        ({"action": "hashmod", "target_label": "a"}, "set modulus, as modulus = 4"),
        ({"action": "hashmod", "modulus": 4}, "hashmod needs a label"),
        ({"action": "hashmod", "target_label": "a", "modulus": -1}, "greater than or equal to 0"),
        ({"action": "hashmod", "target_label": "a", "modulus": 2**64}, "less than or equal to"),
        ({"action": "labelmap", "replacement": ""}, "labelmap needs a new name; set replacement"),
        (
            {"action": "uppercase", "target_label": "a", "replacement": "x"},
            "uppercase writes the joined values; remove replacement",
        ),
        ({"action": "labeldrop", "source_labels": ["a"]}, "only regex; remove source_labels"),
        ({"action": "labelkeep", "target_label": "a"}, "only regex; remove target_label"),
        ({"action": "labeldrop", "separator": "-"}, "only regex; remove separator"),
        ({"action": "labeldrop", "replacement": "x"}, "only regex; remove replacement"),
        ({"action": "labeldrop", "modulus": 2}, "only regex; remove modulus"),
        (
            {"action": "dropequal", "target_label": "a", "regex": "x"},
            "dropequal takes only source_labels and target_label; remove regex",
        ),
        ({"action": "drop", "regex": "("}, "should be a regular expression as Prometheus has them"),
        ({"action": "drop", "regex": "a)|(b"}, "unexpected )"),
        ({"action": "drop", "regex": "(?!a)b"}, "should be a regular expression"),
        ({"action": "drop", "regex": r"(a)\1"}, "should be a regular expression"),
        ({"action": "drop", "regex": r"\Qa"}, "should be a regular expression"),
        ({"action": "drop", "regex": r"a\C"}, r"without \C, a single byte; take . for it"),
        ({"action": "drop", "source_labels": [""]}, "at least 1 character"),
        ({"action": "dorp"}, "should be 'replace', 'keep', 'drop'"),
        ({"action": 1}, "should be 'replace', 'keep', 'drop'"),
        ({"action": "drop", "source_label": ["a"]}, "Extra inputs are not permitted"),
    ],
)
def test_a_rule_that_prometheus_would_refuse_is_refused(rule: Rule, told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        RelabelRule(**rule)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "rule",
    [
        {"action": "lowercase", "target_label": "${3}"},
        {"target_label": "0${3}"},
        {"target_label": "utf-8.label"},
        {"action": "labelmap", "regex": "x_(.+)"},
        {"action": "labeldrop", "regex": "id", "source_labels": [], "separator": ";"},
        {"action": "drop", "regex": r"\QC:\Code\E"},
        {"action": "drop", "regex": r"a\\C"},
        {"action": "drop"},
    ],
)
def test_a_rule_that_prometheus_takes_is_taken(rule: Rule) -> None:
    assert relabel({}, rule) in ({}, None)


WRONG = """[gateway]
port = 9201
[[gateway.relabel]]
action = "drop"
source_labels = ["namespace"]
regex = "kube-.*"
[[gateway.relabel]]
# What follows is wrong.
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('regex = "("\n', ":9: gateway.relabel[1].regex: should be a regular expression as Prom"),
        ('action = "dorp"', ":9: gateway.relabel[1].action: should be 'replace', 'keep', 'drop'"),
        (
            'source_label = ["a"]',
            ":9: gateway.relabel[1].source_label: no such key in a rule; did ",
        ),
        ('source_labels = "a"', ':9: gateway.relabel[1].source_labels: should be a list, as ["a",'),
        ("modulus = -1", ":9: gateway.relabel[1].modulus: should be greater than or equal to 0"),
        ('action = "hashmod"', ":7: gateway.relabel[1]: hashmod needs to know what to divide by; "),
    ],
)
def test_a_wrong_rule_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "watchkeep.toml"
    file.write_text(WRONG + text)
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert f"{file}{told}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_rules_are_read_from_the_file_in_order(tmp_path: Path) -> None:
    file = tmp_path / "watchkeep.toml"
    file.write_text(WRONG + 'action = "labeldrop"\nregex = "uid"')
    rules = load(file).gateway.relabel
    assert [rule.action for rule in rules] == ["drop", "labeldrop"]
    assert Relabel(rules).apply({"namespace": "kube-system"}) is None
    assert Relabel(rules).apply({"namespace": "shop", "uid": "1"}) == {"namespace": "shop"}


texts = st.text(max_size=20)
label_sets = st.dictionaries(st.text(min_size=1, max_size=8) | st.sampled_from("abc"), texts)
regexes = st.sampled_from(
    [
        "(.*)",
        ".+",
        "[^a]*",
        "(a|b)+",
        "(?P<n>.)(.*)",
        r"\w+",
        "(?i)A.*",
        r"\pL*",
        "^$",
        "",
        ".*?(.)",
    ]
)
templates = st.text("$${}12n_aß-", max_size=8)
names = st.text(min_size=1, max_size=4) | st.sampled_from("abc")
sources = st.lists(names, max_size=3)
choices: st.SearchStrategy[Rule] = st.builds(
    dict,
    action=st.sampled_from(["keep", "drop"]),
    source_labels=sources,
    regex=regexes,
    separator=st.text(max_size=2),
)
equalities: st.SearchStrategy[Rule] = st.builds(
    dict,
    action=st.sampled_from(["keepequal", "dropequal"]),
    source_labels=sources,
    target_label=names,
)
rewritings: st.SearchStrategy[Rule] = st.one_of(
    st.builds(
        dict,
        source_labels=sources,
        regex=regexes,
        target_label=templates.filter(bool),
        replacement=templates,
    ),
    st.builds(dict, action=st.just("labelmap"), regex=regexes, replacement=templates.filter(bool)),
    st.builds(dict, action=st.sampled_from(["labeldrop", "labelkeep"]), regex=regexes),
    st.builds(
        dict,
        action=st.sampled_from(["lowercase", "uppercase", "hashmod"]),
        source_labels=sources,
        target_label=names,
        modulus=st.integers(1, 2**64 - 1),
    ),
)


@given(labels=label_sets, rules=st.lists(choices | equalities, max_size=4))
def test_keep_and_drop_change_no_labels(labels: Labels, rules: list[Rule]) -> None:
    kept = relabel(labels, *rules)
    assert kept is None or kept == {name: value for name, value in labels.items() if value}


@given(labels=label_sets, rule=choices | equalities)
def test_of_keep_and_drop_one_keeps_what_the_other_drops(labels: Labels, rule: Rule) -> None:
    other = {"keep": "drop", "drop": "keep", "keepequal": "dropequal", "dropequal": "keepequal"}
    opposite = rule | {"action": other[rule["action"]]}
    assert (relabel(labels, rule) is None) is not (relabel(labels, opposite) is None)


@given(labels=label_sets, rules=st.lists(rewritings | choices | equalities, max_size=5))
def test_any_text_can_be_rewritten(labels: Labels, rules: list[Rule]) -> None:
    rewritten = relabel(labels, *rules)
    assert rewritten == relabel(dict(reversed(labels.items())), *rules)
    assert rewritten is None or all(name and value for name, value in rewritten.items())


def test_no_text_makes_an_expression_slow() -> None:
    """Python's own expressions would need years for it."""
    text = "a" * 100_000 + "!"
    begin = time.monotonic()
    assert (
        relabel({"a": text}, {"action": "keep", "source_labels": ["a"], "regex": "(a*)*"}) is None
    )
    assert relabel({"a": text}, replace("a", "(a|aa)+(.*)+", "b", "$2")) is not None
    assert time.monotonic() - begin < 5


# What Debian's Prometheus 2.42 does too: names of letters, and no line breaks.
OLD = [
    replace("a", "f(.*)", "d", "ch${1}-$1"),
    replace("b", "(?P<first>.).*", "e_$first", "${first}$$$2"),
    replace("c", "x", "c", "never"),
    {"source_labels": ["a", "z", "b"], "separator": "+", "target_label": "joined"},
    {"target_label": "c", "replacement": ""},
    {"action": "uppercase", "source_labels": ["b"], "target_label": "up"},
    {"action": "lowercase", "source_labels": ["up"], "target_label": "low"},
    {"action": "hashmod", "source_labels": ["a", "b"], "target_label": "h", "modulus": 2**63 + 5},
    {"action": "labelmap", "regex": "([ab])", "replacement": "copy_$1"},
    {"action": "labelmap", "regex": "[ab]|up", "replacement": "last"},
    {"action": "labeldrop", "regex": "u.|e_f"},
]
SETS = [
    {"a": "foo", "b": "bar", "c": "baz"},
    {"a": "f", "b": "x ΟΔΟΣ ß", "up": "stays?"},
    {"b": "fß", "c": "x"},
    {"a": "$1", "n": "1"},
]
SELECTIONS = [
    {"action": "keep", "source_labels": ["a"], "regex": "f.*"},
    {"action": "drop", "source_labels": ["a", "b"], "regex": "f.*;(bar|.*ß)"},
    {"action": "keepequal", "source_labels": ["a"], "target_label": "b"},
    {"action": "dropequal", "source_labels": ["c"], "target_label": "n"},
]


@pytest.fixture
def promtool(need_program: Callable[[str], str]) -> str:
    need_program("prometheus")  # Debian's package of this name brings both.
    return need_program("promtool")


@pytest.mark.prometheus
@pytest.mark.parametrize("rules", [OLD, *([rule] for rule in SELECTIONS)])
def test_prometheus_makes_the_same_of_labels(
    tmp_path: Path, promtool: str, rules: list[Rule]
) -> None:
    job = {
        "job_name": "x",
        "relabel_configs": rules,
        "static_configs": [{"targets": ["t:80"], "labels": labels} for labels in SETS],
    }
    file = tmp_path / "prometheus.yml"
    file.write_text(json.dumps({"scrape_configs": [job]}))
    command = [promtool, "check", "service-discovery", "--timeout=1s"]
    told = subprocess.run([*command, str(file), "x"], capture_output=True, check=True, text=True)
    found = json.loads(told.stdout)
    assert len(found) == len(SETS)
    for target in found:
        mine = relabel(target["discoveredLabels"], *rules)
        if target["labels"]:
            # Prometheus names each target that has no name.
            mine = mine and {"instance": "t:80"} | mine
        assert (mine or {}) == target["labels"]


@pytest.mark.prometheus
@pytest.mark.parametrize(
    "rule",
    [
        *OLD[:7],
        *SELECTIONS,
        {},
        {"action": "hashmod", "target_label": "a"},
        {"action": "labelmap", "replacement": ""},
        {"action": "uppercase", "target_label": "a", "replacement": "x"},
        {"action": "labeldrop", "source_labels": ["a"]},
        {"action": "labelkeep", "regex": "a", "separator": "-"},
        {"action": "dropequal", "target_label": "a", "regex": "x"},
        {"action": "keepequal"},
        {"action": "drop", "regex": "("},
        {"action": "drop", "regex": "(?!a)b"},
        {"action": "drop", "regex": r"\C"},
        {"action": "drop", "regex": "a{1001}"},
        {"action": "drop", "regex": r"[[:alpha:]]+\pL\p{Greek}\x{41}\Qa.b\E"},
        {"action": "Drop"},
        {"action": "dorp"},
    ],
)
def test_prometheus_takes_and_refuses_the_same_rules(
    tmp_path: Path, promtool: str, rule: Rule
) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(json.dumps({"scrape_configs": [{"job_name": "x", "relabel_configs": [rule]}]}))
    told = subprocess.run(
        [promtool, "check", "config", str(file)], capture_output=True, check=False
    )
    try:
        RelabelRule(**rule)
    except ValidationError:
        assert told.returncode
    else:
        assert not told.returncode, told.stderr
