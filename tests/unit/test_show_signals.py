"""What is watched, as people and programs are shown it."""

import json
import re
from collections.abc import Awaitable, Callable

import pytest
from rich.console import Console

from small_catalogue import AT_MS, CART, NODE, SHARD, cells, fill
from watchkeep.schemas.errors import ConfigError
from watchkeep.streams.catalogue import Catalogue
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.show_signals import find, list_entities, list_signals, show
from watchkeep.streams.stores import Write

URL = "http://gateway:9201/api/v1/write"

Show = Callable[..., Awaitable[None]]


async def shown(
    what: Show, name: str = "", *, width: int = 100, as_json: bool = False, empty: bool = False
) -> str:
    """Show something of the small catalogue, or of an empty store."""
    store = MemoryStore()
    if not empty:
        await fill(store)
    console = Console(width=width, highlight=False, force_terminal=False)
    with console.capture() as capture:
        await what(store, console, name, URL, as_json=as_json)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


async def test_entities_are_listed_with_their_counts() -> None:
    assert await shown(list_entities) == (
        "kind      entity     signals  may page  series  members  dropped\n"
        "job       x                -         -       -        -        2\n"
        "node      n1               1         -      12        3        -\n"
        "workload  shop/cart        5         2      48        3       17\n"
        "\n"
        "3 entities, 6 signals of which 2 may page, from 60 series; 19 series are dropped"
    )


@pytest.mark.parametrize("pattern", ["shop/*", "workload/prod/*", "*cart"])
async def test_a_pattern_picks_some(pattern: str) -> None:
    told = await shown(list_entities, pattern)
    assert "shop/cart" in told
    assert "1 entity, 5 signals" in told


async def test_a_pattern_of_titles_picks_nodes() -> None:
    assert "node_load1" in await shown(list_signals, "node *")


async def test_what_is_too_much_to_be_named_is_told() -> None:
    store, console = MemoryStore(), Console(width=200)
    await fill(store)
    unnamed = SHARD.dropped[0]._replace(entity="", metric="", series=900)
    await store.write_catalogue([Catalogue(4, dropped=(unnamed,))])
    with console.capture() as capture:
        await list_entities(store, console, "", URL, as_json=False)
    assert "900 series more are dropped, too many" in capture.get()


async def test_several_clusters_are_told_apart() -> None:
    store = MemoryStore()
    await fill(store)
    dropped = SHARD.dropped[0]._replace(entity=CART.replace("prod", "test"))
    await store.write_catalogue([Catalogue(4, dropped=(dropped,))])
    console = Console(width=100)
    with console.capture() as capture:
        await list_entities(store, console, "", URL, as_json=False)
    assert "workload  shop/cart  test" in capture.get()
    with pytest.raises(ConfigError, match=r"several clusters have shop/cart; name one of workload"):
        await show(store, console, "shop/cart", URL, as_json=False)


async def test_what_fits_nothing_has_near_misses() -> None:
    assert await shown(list_entities, "shop/crat") == (
        "nothing that is watched fits 'shop/crat'; did you mean shop/cart?"
    )


@pytest.mark.parametrize("what", [list_entities, list_signals])
async def test_an_empty_store_says_what_to_do(what: Show) -> None:
    told = await shown(what, empty=True, width=200)
    assert told.startswith(f"no data has arrived yet: have a Prometheus write to {URL}; ")
    with pytest.raises(ConfigError, match="no data has arrived yet"):
        await shown(show, "shop/cart", empty=True)


async def test_data_without_a_catalogue_is_only_early() -> None:
    store, console = MemoryStore(), Console(width=200)
    await store.write_rollups([cells()], Write("a", 1))
    with console.capture() as capture:
        await list_entities(store, console, "", URL, as_json=False)
    assert "detect hasn't told yet what it watches" in capture.get()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("shop/crat", "did you mean shop/cart?"),
        ("cart", "did you mean shop/cart?"),
        ("n1", "did you mean node n1?"),
        ("workload/prod/shop/card", "did you mean workload/prod/shop/cart?"),
        ("[red]\n", "`watchkeep signals list` lists all"),
    ],
)
def test_a_wrong_name_has_near_misses(name: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        find(name, [CART, NODE])
    assert str(refused.value).endswith(told)
    assert "\n" not in str(refused.value)


async def test_an_entity_is_shown_whole() -> None:
    told = await shown(show, "shop/cart")
    assert told == await shown(show, CART)
    assert told.startswith(
        "shop/cart, a workload in cluster prod\n5 signals of 3 members, 2 may page\n\nMay page\n"
    )
    assert (
        '  http_requests_total{code="5xx"}  1234 1/s\n'
        "    rate of 12 series over 3 members, every 60 s; folded away: container, instance, pod\n"
        "    Errors that its callers see.\n"
        "    Ready: what its last cell showed is seen about 13 times a week.\n"
    ) in told
    assert "Warms up: it has 40% of the history that it needs before it may page." in told
    assert re.search(r"process_max_fds +308\.6, asleep +mean +60 s +12 +3\n", told)
    assert "  info  17 series of 2 metrics\n    It says what is.\n    for example kube" in told
    assert "  signals_per_entity: 37 times, last 2026-03-02 00:00 UTC\n" in told


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("what", [list_entities, list_signals, show])
async def test_no_name_reaches_the_terminal_raw_or_makes_lines_too_long(
    what: Show, width: int
) -> None:
    told = await shown(what, "shop/cart", width=width)
    assert "\x1b" not in told
    assert max(map(len, told.splitlines())) <= width
    assert "[red]x" in told or what is list_entities


async def test_what_is_folded_otherwise_than_most_says_so() -> None:
    store, console = MemoryStore(), Console(width=100)
    await fill(store)
    feeds = [f._replace(folded=()) if f.signal_id == 3 else f for f in SHARD.feeds]
    await store.write_catalogue([SHARD._replace(feeds=tuple(feeds))])
    with console.capture() as capture:
        await show(store, console, "shop/cart", URL, as_json=False)
    assert "folded away: nothing" in capture.get()


async def test_who_never_pages_is_told_so() -> None:
    assert "1 signal of 3 members: it is never paged for" in await shown(show, "node n1")
    assert "0 signals: it is never paged for" in await shown(show, "job x")


async def test_programs_read_json() -> None:
    counts = [json.loads(line) for line in (await shown(list_entities, as_json=True)).splitlines()]
    assert counts[2] == {
        "entity": CART,
        "title": "shop/cart",
        "kind": "workload",
        "cluster": "prod",
        "namespace": "shop",
        "name": "cart",
        "signals": 5,
        "page": 2,
        "series": 48,
        "members": 3,
        "dropped": 17,
    }
    signals = await shown(list_signals, "*", as_json=True)
    assert len([json.loads(line) for line in signals.splitlines()]) == 6
    told = json.loads(await shown(show, "shop/cart", as_json=True))
    assert [len(told[part]) for part in ("page", "evidence", "dropped", "refusals")] == [2, 3, 2, 1]
    assert told["page"][1]["title"] == 'http_requests_total{code="5xx"}'
    assert told["page"][1]["at_ms"] == AT_MS
    assert told["page"][1]["last"]["warmup"] == 1.0


async def test_infinity_is_no_json_number() -> None:
    store, console = MemoryStore(), Console(width=100)
    await fill(store)
    endless = tuple(feed._replace(value=float("inf")) for feed in SHARD.feeds)
    await store.write_catalogue([SHARD._replace(feeds=endless)])
    with console.capture() as capture:
        await list_signals(store, console, "*", URL, as_json=True)
    assert {json.loads(line)["value"] for line in capture.get().splitlines()} == {None}
