"""Kafka: the one place that imports Faust and aiokafka."""

from watchkeep.streams.kafka.admin import check, create_topics, missing_topics
from watchkeep.streams.kafka.reader import LogReader, tail
from watchkeep.streams.kafka.sink import KafkaSink, open_sink
from watchkeep.streams.kafka.worker import consume

__all__ = [
    "KafkaSink",
    "LogReader",
    "check",
    "consume",
    "create_topics",
    "missing_topics",
    "open_sink",
    "tail",
]
