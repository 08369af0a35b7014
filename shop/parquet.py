"""The shop written to files: samples and series as Parquet, truth as JSON, events as JSON lines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.labels import METRIC_NAME, canonical, series_id
from watchkeep.shop.batches import Batch
from watchkeep.shop.model import Shop
from watchkeep.shop.truth import as_json

_SAMPLES_A_FILE: Final = 20_000_000
_SAMPLES_A_GROUP: Final = 1_000_000


def write(shop: Shop, folder: Path) -> int:
    """Write all of a shop into a folder; return how many samples there are.

    `samples-*.parquet` have `series`, `time_ms` and `value`; `series.parquet` tells the labels of
    each number.

    Raises:
        ConfigError: pyarrow is not installed, or there are samples in the folder already.
    """
    arrow, parquet = _pyarrow()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("samples-*.parquet")):
        raise ConfigError(f"{folder} has samples already: name an empty folder")
    parquet.write_table(_series(arrow, shop), folder / "series.parquet", compression="zstd")
    truth = as_json(shop.plan, shop.truth) | {
        "seed": shop.seed,
        "start_ms": shop.start_ms,
        "warm_until_ms": shop.warm_until_ms,
        "end_ms": shop.end_ms,
    }
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    lines = (json.dumps(event, separators=(",", ":")) + "\n" for event in shop.events)
    (folder / "events.jsonl").write_text("".join(lines), encoding="utf-8")
    return _samples(arrow, parquet, shop.batches(_SAMPLES_A_GROUP), folder)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - It is large, and only this needs it.
        from pyarrow import parquet  # noqa: PLC0415 - As above.
    except ImportError as error:
        raise ConfigError(
            "Parquet needs pyarrow, which is not installed: pip install 'watchkeep[parquet]'"
        ) from error
    return pa, parquet


def _series(arrow: Any, shop: Shop) -> Any:  # noqa: ANN401 - pyarrow is imported late.
    # A series' id is that of what the gateway keeps: without the replica.
    kept = [
        {name: value for name, value in labels.items() if name != "prometheus_replica"}
        for labels, _ in shop.series
    ]
    return arrow.table(
        {
            "series": arrow.array(range(len(kept)), arrow.int32()),
            "series_id": arrow.array(
                [series_id(canonical(labels.items())) for labels in kept], arrow.uint64()
            ),
            "metric": [labels[METRIC_NAME] for labels, _ in shop.series],
            "kind": [kind.name.lower() for _, kind in shop.series],
            "labels": [json.dumps(labels, sort_keys=True) for labels, _ in shop.series],
        }
    )


def _samples(arrow: Any, parquet: Any, batches: Iterator[Batch], folder: Path) -> int:  # noqa: ANN401 - pyarrow is imported late.
    columns = {"series": arrow.int32(), "time_ms": arrow.int64(), "value": arrow.float64()}
    schema = arrow.schema(columns.items())
    count = number = 0
    batch = next(batches, None)
    while batch is not None:
        path = folder / f"samples-{number:04}.parquet"
        with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            left = _SAMPLES_A_FILE
            while batch is not None and left > 0:
                writer.write_table(arrow.table(dict(zip(columns, batch, strict=True)), schema))
                count += len(batch.value)
                left -= len(batch.value)
                batch = next(batches, None)
        number += 1
    return count
