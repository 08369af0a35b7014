"""Why it fired or didn't, as people and programs are told."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from small_catalogue import CART, HOSTILE
from small_history import BEGIN_MS, MINUTES, WINDOW, cells, fill, renamed
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import BudgetRule, Detect, Settings
from watchkeep.schemas.window import Window, WindowState
from watchkeep.streams import inspect_plot
from watchkeep.streams.cli_inspect import Asked, answer
from watchkeep.streams.inspect_names import moment, read, seconds
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.stores import Write

ERRORS = 'http_requests_total{code="5xx"}'
NEWEST_MS = BEGIN_MS + 119 * 60_000


async def asked(
    name: str,
    signal: str = "",
    *,
    at: str = "",
    windows: tuple[Window, ...] = (),
    plot: Path | None = None,
    as_json: bool = False,
    width: int = 100,
    span: str = "6h",
    detect: Detect | None = None,
) -> str:
    """Ask of the small history."""
    store = MemoryStore()
    await fill(store, *windows)
    console = Console(width=width, highlight=False, force_terminal=False)
    settings = Settings(detect=detect or Detect())
    with console.capture() as capture:
        await answer(store, console, settings, Asked(name, signal, at, span, plot, as_json))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


async def verdict(name: str, **how: Any) -> tuple[str, str]:  # noqa: ANN401 - They are those of `asked`.
    """Ask, and give the verdict with its words."""
    told = json.loads(await asked(name, as_json=True, **how))
    return told["verdict"], told["why"]


async def test_what_fired_is_told_with_its_window_and_its_strongest_evidence() -> None:
    assert await verdict("shop/cart", at="00:35") == (
        "fired",
        (
            "It fired: a window was open from 00:30 to 00:45, found at 00:32. At its strongest it "
            f"was seen about once a month. Its strongest evidence: {ERRORS} reached 12.5 1/s "
            "where 0.5 to 2 1/s was expected, seen about once in 7 months."
        ),
    )


async def test_a_window_says_what_is_odd_about_it() -> None:
    still = renamed(WINDOW, "w", state=WindowState.OPEN, ended_ms=None, backlog=True)
    _, why = await verdict("shop/cart", windows=(still,))
    assert why.startswith("It fired: a window is open since 00:30, found at 00:32. It was found in")
    gone = WINDOW.evidence[0].model_copy(
        update={"unit": "", "peak": 1, "expected": 3, "reason": "members are missing"}
    )
    missed = renamed(WINDOW, "w", evidence=(*WINDOW.evidence, gone))
    _, why = await verdict("shop/cart", at="00:35", windows=(missed,))
    assert why.endswith("Somebody was missed: 1 of 3 members are there: members are missing.")
    _, why = await verdict("shop/cart", at="00:31")
    assert "That was after the time asked about." in why


@pytest.mark.parametrize(
    ("at", "told", "why"),
    [
        (
            "00:20",
            "calm",
            (
                "It didn't: what it showed was nothing unusual; a window opens at once a week. The "
                "rarest signal that may page was p99(http_request_duration_seconds): seen about 3 "
                "times a week (-0.5), to envelope."
            ),
        ),
        ("01:50", "calm", "That alone isn't enough: with many signals"),
        (
            "00:50",
            "cooling",
            "but a window had closed at 00:45, and for 30 min only what is stronger or new",
        ),
        ("01:40", "untold", "but no window of this time is stored"),
        ("2026-03-01", "nothing", "nor of any before; the newest cell is of 2026-03-02 01:59 UTC."),
        ("2026-03-03", "nothing", "of this time; the newest cell is of 2026-03-02 01:59 UTC."),
    ],
)
async def test_why_it_did_not_fire(at: str, told: str, why: str) -> None:
    found = await verdict("shop/cart", at=at)
    assert found[0] == told
    assert why in found[1]


async def test_who_can_not_fire_is_told_why() -> None:
    assert await verdict("node n1") == (
        "warming",
        "It couldn't: it was warming up, with 40% of the history that it needs before it may page.",
    )
    assert (await verdict("job shop/nightly"))[0] == "never"
    assert (await verdict("shop/payments"))[0] == "asleep"


async def test_an_entity_is_shown_with_its_signals_the_rarest_first() -> None:
    assert await asked("shop/cart", at="00:36") == await asked(CART, at="2026-03-02T01:36+01:00")
    shown = await asked("shop/cart", at="00:36")
    assert "entity's rarity  +0.80, seen about once a month\n" in shown
    assert "window opens at  0, by a budget of 1 a week, detect.budget\n" in shown
    assert "may page         2 signals, 2 of them warmed up\n" in shown
    assert "window           b56f8cffd93155ed  from 00:30 to 00:45, found 00:32, about" in shown
    rows = shown[shown.index("signal ") :].splitlines()
    assert [row.split()[0] for row in rows[1:3]] == [ERRORS, "p99(http_request_duration_seconds)"]
    # The envelope looked two minutes before.
    assert rows[2].split()[1:] == ["↑", "1.25", "s", "0.5..2", "-3.0", "-0.5", "-", "-"]


async def test_a_signal_is_shown_with_its_last_cells() -> None:
    shown = await asked("shop/cart", ERRORS, at="00:31")
    assert shown.startswith(f"{ERRORS} of shop/cart, a workload in cluster prod\nIt fired")
    flat = " ".join(shown.split())
    assert "It may page when it rises: Errors that its callers see. By itself it was" in flat
    assert f"In the window it is evidence: {ERRORS} reached 12.5 1/s" in flat
    assert "00:29 1 1/s 1 0.5..2 -3.0 -1.8 - - -3.0 00:30 9 1/s 1 0.5..2 +1.5" in flat


@pytest.mark.parametrize("signal", ["", ERRORS])
async def test_the_column_of_a_chosen_model_is_there_where_it_told_something(signal: str) -> None:
    store = MemoryStore()
    await fill(store)
    last = cells(119)
    river = {"river": np.where(np.arange(len(last.value)) == 0, 2.25, np.nan)}
    told = replace(last, channels={**last.channels, **river})
    await store.write_rollups([told], Write("a", MINUTES + 1))
    console = Console(width=100, highlight=False, force_terminal=False)
    with console.capture() as capture:
        await answer(
            store, console, Settings(), Asked("shop/cart", signal, "", "6h", None, as_json=False)
        )
    shown = capture.get()
    assert "member river" in " ".join(shown.split())
    assert "+2.2" in shown
    assert "to river." in shown or not signal
    assert "river" not in await asked("shop/cart", signal)


async def test_what_a_signal_lacks_is_said() -> None:
    flat = " ".join((await asked("p50(http_request_duration_seconds)", at="00:35")).split())
    assert "It never pages, and only explains." in flat
    assert "It is no evidence of the window." in flat
    flat = " ".join((await asked("node_load1")).split())
    assert "It was warming up: it had 40% of the history that it needs." in flat
    assert "It sleeps: it was constant" in await asked("shop/payments", "up")
    assert "It has no cell of this time." in await asked("node_load1", at="-3h")


async def test_a_budget_of_its_own_is_named_if_it_is_still_in_force() -> None:
    own = Detect(budget=3, budgets=(BudgetRule(entity="*/shop/cart", budget=1),))
    assert "a budget of 1 a week, detect.budgets\n" in await asked("shop/cart", detect=own)
    assert "a budget of 1 a week\n" in await asked("shop/cart", detect=Detect(budget=3))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("shop/crat",), "no entity and no signal is called 'shop/crat'; did you mean shop/cart"),
        (("cart",), "did you mean shop/cart?"),
        (("http_request_total",), "did you mean http_requests_total?"),
        (("[red]\n",), "`watchkeep signals list` lists what is watched"),
        (("job shop/gone",), "nothing of job shop/gone is watched; `watchkeep signals show 'job"),
        (("shop/cart", "up"), "shop/cart has no signal up; `watchkeep signals show"),
        (("shop/cart", "http_requests"), f"did you mean {ERRORS}"),
        (("shop/cart", "up{"), "this is no series"),
        (("up{x}",), "this is no series"),
        (("shop/crat", ERRORS), "did you mean shop/cart"),
    ],
)
async def test_a_wrong_name_has_advice(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        await asked(*words)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_of_several_signals_each_is_named_as_one_asks_for_it() -> None:
    with pytest.raises(ConfigError) as refused:
        await asked(ERRORS)
    assert str(refused.value) == (
        f"2 signals fit {ERRORS}; ask for one of them:\n"
        f"  watchkeep inspect shop/cart '{ERRORS}'\n"
        f"  watchkeep inspect shop/payments '{ERRORS}'"
    )
    with pytest.raises(ConfigError, match="2 signals fit http_request_duration_seconds"):
        await asked("shop/cart", "http_request_duration_seconds")


@pytest.mark.parametrize("signal", ["http_requests_total", 'http_requests_total{ code = "5xx" }'])
async def test_labels_may_be_left_out_while_one_signal_fits(signal: str) -> None:
    assert await asked("shop/cart", signal) == await asked("shop/cart", ERRORS)


async def test_an_empty_store_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="nothing is stored yet; `watchkeep doctor`"):
        await answer(
            MemoryStore(),
            Console(),
            Settings(),
            Asked("shop/cart", "", "", "6h", None, as_json=False),
        )


def test_signals_are_read_as_they_are_written() -> None:
    assert read(' p99(x{a="1"}) ') == ("x", {"a": "1"}, "p99")
    assert read("average(x)") == ("x", {}, "average")
    assert read("x") == ("x", {}, None)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("-2h", -1),
        ("-1h30m", 29),
        ("01:59", 119),
        ("02:00", 120 - 24 * 60),
        ("00:05:30", 5.5),
        ("2026-03-02T00:07", 7),
        ("2026-03-02 01:07+01:00", 7),
        ("2026-03-02T00:07:00Z", 7),
    ],
)
def test_times_are_read(text: str, minutes: float) -> None:
    assert moment(text, NEWEST_MS) == BEGIN_MS + minutes * 60_000


@pytest.mark.parametrize("text", ["soon", "25:00", "-2", "-", "2026-13-01", "-0h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--at: "):
        moment(text, NEWEST_MS)
    with pytest.raises(ConfigError, match="is no length of time"):
        seconds(text, "--span")


@pytest.mark.parametrize("width", [80, 100, 140])
async def test_no_name_reaches_the_terminal_raw_or_makes_lines_too_long(width: int) -> None:
    for words in (("shop/cart",), ("shop/cart", "queue_length"), ("node n1",)):
        shown = await asked(*words, width=width)
        assert "\x1b" not in shown
        assert max(map(len, shown.splitlines())) <= width
    assert HOSTILE.strip() not in shown


async def test_programs_read_json_that_is_described() -> None:
    told = json.loads(await asked("shop/cart", ERRORS, at="00:35", as_json=True))
    assert (told["entity"], told["signal"], told["at"]) == (CART, ERRORS, "2026-03-02T00:35:00Z")
    assert (told["rarity"], told["threshold"], told["budget"]) == (0.8, 0.0, 1.0)
    assert told["window"] == told["windows"][0]["window_id"] == WINDOW.window_id
    assert told["signals"][0]["channels"]["spike"] == {"rarity": 1.5, "at_ms": BEGIN_MS + 2_100_000}
    assert len(told["cells"]) == 120
    described = (Path(__file__).parents[2] / "docs" / "inspect.md").read_text()
    cell = told["signals"][0]["cell"]
    for name in [*told, *told["signals"][0], *told["cells"][0], *cell]:
        assert f"`{name}`" in described


async def test_infinity_is_no_json_number() -> None:
    told = await asked("shop/cart", as_json=True)
    assert "Infinity" not in told
    assert "NaN" not in told


@pytest.mark.parametrize("kind", ["png", "svg"])
@pytest.mark.parametrize(
    "words", [("shop/cart",), ("shop/cart", ERRORS), ("shop/cart", "queue_length")]
)
async def test_it_is_drawn(tmp_path: Path, kind: str, words: tuple[str, ...]) -> None:
    file = tmp_path / f"it.{kind}"
    await asked(*words, at="00:35", plot=file, span="2h")
    begin = file.read_bytes()[:200]
    assert begin.startswith(b"\x89PNG") if kind == "png" else b"<?xml" in begin


async def test_what_can_not_be_drawn_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no cell is stored of this time; another"):
        await asked("shop/cart", at="2026-03-01", plot=tmp_path / "it.png")
    with pytest.raises(ConfigError, match=r"has to end in \.png or \.svg"):
        inspect_plot.check(tmp_path / "it.pdf")
    with pytest.raises(ConfigError, match="can't be written: name a file"):
        inspect_plot.check(tmp_path / "nowhere" / "it.png")


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ConfigError, match=r"matplotlib is missing; pip install 'watchkeep\[plots\]'"
    ):
        inspect_plot.check(tmp_path / "it.png")
