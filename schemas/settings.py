"""Every setting, with its default and what it is for: the keys of `watchkeep.toml`."""

import math
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import xxhash
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    field_validator,
    model_validator,
)

from watchkeep.schemas.entity import DEFAULT_RULES, EntityRule
from watchkeep.schemas.relabel import RelabelRule
from watchkeep.schemas.signal_rules import SignalRule

Port = Annotated[int, Field(ge=1, le=65_535)]
Seconds = Annotated[float, Field(gt=0)]
Budget = Annotated[float, Field(ge=0.01, le=100)]
Glob = Annotated[str, Field(min_length=1)]

# Settings of detection that decide what is told, and leave what is known as it is.
_DECIDE: Final = {"budget", "budgets", "excluded_days", "time_zone"}

_MONITORED = ("detect", "incidents", "notify")


class Section(BaseModel):
    """A table of the file: unknown keys are refused, so a typing error can't hide."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Broker(Section):
    """Where the topics live."""

    bootstrap: str = Field(
        default="",
        pattern=r"^$|^[^\s,:]+:\d+(,[^\s,:]+:\d+)*$",
        description='host:port of Kafka brokers, comma-separated; "" starts the embedded one',
    )
    idempotent: bool = Field(
        default=True,
        description="let Kafka drop duplicates of retries and fence predecessors; the embedded "
        "broker can't",
    )
    instance: str = Field(
        default="",
        description="this worker's name in its consumer group, so that a quick restart moves no "
        "partitions; no two workers may have the same",
    )
    session_timeout_s: Seconds = Field(
        default=6.0, description="a worker that is silent for so long loses its partitions"
    )


class Database(Section):
    """Where rollups, snapshots, incidents and deliveries live."""

    url: SecretStr = Field(
        default=SecretStr(""),
        description='postgresql://user:password@host/name; "" starts the embedded one',
    )


class Sender(Section):
    """Somebody who may send, and how it proves who it is: in exactly one way.

    A name that stands twice is one sender with two secrets: so they change without a gap.
    """

    name: str = Field(min_length=1, description="what metrics and logs call it")
    bearer_token: SecretStr = Field(
        default=SecretStr(""), description="what it sends as Authorization: Bearer"
    )
    bearer_token_file: str = Field(default="", description="a file that holds it, read at start")
    user: str = Field(default="", description="its user of basic auth")
    password: SecretStr = Field(default=SecretStr(""), description="that user's password")
    password_file: str = Field(default="", description="a file that holds it, read at start")
    certificate: str = Field(
        default="",
        description="the common name, or a DNS name or URI of its client certificate, which "
        "gateway.tls.client_ca has signed",
    )
    samples_per_s: float | None = Field(
        default=None, gt=0, description="faster ones are told to wait by 503 and Retry-After"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        tokens = _given(self.bearer_token, self.bearer_token_file)
        passwords = _given(self.password, self.password_file)
        if bool(tokens) + bool(self.user or passwords) + bool(self.certificate) != 1:
            raise ValueError(
                "it proves who it is in one way; set one of bearer_token, user with password, or "
                "certificate"
            )
        if ":" in self.user:
            raise ValueError("user has a colon, which parts it from the password; take it out")
        if tokens > 1 or passwords > 1:
            raise ValueError("a secret is given, and its file too; keep one of them")
        if bool(self.user) != bool(passwords):
            raise ValueError("user and password go together; set both")
        return self


def _given(secret: SecretStr, file: str) -> int:
    return bool(secret.get_secret_value()) + bool(file)


class Auth(Section):
    """The one secret of all senders; where they have their own, [[gateway.senders]] instead."""

    bearer_token: SecretStr = Field(
        default=SecretStr(""), description="what senders send as Authorization: Bearer"
    )
    user: str = Field(default="", description="their user of basic auth")
    password: SecretStr = Field(default=SecretStr(""), description="that user's password")

    @model_validator(mode="after")
    def _both(self) -> Self:
        if ":" in self.user:
            raise ValueError("user has a colon, which parts it from the password; take it out")
        if bool(self.user) != bool(self.password.get_secret_value()):
            raise ValueError("user and password go together; set both")
        return self


class Tls(Section):
    """HTTPS in place of HTTP. Files that are renewed are taken up by new connections."""

    certificate: str = Field(
        default="", description='PEM file, its chain included; "" for plain HTTP'
    )
    key: str = Field(default="", description="PEM file of the certificate's key, not encrypted")
    client_ca: str = Field(
        default="",
        description="PEM file of who signs the senders' certificates; with it, and neither "
        "senders nor auth, every certificate that it has signed may send",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key go together; set both")
        if self.client_ca and not self.certificate:
            raise ValueError("client_ca needs a certificate and a key of the gateway's own")
        return self


class Gateway(Section):
    """The remote-write receiver."""

    name: str = Field(default="gateway-0", min_length=1, description="names this replica in frames")
    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: Port = Field(default=9201, description="port to listen on")
    cluster_label: str = Field(default="cluster", description="external label naming the cluster")
    pair_labels: tuple[str, ...] = Field(
        default=("prometheus",),
        description="external labels naming the HA pair that a replica belongs to, where a cluster "
        "has several; of each pair one is elected",
    )
    replica_labels: tuple[str, ...] = Field(
        default=("prometheus_replica", "__replica__"),
        description="external labels naming one Prometheus of an HA pair; removed from the series",
    )
    relabel: tuple[RelabelRule, ...] = Field(
        default=(),
        description="[[gateway.relabel]]: what is kept and dropped, and with which labels; as "
        "write_relabel_configs of Prometheus, one rule after the other",
    )
    linger_ms: float = Field(
        default=250.0, ge=0, le=10_000, description="longest wait for a frame to fill under load"
    )
    max_body_mb: float = Field(
        default=32.0, gt=0, description="largest request, decompressed; larger ones get 413"
    )
    active_series_max: int = Field(
        default=1_000_000,
        ge=1,
        description="series that may be known at once, those of the last hour; more are refused",
    )
    new_series_per_minute: int = Field(
        default=1_000_000, ge=1, description="series that may come new in a minute"
    )
    waiting_mb: float = Field(
        default=256.0,
        gt=0,
        description="so much may wait for the log; beyond it senders are told to come again",
    )
    future_tolerance_s: Seconds = Field(
        default=60.0, description="how far a sender's clock may lead before it is capped"
    )
    refresh_s: Seconds = Field(
        default=600.0, le=600.0, description="label sets are sent again after so long"
    )
    request_timeout_s: Seconds = Field(
        default=30.0, description="a request must have come whole after so long"
    )
    idle_timeout_s: Seconds = Field(
        default=90.0, description="a connection without a request is closed after so long"
    )
    connections_max: int = Field(
        default=10_000,
        ge=1,
        description="beyond it, the connection that has waited longest for a request is closed",
    )
    bodies_max_mb: float = Field(
        default=256.0, gt=0, description="all requests at once; what exceeds it is told to wait"
    )
    senders: tuple[Sender, ...] = Field(
        default=(), description="[[gateway.senders]]: who may send; everyone where none is set"
    )
    auth: Auth = Auth()
    tls: Tls = Tls()

    @property
    def url(self) -> str:
        """Tell where it listens."""
        return f"http{'s' if self.tls.certificate else ''}://{self.host}:{self.port}"

    @model_validator(mode="after")
    def _senders_fit(self) -> Self:
        if any(sender.certificate for sender in self.senders) and not self.tls.client_ca:
            raise ValueError("a sender by certificate needs tls.client_ca; set who signs them")
        rates: dict[str, float | None] = {}
        for sender in self.senders:
            if rates.setdefault(sender.name, sender.samples_per_s) != sender.samples_per_s:
                raise ValueError(f"senders: {sender.name!r} has two different samples_per_s")
        if self.bodies_max_mb < self.max_body_mb:
            raise ValueError("bodies_max_mb is less than max_body_mb; one request must fit")
        return self


class Entities(Section):
    """Which entity a series belongs to."""

    rules: tuple[EntityRule, ...] = Field(
        default=DEFAULT_RULES, description="tried in order, the first that fits decides"
    )


class BudgetRule(Section):
    """A budget of its own for some entities."""

    entity: str = Field(
        min_length=1,
        description="kind/cluster/namespace/name, where * stands for anything: "
        "workload/*/payments/*",
    )
    budget: Budget = Field(description="false alerts a week that a person accepts of each of them")


class RiverModel(Section):
    """A model of River beside the channels, for chosen signals: the slow path."""

    model: str = Field(
        default="",
        description="the slow path, thousands of cells a second and core and not millions: a model "
        'of river.anomaly, as StandardAbsoluteDeviation, for chosen signals; "" for none',
    )
    signals: tuple[Glob, ...] = Field(
        default=(),
        description="for which: their titles or metrics, where * stands for anything: *latency*",
    )
    parameters: dict[str, JsonValue] = Field(
        default={}, description="the model's own arguments: { n_trees = 10 }"
    )
    memory_cells: int = Field(
        default=500,
        ge=10,
        le=10_000,
        description="cells of a signal that it remembers at least; twice as many at most",
    )
    warmup_cells: int = Field(
        default=250, ge=1, le=100_000, description="cells of a signal that it sees before it counts"
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.model and not self.signals:
            raise ValueError('it says of no signals; set signals, as signals = ["*latency*"]')
        if self.model_fields_set and "model" not in self.model_fields_set:
            raise ValueError('it names no model; set model, as model = "HalfSpaceTrees"')
        return self

    def chooses(self, title: str, metric: str) -> bool:
        """Tell whether the model is for a signal."""
        return any(fnmatchcase(name, glob) for glob in self.signals for name in (title, metric))


class Detect(Section):
    """What is watched, and what is abnormal."""

    budget: Budget = Field(
        default=1.0,
        description="false alerts that a person accepts of an entity a week: the one setting of "
        "detection",
    )
    budgets: tuple[BudgetRule, ...] = Field(
        default=(),
        description="[[detect.budgets]]: entity and budget; the first that fits an entity counts",
    )
    excluded_days: tuple[date, ...] = Field(
        default=(), description="holidays and the like, as 2026-12-25: they teach nothing"
    )
    time_zone: str = Field(default="UTC", description="where those days begin, as Europe/Berlin")
    cool_down_s: Seconds = Field(
        default=1_800.0,
        description="after a window, only what is stronger or new opens another for so long",
    )
    step_s: int = Field(
        default=60,
        ge=1,
        le=300,
        description="width of a cell of the time grid, unless a rule says",
    )
    grace_s: Seconds = Field(
        default=15.0, description="a cell stays open so long past its end, for late samples"
    )
    hold_s: Seconds = Field(
        default=300.0, description="longest time that one gauge sample stands for"
    )
    signals_per_entity: int = Field(
        default=1_000, ge=1, description="further signals of an entity are dropped, and counted"
    )
    members_per_entity: int = Field(
        default=1_000, ge=1, description="further members of an entity are folded as one, (others)"
    )
    entities: int = Field(
        default=2_000,
        ge=1,
        description="further entities of a cluster in one of the 64 shards are dropped",
    )
    new_series_per_minute: int = Field(
        default=20_000,
        ge=1,
        description="of a cluster in one of the 64 shards; further ones wait for their labels to "
        "be told again",
    )
    rules: tuple[SignalRule, ...] = Field(
        default=(),
        description="[[detect.rules]]: what is watched, how, and what may page; tried before the "
        "shipped ones",
    )
    close_cells: int = Field(
        default=5, ge=1, description="calm cells in a row that close the window"
    )
    snapshot_s: Seconds = Field(
        default=180.0, description="time between two snapshots of a shard's state"
    )
    river: RiverModel = RiverModel()

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{name!r} is no time zone; Europe/Berlin is one") from error
        return name

    @property
    def version(self) -> str:
        """Name these settings: part of every window's identity."""
        return self._named({"snapshot_s"})

    @property
    def state_version(self) -> str:
        """Name what shapes the state; where only the rest differs, it is taken over."""
        return self._named({"snapshot_s", "cool_down_s", "close_cells", *_DECIDE})

    def _named(self, without: set[str]) -> str:
        if not self.river.model:
            without = without | {"river"}
        return xxhash.xxh3_64_hexdigest(self.model_dump_json(exclude=without).encode())[:8]

    def opens_at(self, entity: str) -> float:
        """Tell from which rarity on a window opens for the entity of a key."""
        fitting = (rule.budget for rule in self.budgets if fnmatchcase(entity, rule.entity))
        return -math.log10(next(fitting, self.budget))


class Notify(Section):
    """Who is told."""

    urls: tuple[SecretStr, ...] = Field(
        default=(),
        description="Apprise URLs: mailtos://user:password@host?to=..., json://host/path, ...",
    )
    terminal: bool = Field(default=True, description="also print alerts where Watchkeep runs")
    attempts: int = Field(default=5, ge=1, le=10, description="sends before one is given up")
    timeout_s: Seconds = Field(default=20.0, le=30, description="longest wait for one send")
    blind_after_s: Seconds = Field(
        default=60.0, description="people are told when the database is gone for so long"
    )


class Monitor(Section):
    """Where the stages tell how they do: /metrics, /healthz, /readyz. The gateway has its own."""

    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: int = Field(
        default=9202,
        ge=0,
        le=65_533,
        description="detect listens here, incidents on the next port, notify on the one after; "
        "0 turns it off",
    )

    def port_of(self, stage: str) -> int:
        """Tell where a stage answers; 0 for nowhere here: the gateway does on its own port."""
        if not self.port or stage not in _MONITORED:
            return 0
        return self.port + _MONITORED.index(stage)


class Settings(Section):
    """The whole file."""

    data_dir: Path = Field(
        default=Path("~/.local/share/watchkeep"),
        description="where the embedded database keeps its files",
    )
    clock: Literal["wall", "event"] = Field(
        default="wall", description='"event": time is what the samples say (demo, replay)'
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="how much the stages tell on stderr"
    )
    broker: Broker = Broker()
    database: Database = Database()
    gateway: Gateway = Gateway()
    entities: Entities = Entities()
    detect: Detect = Detect()
    notify: Notify = Notify()
    monitor: Monitor = Monitor()
