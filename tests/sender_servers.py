"""Real senders of remote write for the tests, and the gateway as a process that they send to.

    with GatewayProcess(folder / "gateway", broker=broker) as gateway:
        config = sending(gateway.write_url, [], protobuf_message=VERSION_2)
        with Prometheus3(folder / "prometheus", config=config) as prometheus:
            ...

When it has come to rest, what it says it has sent can be held against the log: see `Told`.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, ClassVar, Final, NamedTuple, Self

import cramjam
from prometheus_client.parser import text_string_to_metric_families

from real_servers import HttpServer, Prometheus, built, part_missing
from servers import ServerError
from watchkeep.schemas.remote_write_pb2 import WriteRequest
from watchkeep.schemas.settings import Broker

VERSION_1: Final = "prometheus.WriteRequest"
VERSION_2: Final = "io.prometheus.write.v2.Request"
REPLICA_LABEL: Final = "prometheus_replica"
_WRITE: Final = "/api/v1/write"
_STORAGE: Final = "prometheus_remote_storage_"
# A remote-read request for all that there is: one query, to the end of time, `__name__ != ""`.
_MATCHER: Final = b"\x08\x01\x12\x08__name__"
_QUERY: Final = b"\x10" + b"\xff" * 8 + b"\x7f" + b"\x1a" + bytes([len(_MATCHER)]) + _MATCHER
_ALL: Final = b"\x0a" + bytes([len(_QUERY)]) + _QUERY


def prometheus3_missing() -> str:
    """Tell that Prometheus 3 is missing and how to get it; nothing when it is there."""
    return part_missing("prometheus", "Prometheus 3")


def otel_missing() -> str:
    """Tell that OpenTelemetry's exporter is missing and how to get it; nothing when it is there."""
    return part_missing("otel-exporter", "OpenTelemetry's remote-write exporter")


def sending(
    url: str, scraped: Sequence[HttpServer], *, cluster: str = "test", **remote_write: object
) -> dict[str, Any]:
    """Tell Prometheus to scrape each second, and to send what it has to a URL.

    Args:
        url: where the receiver is.
        scraped: who is scraped beside Prometheus itself.
        cluster: what it says where it is; two that send to one gateway are to differ.
        remote_write: further options of its remote write.
    """
    labels = {"cluster": cluster, REPLICA_LABEL: "a"}
    return {
        "global": {"scrape_interval": "1s", "external_labels": labels},
        "scrape_configs": [server.scrape() for server in scraped],
        "remote_write": [
            {
                "url": url,
                "send_native_histograms": True,
                "send_exemplars": True,
                "queue_config": {"batch_send_deadline": "500ms"},
                "metadata_config": {"send_interval": "2s"},
                **remote_write,
            }
        ],
    }


class Told(NamedTuple):
    """What a Prometheus says it has sent, as its own metrics count it.

    Attributes:
        tried: the samples of floats that it has sent, some of them more than once.
        samples: those that were taken.
        histograms: native ones that were taken.
        lost: of samples, histograms and exemplars, how many were refused or never sent.
        pending: of all three, how many wait or are under way.
    """

    tried: int
    samples: int
    histograms: int
    lost: int
    pending: int

    @classmethod
    def by(cls, prometheus: Prometheus) -> Self:
        """Ask it now; what it has scraped of itself is older."""
        counts = _storage(prometheus)

        def total(kind: str, *endings: str) -> int:
            return round(sum(counts[f"{kind}_{ending}"] for ending in endings))

        def taken(kind: str) -> int:
            return total(kind, "total") - total(kind, "retried_total", "failed_total")

        kinds = ("samples", "histograms", "exemplars")
        return cls(
            tried=total("samples", "total"),
            samples=taken("samples"),
            histograms=taken("histograms"),
            lost=sum(total(kind, "failed_total", "dropped_total") for kind in kinds),
            pending=sum(total(kind, "pending") for kind in kinds),
        )


def _storage(prometheus: Prometheus) -> dict[str, float]:
    """Ask for all metrics of remote storage, each summed over its labels."""
    connection = prometheus.connect()
    connection.request("GET", "/metrics", headers={"Accept": "text/plain"})
    text = connection.getresponse().read().decode()
    connection.close()
    found: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for name, _, value, *_ in family.samples:
            if name.startswith(_STORAGE):
                found[name.removeprefix(_STORAGE)] += value
    return found


def stored(prometheus: Prometheus) -> WriteRequest:
    """Read all that a Prometheus has scraped, with the bits of each value and the stale markers.

    Its remote read gives them as its remote write would send them, external labels and all.
    """
    connection = prometheus.connect()
    body = bytes(cramjam.snappy.compress_raw(_ALL))
    connection.request("POST", "/api/v1/read", body, {"Content-Encoding": "snappy"})
    answer = connection.getresponse()
    read = answer.read()
    connection.close()
    if answer.status != HTTPStatus.OK:
        raise ServerError(f"{prometheus.name} can't be read: {read.decode(errors='replace')}")
    plain = bytes(cramjam.snappy.decompress_raw(read))
    # One result stands in the answer behind a tag and its length, and has the layout of a request.
    length = next(at for at, byte in enumerate(plain[1:], 1) if byte < 0x80)
    return WriteRequest.FromString(plain[length + 1 :])


@dataclass
class GatewayProcess(HttpServer):
    """`watchkeep gateway` on a broker whose topics are there."""

    broker: Broker = field(default_factory=Broker)

    name = "watchkeep gateway"
    job = "gateway"
    ready = "/readyz"

    @property
    def write_url(self) -> str:
        """Where it takes remote write."""
        return f"http://{self.address}{_WRITE}"

    def _prepare(self) -> None:
        super()._prepare()
        (self.folder / "watchkeep.toml").write_text(
            f'data_dir = "{self.data}"\n'
            f'broker.bootstrap = "{self.broker.bootstrap}"\n'
            f"broker.idempotent = {json.dumps(self.broker.idempotent)}\n"
            # One is asked of every stage, but this one uses none.
            'database.url = "postgresql://nobody@127.0.0.1:1/nothing"\n'
            f"gateway.port = {self.port}\n"
        )

    def _command(self) -> list[str]:
        config = str(self.folder / "watchkeep.toml")
        return [sys.executable, "-m", "watchkeep.streams.cli", "--config", config, "gateway"]


@dataclass
class Prometheus3(Prometheus):
    """Prometheus 3.8: it sends remote write 2.0 when told so, and 1.0 by default.

    It has native histograms of its own, and with the features that are on by default here the
    metadata of each series.
    """

    features: tuple[str, ...] = ("native-histograms", "metadata-wal-records", "exemplar-storage")

    name = "Prometheus 3"

    def _program(self) -> str:
        return str(built("prometheus"))


@dataclass
class OtelExporter(HttpServer):
    """OpenTelemetry's exporter to remote write; it sends what it is given in OTLP.

    Attributes:
        options: the exporter's own.
    """

    options: Mapping[str, Any] = field(default_factory=dict)

    name = "OpenTelemetry's exporter"
    job = "otel"
    ready = "/"
    _typed: ClassVar[Mapping[str, str]] = {"Content-Type": "application/json"}

    def export(self, metrics: Mapping[str, Any]) -> str:
        """Give it an OTLP request; tell why it couldn't send all of it, nothing when it could."""
        connection = self.connect()
        connection.request("POST", "/v1/metrics", json.dumps(metrics), dict(self._typed))
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        connection.close()
        return "" if answer.status == HTTPStatus.OK else f"{answer.status}: {text}"

    def _prepare(self) -> None:
        super()._prepare()
        (self.folder / "options.json").write_text(json.dumps(self.options))

    def _command(self) -> list[str]:
        return [str(built("otel-exporter")), self.address, str(self.folder / "options.json")]
