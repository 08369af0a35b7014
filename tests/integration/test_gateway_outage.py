"""Real senders, a real broker that goes and comes back, a gateway that dies: nothing is lost."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from conftest import absent
from real_servers import NodeExporter, Prometheus
from sender_servers import (
    REPLICA_LABEL,
    VERSION_2,
    GatewayProcess,
    Prometheus3,
    Told,
    prometheus3_missing,
    sending,
    stored,
)
from servers import Kafka
from watchkeep.schemas.frame import SHARDS, FrameKind, decode
from watchkeep.schemas.histograms import STALE_BITS
from watchkeep.schemas.labels import canonical, parse, series_id, text
from watchkeep.schemas.settings import Broker
from watchkeep.streams import kafka
from watchkeep.streams.topics import METRICS, specs

pytestmark = [pytest.mark.broker, pytest.mark.prometheus]

OUTAGE_S = 60
# Several requests: what is under way counts as sent until the sender hears otherwise.
FLOWS = 5_000
WITHIN_S = 60
# Scrapes are a second apart, and what they bring is sent half a second later.
QUIET_S = 2.5
# Of what is scraped each second, a fraction that is there on any machine.
SCRAPED_MIN = 100


class Sample(NamedTuple):
    """One sample; of a native histogram, its sum is the value."""

    series: int
    time_ms: int
    bits: int


class Topic(NamedTuple):
    """What the topic of metrics holds.

    Attributes:
        samples: all of them, those of each series in their order.
        unnamed: those whose label set doesn't stand before or with them in their partition.
        labels: the label set of each series.
    """

    samples: list[Sample]
    unnamed: list[Sample]
    labels: dict[int, dict[str, str]]

    def in_order(self) -> set[Sample]:
        """Keep of each series only what is newer than all that was kept before."""
        newest_ms: dict[int, int] = {}
        kept = set()
        for sample in self.samples:
            if sample.time_ms > newest_ms.get(sample.series, -1):
                newest_ms[sample.series] = sample.time_ms
                kept.add(sample)
        return kept

    def of(self, cluster: str) -> set[Sample]:
        """Tell what a sender's samples are, each once."""
        own = {series for series, labels in self.labels.items() if labels["cluster"] == cluster}
        return {sample for sample in self.samples if sample.series in own}


class Scraped(NamedTuple):
    """What a Prometheus has scraped, as its own store holds it."""

    samples: set[Sample]
    labels: dict[int, dict[str, str]]

    @classmethod
    def by(cls, prometheus: Prometheus) -> "Scraped":
        """Read its store."""
        found = cls(set(), {})
        for series in stored(prometheus).timeseries:
            labels = {label.name: label.value for label in series.labels}
            del labels[REPLICA_LABEL]
            number = series_id(canonical(labels.items()))
            found.labels[number] = labels
            rows = [(one.timestamp, one.value) for one in series.samples]
            rows += [(one.timestamp, one.sum) for one in series.histograms]
            bits = _bits(np.array([value for _, value in rows]))
            found.samples.update(
                Sample(number, time_ms, own) for (time_ms, _), own in zip(rows, bits, strict=True)
            )
        return found


def _bits(value: npt.NDArray[np.float64]) -> list[int]:
    bits: list[int] = value.view(np.uint64).tolist()
    return bits


async def read_topic(broker: Broker) -> Topic:
    reader = kafka.LogReader(broker.bootstrap, METRICS)
    spans = await reader.spans(range(SHARDS))
    found = Topic([], [], {})
    known: dict[int, set[int]] = defaultdict(set)
    async for record in reader.between(spans):
        assert record.value is not None
        frame = decode(record.value)
        if frame.kind is not FrameKind.DATA:
            continue
        for entry in frame.label_sets:
            known[record.partition].add(entry.series_id)
            found.labels[entry.series_id] = parse(entry.labels)
        floats = (frame.series_id, frame.time_ms, frame.value)
        histograms = frame.histograms.series_id, frame.histograms.time_ms, frame.histograms.sum
        for series, time_ms, value in (floats, histograms):
            columns = series.tolist(), time_ms.tolist(), _bits(value)
            samples = [Sample(*row) for row in zip(*columns, strict=True)]
            found.samples.extend(samples)
            own = known[record.partition]
            found.unnamed.extend(one for one in samples if one.series not in own)
    await reader.close()
    return found


def until(true: Callable[[], object], what: Callable[[], str]) -> None:
    end_s = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < end_s, what()
        time.sleep(0.2)


def go_on(senders: Iterable[Prometheus], gateway: GatewayProcess) -> None:
    """Wait until each of them gets rid of samples again."""
    for sender, begin in [(sender, Told.by(sender).samples) for sender in senders]:
        goes_on(sender, begin, gateway)


def goes_on(sender: Prometheus, begin: int, gateway: GatewayProcess) -> None:
    until(
        lambda: Told.by(sender).samples > begin + FLOWS,
        lambda: f"{sender.name} can't send: {Told.by(sender)}; {tail(gateway)}",
    )


def all_sent(sender: Prometheus, gateway: GatewayProcess) -> Told:
    """Let it rest, and wait until it has sent all it has."""
    sender.rest()
    last, since_s = Told.by(sender), time.monotonic()

    def quiet() -> bool:
        nonlocal last, since_s
        told = Told.by(sender)
        if told.pending or told != last:
            last, since_s = told, time.monotonic()
        return time.monotonic() - since_s > QUIET_S

    until(quiet, lambda: f"{sender.name} isn't rid of what it has: {last}; {tail(gateway)}")
    return last


def tail(gateway: GatewayProcess) -> str:
    return "\n".join(["the gateway said", *gateway.log.read_text().splitlines()[-30:]])


def example(samples: Iterable[Sample], labels: dict[int, dict[str, str]]) -> str:
    """Tell how many there are, and one of them; nothing when there are none."""
    found = sorted(samples)
    if not found:
        return ""
    first = found[0]
    name = text(labels.get(first.series, {"series_id": str(first.series)}))
    return f"{len(found)} samples, for instance {name} at {first.time_ms}, {first.bits:#018x}"


class Outcome(NamedTuple):
    """What is there when all is over, of each sender by its cluster.

    Attributes:
        span_ms: from when to when the broker was gone.
        refusals: how often the gateway's log tells that it had a sender send again.
    """

    told: dict[str, Told]
    scraped: dict[str, Scraped]
    topic: Topic
    span_ms: tuple[float, float]
    refusals: int


def disturb(broker_server: Kafka, folder: Path) -> Outcome:
    """Stop the broker, kill it, kill the gateway; each goes on before the next."""
    broker = Broker(bootstrap=broker_server.address)
    asyncio.run(kafka.create_topics(broker.bootstrap, specs()))
    with (
        GatewayProcess(folder / "gateway", broker=broker) as gateway,
        NodeExporter(folder / "node-exporter") as exporter,
    ):
        url, scraped = gateway.write_url, [exporter]
        config_1 = sending(url, scraped, cluster="one")
        config_2 = sending(url, scraped, cluster="two", protobuf_message=VERSION_2)
        first = Prometheus(folder / "prometheus", config=config_1)
        second = Prometheus3(folder / "prometheus-3", config=config_2)
        senders = {"one": first, "two": second}
        with first:
            go_on([first], gateway)
            broker_server.stop()
            begin_s = time.time()
            # The log has never heard of the second, so the first write of each series fails.
            with second:
                time.sleep(begin_s + OUTAGE_S - time.time())
                end_s = time.time()
                broker_server.start()
                go_on(senders.values(), gateway)
                # Now they are in the middle of what they have to catch up with.
                broker_server.kill()
                broker_server.start()
                go_on(senders.values(), gateway)
                gateway.kill()
                gateway.start()
                go_on(senders.values(), gateway)
                exporter.stop()
                time.sleep(QUIET_S)
                told = {cluster: all_sent(one, gateway) for cluster, one in senders.items()}
                stores = {cluster: Scraped.by(one) for cluster, one in senders.items()}
        refusals = gateway.log.read_text().count("nothing was taken, send it again")
        topic = asyncio.run(read_topic(broker))
    return Outcome(told, stores, topic, (begin_s * 1000, end_s * 1000), refusals)


def test_nothing_is_lost_while_broker_and_gateway_go_and_come_back(
    kafka_server: Kafka, short_dir: Path, need_program: Callable[[str], str]
) -> None:
    """What is in the log twice or late is so by its time, and labels never come too late."""
    need_program("prometheus")
    need_program("prometheus-node-exporter")
    if what := prometheus3_missing():
        absent(what)
    found = disturb(kafka_server, short_dir)
    topic, distinct = found.topic, set(found.topic.samples)
    begin_ms, end_ms = found.span_ms
    for cluster, scraped in found.scraped.items():
        own, sent, told = scraped.samples, topic.of(cluster), found.told[cluster]
        out = sum(begin_ms < sample.time_ms < end_ms for sample in own)
        assert out > OUTAGE_S * SCRAPED_MIN, f"{cluster} has scraped {out} in the outage"
        lost = example(own - distinct, scraped.labels)
        assert not lost, f"of {len(own)} samples of {cluster} the topic lacks {lost}"
        added = example(sent - own, topic.labels)
        assert not added, f"{cluster} has never scraped {added}"
        assert told.lost == 0, f"{cluster} has dropped some: {told}"
        assert len(sent) >= told.samples + told.histograms, f"{cluster}: {len(sent)} of {told}"
        assert told.tried > told.samples, f"{cluster} had to send nothing again: {told}"
    unnamed = example(topic.unnamed, topic.labels)
    assert not unnamed, f"of {len(topic.samples)} samples these come before their labels: {unnamed}"
    late = example(distinct - topic.in_order(), topic.labels)
    assert not late, f"of {len(distinct)} samples these come after newer ones only: {late}"
    assert any(sample.bits == STALE_BITS for sample in distinct), "no series has ended"
    assert found.refusals > 0, "the gateway has never told a sender to send again"
