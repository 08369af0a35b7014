"""Windows become incidents, and incidents are told in words that hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeep.enrichers.incidents import advance
from watchkeep.enrichers.template import LINES_MAX, alert_of
from watchkeep.notifiers.decide import Reason, decide
from watchkeep.notifiers.message import message_of
from watchkeep.schemas.alert import AlertState, Incident
from watchkeep.schemas.text import duration, plain
from watchkeep.schemas.window import Direction, Evidence, Window, WindowState

AT_MS = 1_772_409_600_000
MINUTE_MS = 60_000


def evidence(signal: str = "latency", score: float = 1.1, observed: float = 0.8) -> Evidence:
    return Evidence(
        signal=signal,
        metric=signal,
        labels={},
        unit="s",
        channel="ewma",
        direction=Direction.ABOVE if score > 0 else Direction.BELOW,
        observed=observed,
        expected=0.12,
        low=0.1,
        high=0.14,
        score=score,
        threshold=6,
        since_ms=AT_MS,
        peak=observed,
        peak_ms=AT_MS + MINUTE_MS,
        peak_score=score,
        members=2,
    )


def window(
    revision: int,
    state: WindowState = WindowState.OPEN,
    *seen: Evidence,
    name: str = "w1",
    backlog: bool = False,
) -> Window:
    seen = seen or (evidence(),)
    return Window(
        window_id=name,
        revision=revision,
        state=state,
        entity="workload/c/shop/cart",
        onset_ms=AT_MS,
        detected_ms=AT_MS + 3 * MINUTE_MS,
        at_ms=AT_MS + (2 + revision) * MINUTE_MS,
        ended_ms=AT_MS + 12 * MINUTE_MS if state is WindowState.CLOSED else None,
        settings="s",
        backlog=backlog,
        strength=max(abs(e.peak_score) for e in seen),
        evidence=seen,
    )


def story(*windows: Window) -> Incident:
    incident = None
    for each in windows:
        incident = advance(incident, each)
    assert incident is not None
    return incident


def test_an_incident_grows_and_is_resolved_with_its_last_window() -> None:
    incident = story(window(1), window(2), window(3, WindowState.CLOSED))
    assert incident.revision == 3
    assert incident.state is AlertState.RESOLVED
    assert incident.windows == {"w1": 3}
    assert incident.ended_ms == AT_MS + 12 * MINUTE_MS


def test_it_stays_open_while_another_window_is() -> None:
    incident = story(window(1), window(1, name="w2"), window(2, WindowState.CLOSED))
    assert incident.state is AlertState.FIRING
    assert incident.open_windows == ("w2",)


def test_evidence_keeps_the_peak_and_the_latest_observation() -> None:
    incident = story(window(1, WindowState.OPEN, evidence(score=50, observed=3)), window(2))
    (seen,) = incident.evidence
    assert (seen.observed, seen.peak, seen.peak_score) == (0.8, 3.0, 50.0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(-99, 99)), min_size=1, max_size=20))
def test_the_strongest_signal_stands_first_whatever_comes(seen: list[tuple[str, float]]) -> None:
    windows = [
        window(i + 1, WindowState.OPEN, evidence(name, score))
        for i, (name, score) in enumerate(seen)
    ]
    incident = story(*windows)
    scores = [abs(e.peak_score) for e in incident.evidence]
    assert scores == sorted(scores, reverse=True)
    assert incident.strength == max(scores)
    assert [e.signal for e in incident.evidence] == list({e.signal: 0 for e in incident.evidence})


def test_the_summary_tells_what_since_when_and_how_strong() -> None:
    alert = alert_of(story(window(1, WindowState.OPEN, evidence(), evidence("errors", 0.7))))
    assert alert.explanation.summary == (
        "shop/cart is abnormal since 2026-03-02 00:00 UTC: latency reached 0.8 s where 0.1 to "
        "0.14 s was expected, seen about once in 3 months; 1 signal more is unusual too."
    )
    assert len(alert.explanation.lines) == 2
    assert alert.pages
    assert alert.explanation.state == "template"


def test_what_signals_show_together_is_told_if_that_is_rarer() -> None:
    both = window(1, WindowState.OPEN, evidence(), evidence("errors", 0.7))
    alert = alert_of(story(both.model_copy(update={"strength": 2.0})))
    assert alert.explanation.summary.endswith(
        "; 1 signal more is unusual too. Together that is seen about once in 2 years."
    )


def test_a_mean_of_an_hour_is_told_as_one() -> None:
    hour = evidence().model_copy(update={"channel": "hour"})
    summary = alert_of(story(window(1, WindowState.OPEN, hour))).explanation.summary
    assert "latency averaged 0.8 s where" in summary


def test_a_member_that_is_unlike_the_others_is_named() -> None:
    ill = evidence("errors", 3, 0.31).model_copy(
        update={"channel": "member", "member": "cart-x", "members": 50, "expected": 0.02}
    )
    ill = ill.model_copy(update={"unit": "1/s"})
    all_of_them = evidence("errors", 0.7, 1.3)
    explanation = alert_of(story(window(1, WindowState.OPEN, ill, all_of_them))).explanation
    assert explanation.summary == (
        "shop/cart is abnormal since 2026-03-02 00:00 UTC: cart-x is unlike its 49 siblings in "
        "errors: 0.31 1/s where they show 0.02 1/s; 1 signal more is unusual too."
    )
    one, both = explanation.lines
    assert one == (
        "cart-x is unlike its 49 siblings in errors: 0.31 1/s where they show 0.02 1/s, peak 0.31 "
        "1/s, since 2026-03-02 00:00 UTC"
    )
    assert both.startswith(
        "errors: now 1.3 s, expected 0.1 to 0.14 s, peak 1.3 s (seen about once in 5"
    )
    end = alert_of(story(window(1, WindowState.CLOSED, ill))).explanation.summary
    assert end.endswith("cart-x was unlike its 49 siblings in errors: 0.31 1/s.")


def test_who_is_missing_is_told_first_and_once() -> None:
    counted = evidence("watchkeep_members", -50, 2).model_copy(update={"unit": ""})
    gone = counted.model_copy(
        update={
            "channel": "absence",
            "reason": "fewer members than are wanted",
            "expected": 3,
            "peak_score": -6.0,
        }
    )
    explanation = alert_of(story(window(1, WindowState.OPEN, counted, gone))).explanation
    assert explanation.summary == (
        "shop/cart is abnormal since 2026-03-02 00:00 UTC: 2 of 3 members are there: fewer members "
        "than are wanted."
    )
    assert explanation.lines == (
        "2 of 3 members are there: fewer members than are wanted, since 2026-03-02 00:00 UTC",
    )
    end = alert_of(story(window(1, WindowState.CLOSED, counted, gone))).explanation.summary
    assert end.endswith("2 of 3 members were there: fewer members than are wanted.")


def test_the_end_tells_peak_and_duration() -> None:
    alert = alert_of(story(window(1), window(2, WindowState.CLOSED)))
    assert alert.duration_s == 12 * 60
    assert alert.explanation.summary.startswith("shop/cart is back to normal after 12 min. ")
    assert "was 0.8 s, seen about once in 3 months" in alert.explanation.summary


def test_many_signals_are_summed_up() -> None:
    seen = [evidence(f"m{i}") for i in range(LINES_MAX + 3)]
    lines = alert_of(story(window(1, WindowState.OPEN, *seen))).explanation.lines
    assert len(lines) == LINES_MAX + 1
    assert lines[-1] == "and in 3 signals more"


def test_backlog_does_not_page() -> None:
    alert = alert_of(story(window(1, backlog=True)))
    assert not alert.pages
    assert decide(alert, []) is Reason.NOT_PAGING


@pytest.mark.parametrize(
    ("state", "sent", "reason"),
    [
        (WindowState.OPEN, [], Reason.NEW),
        (WindowState.OPEN, ["new"], Reason.ALREADY_TOLD),
        (WindowState.CLOSED, ["new"], Reason.RESOLVED),
        (WindowState.CLOSED, ["new", "resolved"], Reason.ALREADY_TOLD),
        (WindowState.CLOSED, [], Reason.NEVER_TOLD),
    ],
)
def test_each_is_told_once_and_the_end_only_to_who_heard_of_it(
    state: WindowState, sent: list[str], reason: Reason
) -> None:
    assert decide(alert_of(story(window(1, state))), sent) is reason


NASTY = "a\u202eb\u200bc\nd\x1b[31m<!channel> @here " + "x" * 500


def test_untrusted_names_are_plain_and_mention_nobody() -> None:
    alert = alert_of(story(window(1, WindowState.OPEN, evidence(NASTY))))
    message = message_of(alert, Reason.NEW)
    for text in (alert.explanation.summary, *alert.explanation.lines, message.body):
        assert not set(text) & set("\u202e\x1b")
        assert "x" * 200 not in text
    assert "@here" not in message.body
    assert "<!channel" not in message.body


def test_plain_text_is_one_short_line() -> None:
    assert plain("a\nb\x00 c") == "a b c"
    assert len(plain("x" * 500)) == 120


@pytest.mark.parametrize(
    ("seconds", "words"), [(45, "45 s"), (720, "12 min"), (3600, "1 h"), (5400, "1 h 30 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words
