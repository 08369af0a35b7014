"""`watchkeep shop`: the simulated shop, for a system of one's own, as files, and its faults."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

# Commands import what they need when they run: help and errors come at once.
# ruff: noqa: PLC0415


def wishes(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which shop."""
    for option in (
        click.option(
            "--faults",
            type=click.Path(path_type=Path),
            help="Folder with kinds of faults of your own, instead of the shipped ones.",
        ),
        click.option(
            "--days",
            default=0.5,
            show_default=True,
            type=click.FloatRange(0.1, 60),
            help="How much event time. The demo sends the last of several days, and writes those "
            "before straight to the store.",
        ),
        click.option("--seed", default=1, show_default=True, help="Another seed, another day."),
    ):
        command = option(command)
    return command


_pair = click.option(
    "--pair", is_flag=True, help="A highly available pair of Prometheus sends everything twice."
)


@click.group()
def shop() -> None:
    """Use the demo's simulated shop yourself: eleven services, their stores, nodes and faults.

    The same seed is always the same shop, to the last bit.
    """


@shop.command("send")
@click.argument("url")
@_pair
@wishes
def send_shop(url: str, seed: int, days: float, faults: Path | None, *, pair: bool) -> None:
    """Send it to a remote-write URL, as fast as that takes it.

    The days of the shop lie in March 2026: a Watchkeep that is to find anything needs the setting
    `clock = "event"`.

    \b
    Example: watchkeep shop send http://127.0.0.1:9201/api/v1/write --days 0.5
    """  # noqa: D301 - Click's own mark.
    from rich.console import Console

    from watchkeep.streams.shop_sender import Sent, send

    made = _shop(seed, days, faults, pair=pair)
    asyncio.run(send(made, url, Console(stderr=True), Sent()))


@shop.command("write")
@click.argument("folder", type=click.Path(path_type=Path))
@_pair
@wishes
def write_shop(folder: Path, seed: int, days: float, faults: Path | None, *, pair: bool) -> None:
    """Write it into a folder: samples and series as Parquet, truth and events as JSON.

    \b
    Example: watchkeep shop write /tmp/shop --seed 7
    """  # noqa: D301 - Click's own mark.
    from watchkeep.shop import parquet

    samples = parquet.write(_shop(seed, days, faults, pair=pair), folder)
    click.echo(f"{samples:,} samples are in {folder}")


@shop.command("truth")
@wishes
def tell_truth(seed: int, days: float, faults: Path | None) -> None:
    """Print what happens in it, as JSON: faults and what only looks like one, and changes."""
    from watchkeep.shop.truth import as_json

    made = _shop(seed, days, faults)
    click.echo(json.dumps(as_json(made.plan, made.truth), indent=1))


@shop.command("faults")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
def list_faults(folder: Path | None) -> None:
    """List the kinds of faults that are shipped, or check and list those of a folder."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from watchkeep.shop.blueprint import FULL
    from watchkeep.shop.strikes import chosen

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("kind", "", "strikes", "what it is"):
        table.add_column(heading)
    for name, kind in chosen(folder, FULL).items():
        fault = "[red]fault[/]" if kind.fault else "no fault"
        table.add_row(escape(name), fault, kind.target, escape(kind.title))
    Console(highlight=False).print(table)


def _shop(seed: int, days: float, faults: Path | None, *, pair: bool = False) -> Any:  # noqa: ANN401 - It is imported late.
    from watchkeep.shop.blueprint import FULL
    from watchkeep.shop.model import Shop
    from watchkeep.shop.strikes import chosen

    return Shop(seed, days, kinds=chosen(faults, FULL), replicas=2 if pair else 1)
