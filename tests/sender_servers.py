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

from prometheus_client.parser import text_string_to_metric_families

from real_servers import HttpServer, Prometheus, built, part_missing
from watchkeep.schemas.settings import Broker

VERSION_1: Final = "prometheus.WriteRequest"
VERSION_2: Final = "io.prometheus.write.v2.Request"
_WRITE: Final = "/api/v1/write"
_STORAGE: Final = "prometheus_remote_storage_"


def prometheus3_missing() -> str:
    """Tell that Prometheus 3 is missing and how to get it; nothing when it is there."""
    return part_missing("prometheus", "Prometheus 3")


def otel_missing() -> str:
    """Tell that OpenTelemetry's exporter is missing and how to get it; nothing when it is there."""
    return part_missing("otel-exporter", "OpenTelemetry's remote-write exporter")


def sending(url: str, scraped: Sequence[HttpServer], **remote_write: object) -> dict[str, Any]:
    """Tell Prometheus to scrape each second, and to send what it has to a URL.

    Args:
        url: where the receiver is.
        scraped: who is scraped beside Prometheus itself.
        remote_write: further options of its remote write.
    """
    labels = {"cluster": "test", "prometheus_replica": "a"}
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
