"""What RabbitMQ tells of its queue."""

from typing import Final

from watchkeep.shop.exposed import Family, counter, gauge
from watchkeep.shop.states_store import Stores

_QUEUE: Final = ({"queue": "orders", "vhost": "/"},)

RABBITMQ: Final[tuple[Family[Stores], ...]] = (
    gauge(
        "rabbitmq_queue_messages_ready",
        "Messages ready to be delivered to consumers",
        lambda s: s.waiting,
        variants=_QUEUE,
        whole=True,
    ),
    gauge(
        "rabbitmq_queue_messages_unacked",
        "Messages delivered to consumers but not yet acknowledged",
        lambda s: s.unacked,
        variants=_QUEUE,
        spread=0.2,
        whole=True,
    ),
    gauge(
        "rabbitmq_queue_messages",
        "Sum of ready and unacknowledged messages - total queue depth",
        lambda s: s.waiting + s.unacked,
        variants=_QUEUE,
        whole=True,
    ),
    gauge(
        "rabbitmq_queue_consumers",
        "Consumers on a queue",
        lambda s: s.consumers,
        variants=_QUEUE,
    ),
    gauge(
        "rabbitmq_queue_messages_bytes",
        "Size in bytes of ready and unacknowledged messages",
        lambda s: 900 * (s.waiting + s.unacked),
        variants=_QUEUE,
        spread=0.02,
        whole=True,
    ),
    counter(
        "rabbitmq_queue_messages_published_total",
        "Total number of messages published to queues",
        lambda s: s.done,
        variants=_QUEUE,
    ),
    counter(
        "rabbitmq_queue_messages_delivered_total",
        "Total number of messages delivered to consumers",
        lambda s: s.taken,
        variants=_QUEUE,
    ),
    counter(
        "rabbitmq_queue_messages_acked_total",
        "Total number of messages acknowledged by consumers",
        lambda s: s.taken,
        variants=_QUEUE,
    ),
    counter(
        "rabbitmq_queue_messages_redelivered_total",
        "Total number of messages redelivered to consumers",
        lambda s: s.rng.poisson(0.001 * s.taken).astype(float),
        variants=_QUEUE,
    ),
    gauge(
        "rabbitmq_connections",
        "Connections currently open",
        lambda s: s.consumers + 9,
        whole=True,
    ),
    gauge(
        "rabbitmq_channels",
        "Channels currently open",
        lambda s: 2 * s.consumers + 14,
        spread=0.02,
        whole=True,
    ),
    gauge(
        "rabbitmq_process_open_fds",
        "Open file descriptors",
        lambda s: 60 + 2 * s.consumers,
        spread=0.03,
        whole=True,
    ),
    gauge(
        "rabbitmq_process_resident_memory_bytes",
        "Memory used in bytes",
        lambda s: 0.9 * s.memory,
        spread=0.01,
        whole=True,
    ),
    gauge(
        "rabbitmq_resident_memory_limit_bytes",
        "Memory high watermark in bytes",
        lambda s: s.each(0.6 * s.limit_bytes),
    ),
    gauge(
        "rabbitmq_disk_space_available_bytes",
        "Disk space available in bytes",
        lambda s: s.const(4.2e10),
        spread=0.0005,
        whole=True,
    ),
    counter(
        "rabbitmq_io_write_ops_total",
        "Total number of I/O write operations",
        lambda s: s.rng.poisson(0.6 * s.done).astype(float),
    ),
    counter(
        "rabbitmq_io_write_time_seconds_total",
        "Total I/O write time",
        lambda s: 0.0004 * s.slow * s.done,
        spread=0.2,
    ),
    gauge(
        "rabbitmq_erlang_processes_used",
        "Erlang processes used",
        lambda s: 340 + 4 * s.consumers,
        spread=0.01,
        whole=True,
    ),
    counter(
        "rabbitmq_erlang_gc_runs_total",
        "Total number of Erlang garbage collector runs",
        lambda s: s.rng.poisson(600 + 4 * s.done).astype(float),
    ),
)
