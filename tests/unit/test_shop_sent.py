"""The same samples as remote write, as frames and as Parquet; events and truth beside them."""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from small_shop import small_shop
from taking import read, take_body
from watchkeep.schemas import frame
from watchkeep.schemas.entity import Entity, EntityRules
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.labels import parse
from watchkeep.schemas.settings import Settings
from watchkeep.shop import parquet
from watchkeep.shop.batches import Batch
from watchkeep.shop.frames import frames
from watchkeep.shop.model import Shop
from watchkeep.shop.remote_write import encode, requests
from watchkeep.streams.clocks import EventClock
from watchkeep.streams.intake import Intake

Sample = tuple[int, int, int]


def bits(value: float) -> int:
    return int(np.float64(value).view(np.uint64))


def test_requests_hold_every_sample_as_it_is_and_in_order() -> None:
    shop = Shop(1, 0.02)
    batches = list(shop.batches(5_000))
    sent = [request for request in requests(shop, 5_000) if request.samples]
    assert len(sent) == len(batches)
    for request, batch in zip(sent, batches, strict=True):
        entries = read(request.body).timeseries
        assert request.samples == len(entries) == len(batch.value)
        for entry, series, time_ms, value in zip(
            entries, batch.series.tolist(), batch.time_ms.tolist(), batch.value, strict=True
        ):
            labels = [(label.name, label.value) for label in entry.labels]
            assert labels == sorted(shop.series[series][0].items())
            (sample,) = entry.samples
            assert (sample.timestamp, bits(sample.value)) == (time_ms, bits(value))


def test_a_series_has_one_entry_where_scrapes_are_gathered() -> None:
    shop = Shop(1, 0.02)
    sent = [request for request in requests(shop, 20_000, grouped=True) if request.samples]
    for request, batch in zip(sent, shop.batches(20_000), strict=True):
        entries = read(request.body).timeseries
        numbers = np.unique(batch.series).tolist()
        assert len(entries) == len(numbers) < len(batch.value) == request.samples
        for entry, number in zip(entries, numbers, strict=True):
            labels = [(label.name, label.value) for label in entry.labels]
            assert labels == sorted(shop.series[number][0].items())
            own = batch.series == number
            assert [s.timestamp for s in entry.samples] == batch.time_ms[own].tolist()
            assert [bits(s.value) for s in entry.samples] == [bits(v) for v in batch.value[own]]


@pytest.mark.parametrize("time_ms", [0, 1, 2**35 - 1, 2**35, 2**42 - 1, 2**42, 2**50])
def test_times_of_any_length_are_sent(time_ms: int) -> None:
    shop = small_shop(1, 0.01)
    batch = Batch(np.array([3], np.int32), np.array([time_ms]), np.array([2.5]))
    (entry,) = read(encode(batch, shop.series)).timeseries
    assert [(s.timestamp, s.value) for s in entry.samples] == [(time_ms, 2.5)]


@pytest.mark.parametrize("shop", [Shop(1, 0.03), small_shop(1, 0.05)], ids=["full", "small"])
def test_a_gateway_learns_kind_and_help_of_every_series(shop: Shop) -> None:
    intake = Intake(Settings(clock="event").gateway, EntityRules(), EventClock())
    kinds: dict[str, int] = {}
    told: dict[str, str] = {}
    for request in requests(shop, 5_000):
        decoded = read(request.body)
        told |= {entry.metric_family_name: entry.help for entry in decoded.metadata}
        assert not take_body(intake, request.body)
        kinds |= {
            parse(known.labels)["__name__"]: known.kind for known in intake._known.labels if known
        }
        intake.drain()
    expected = {labels["__name__"]: kind for labels, kind in shop.series}
    assert kinds == {name: expected[name] for name in kinds}
    assert len(kinds) > 0.9 * len(expected)
    assert told == {name: text for name, (_, text) in shop.families.items()}


def unpacked(
    records: Iterable[tuple[int, bytes]],
) -> tuple[set[Sample], dict[int, tuple[str, str, bytes, int]]]:
    """Give all samples of records, and what they tell of each series."""
    samples: set[Sample] = set()
    labels: dict[int, tuple[str, str, bytes, int]] = {}
    for shard, record in records:
        read = frame.decode(record)
        for entry in read.label_sets:
            labels[entry.series_id] = (entry.entity, entry.member, entry.labels, shard)
        assert set(read.series_id.tolist()) <= set(labels), "no sample comes before its labels"
        if len(read.series_id):
            assert read.senders[0].newest_ms >= int(read.time_ms.max())
        samples |= set(
            zip(
                read.series_id.tolist(),
                read.time_ms.tolist(),
                read.value.view(np.uint64).tolist(),
                strict=True,
            )
        )
    return samples, labels


@pytest.mark.parametrize(
    "shop",
    [Shop(1, 0.02), Shop(1, 0.01, replicas=2), small_shop(1, 0.1)],
    ids=["full", "pair", "small"],
)
def test_frames_hold_what_the_gateway_makes_of_the_requests(shop: Shop) -> None:
    intake = Intake(Settings(clock="event").gateway, EntityRules(), EventClock())
    taken: list[tuple[int, bytes]] = []
    for request in requests(shop, 5_000):
        assert not take_body(intake, request.body)
        taken += [(shard, one) for shard, many in intake.drain().items() for one in many]
    made = [(record.shard, record.value) for record in frames(shop, 20_000)]
    assert unpacked(made) == unpacked(taken)


def test_frames_tell_their_labels_again_and_every_shard_how_far_they_are() -> None:
    shop = small_shop(1, 0.05)
    told: dict[int, int] = defaultdict(int)
    reached: dict[int, int] = defaultdict(int)
    for record in frames(shop, 2_000):
        read = frame.decode(record.value)
        for entry in read.label_sets:
            told[entry.series_id] += 1
        reached[record.shard] = max(sender.newest_ms for sender in read.senders)
    assert np.median(list(told.values())) >= 5
    assert len(reached) == frame.SHARDS
    assert min(reached.values()) > shop.end_ms - 2 * 60_000


def test_parquet_holds_all_samples_series_truth_and_events(tmp_path: Path) -> None:
    shop = Shop(1, 0.15)
    count = parquet.write(shop, tmp_path)
    (batch,) = shop.batches(10**9)
    table = pyarrow.parquet.read_table(tmp_path / "samples-0000.parquet")
    assert count == len(batch.value) == table.num_rows
    value = table["value"].to_numpy()
    assert np.array_equal(value.view(np.uint64), batch.value.view(np.uint64))
    assert np.array_equal(table["time_ms"].to_numpy(), batch.time_ms)
    assert np.array_equal(table["series"].to_numpy(), batch.series)
    series = pyarrow.parquet.read_table(tmp_path / "series.parquet").to_pylist()
    assert [json.loads(row["labels"]) for row in series] == [labels for labels, _ in shop.series]
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert [entry["kind"] for entry in truth["strikes"]] == [s.kind.name for s in shop.strikes]
    assert all(Entity.from_key(change["entity"]) for change in truth["changes"])
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == shop.events
    with pytest.raises(ConfigError, match="has samples already"):
        parquet.write(shop, tmp_path)


def test_without_pyarrow_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'watchkeep\[parquet\]'"):
        parquet.write(small_shop(1, 0.01), tmp_path)


def test_events_are_what_the_api_serves_and_tell_of_every_pod() -> None:
    shop = Shop(1, 1.0)
    times = []
    started: dict[str, set[str]] = defaultdict(set)
    for event in shop.events:
        assert event["kind"] == "Event"
        about = event["involvedObject"]
        assert all(about[key] for key in ("kind", "name", "apiVersion", "uid"))
        at = datetime.fromisoformat(event["firstTimestamp"])
        times.append(at.timestamp() * 1000)
        if about["kind"] == "Pod":
            started[about["name"]].add(event["reason"])
    assert times == sorted(times)
    assert len({event["metadata"]["uid"] for event in shop.events}) == len(shop.events)
    for pod in shop.plan.pods:
        if shop.start_ms < pod.start_ms < shop.end_ms - 60_000:
            assert {"Scheduled", "Pulled", "Created", "Started"} <= started[pod.name], pod
    reasons = {event["reason"] for event in shop.events}
    assert {"ScalingReplicaSet", "SuccessfulRescale", "SuccessfulCreate", "Completed"} <= reasons
