"""Which windows tell of rest, and which of which fault."""

from dataclasses import replace

import numpy as np

from rest_record import Recording, Stretch
from rest_report import Detected, Page, figures, finished, gone_on, rarest, shared_out
from watchkeep.schemas.frame import Frame, FrameKind, encode
from watchkeep.schemas.window import Direction, Evidence, Window, WindowState

MINUTE_MS = 60_000
REST = Stretch("rest", 0, 60 * MINUTE_MS)
LOAD = Stretch("load", 60 * MINUTE_MS, 64 * MINUTE_MS)
DISK = Stretch("disk", 70 * MINUTE_MS, 74 * MINUTE_MS)
STRETCHES = [REST, LOAD, DISK]
NODE = "node/test//n1"
NAN = float("nan")


def page(minute: float, entity: str = NODE, *since_minutes: float) -> Page:
    """Make a page at a minute; its evidence began at others, or then."""
    at_ms = round(minute * MINUTE_MS)
    window = Window(
        window_id=f"{entity}@{minute}",
        revision=1,
        state=WindowState.OPEN,
        entity=entity,
        onset_ms=at_ms,
        detected_ms=at_ms,
        at_ms=at_ms,
        ended_ms=None,
        settings="s",
        backlog=False,
        strength=1.0,
        evidence=tuple(evidence(since) for since in since_minutes or (minute,)),
    )
    return Page(at_ms, window, window)


def evidence(since_minute: float) -> Evidence:
    return Evidence(
        signal="node_load5",
        metric="node_load5",
        labels={},
        unit="",
        channel="spike",
        direction=Direction.ABOVE,
        observed=9,
        expected=1,
        low=0,
        high=2,
        score=1,
        threshold=0,
        since_ms=round(since_minute * MINUTE_MS),
        peak=9,
        peak_ms=round(since_minute * MINUTE_MS),
        peak_score=1,
        members=1,
    )


def test_a_page_belongs_to_the_stretch_that_began_last() -> None:
    """The time after a fault is that fault's; what came before all stretches is rest's."""
    pages = [page(-1), page(59.9), page(60), page(69), page(70), page(99)]
    assert shared_out(STRETCHES, pages) == [pages[:2], pages[2:4], pages[4:]]


def test_without_pages_each_stretch_has_none() -> None:
    assert shared_out(STRETCHES, []) == [[], [], []]


def test_an_open_window_goes_on_when_it_takes_in_something_new() -> None:
    """Not those that open in the stretch, nor those whose evidence is all of before or after."""
    joined = page(61, "node/test//joined", 61, 71)
    pages = [page(61), joined, page(62, NODE, 62, 81), page(71, NODE, 71)]
    assert gone_on(DISK, 80 * MINUTE_MS, pages) == [joined]


def test_figures_tell_of_the_first_page_of_each_fault_and_of_all_entities() -> None:
    found = Detected(pages=[page(61.5), page(62, "job/test//etcd")])
    found.rarity[NODE] = {0: NAN, 55 * MINUTE_MS: -3.0}
    found.rarity["job/test//etcd"] = {57 * MINUTE_MS: -2.0}
    assert figures(STRETCHES, found) == {
        "rest_minutes": 60.0,
        "rest_judged_minutes": 5.0,
        "rest_pages": 0,
        "load_paged_s": 90,
        "load_paged": [NODE, "job/test//etcd"],
        "disk_paged_s": None,
        "disk_paged": [],
    }


def test_when_nothing_was_known_at_rest_no_minute_was_judged() -> None:
    found = Detected()
    assert figures([REST], found)["rest_judged_minutes"] == 0
    found.rarity[NODE] = {61 * MINUTE_MS: -1.0}
    assert figures([REST], found)["rest_judged_minutes"] == 0


def test_how_rare_an_entity_was_passes_over_cells_in_which_nothing_was_known() -> None:
    rarity = {0: 3.0, 1: NAN, 2: -1.0, 3: -2.0, 4: 5.0}
    assert rarest(rarity, 1, 4) == -1.0
    assert np.isnan(rarest(rarity, 1, 2))
    assert np.isnan(rarest(rarity, 9, 10))


def test_a_stretch_that_was_cut_off_ends_with_the_last_frame() -> None:
    tick = Frame(FrameKind.TICK, "gateway-0", 65 * MINUTE_MS, "rules", ())
    recording = Recording({1: [encode(tick)]}, [REST, LOAD._replace(end_ms=0)])
    recording.frames[2] = [encode(replace(tick, gateway_ms=66 * MINUTE_MS))]
    assert finished(recording) == [REST, LOAD._replace(end_ms=66 * MINUTE_MS)]
