"""The topics: their names, and how they are to be created."""

import tomllib
from importlib.resources import files
from typing import NamedTuple

METRICS = "watchkeep.metrics.v1"
ANOMALIES = "watchkeep.anomalies.v1"
ALERTS = "watchkeep.alerts.v1"
DEAD_LETTERS = "watchkeep.dead-letters.v1"


class TopicSpec(NamedTuple):
    """How one topic is created; `config` are Kafka's own keys."""

    name: str
    partitions: int
    config: dict[str, str]


def specs() -> tuple[TopicSpec, ...]:
    """Read the topics from `deploy/kafka/topics.toml`."""
    text = files("watchkeep.deploy").joinpath("kafka/topics.toml").read_text()
    return tuple(TopicSpec(**table) for table in tomllib.loads(text).values())
