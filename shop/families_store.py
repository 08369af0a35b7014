"""What the exporters of PostgreSQL and Redis tell."""

from typing import Final

import numpy as np

from watchkeep.shop.exposed import Family, by, counter, gauge
from watchkeep.shop.states_store import Stores

_SHOP: Final = by("datname", "shop")
_STATES: Final = tuple(
    {"datname": "shop", "state": state} for state in ("active", "idle", "idle in transaction")
)
_LOCKS: Final = tuple(
    {"datname": "shop", "mode": mode}
    for mode in ("accesssharelock", "rowexclusivelock", "exclusivelock")
)


POSTGRES: Final[tuple[Family[Stores], ...]] = (
    gauge(
        "pg_up",
        "Whether the last scrape of metrics from PostgreSQL was able to connect to the server.",
        lambda s: s.const(1),
    ),
    counter(
        "pg_stat_database_xact_commit",
        "Number of transactions in this database that have been committed",
        lambda s: s.counts[:, :, 0],
        variants=_SHOP,
    ),
    counter(
        "pg_stat_database_xact_rollback",
        "Number of transactions in this database that have been rolled back",
        lambda s: s.counts[:, :, 1],
        variants=_SHOP,
    ),
    counter(
        "pg_stat_database_tup_fetched",
        "Number of rows fetched by queries in this database",
        lambda s: 12 * s.done,
        variants=_SHOP,
        spread=0.06,
        whole=True,
    ),
    counter(
        "pg_stat_database_tup_returned",
        "Number of rows returned by queries in this database",
        lambda s: 90 * s.done,
        variants=_SHOP,
        spread=0.12,
        whole=True,
    ),
    counter(
        "pg_stat_database_tup_inserted",
        "Number of rows inserted by queries in this database",
        lambda s: 0.14 * s.done,
        variants=_SHOP,
        spread=0.1,
        whole=True,
    ),
    counter(
        "pg_stat_database_tup_updated",
        "Number of rows updated by queries in this database",
        lambda s: 0.2 * s.done,
        variants=_SHOP,
        spread=0.1,
        whole=True,
    ),
    counter(
        "pg_stat_database_tup_deleted",
        "Number of rows deleted by queries in this database",
        lambda s: 0.01 * s.done,
        variants=_SHOP,
        spread=0.2,
        whole=True,
    ),
    counter(
        "pg_stat_database_blks_hit",
        "Number of times disk blocks were found already in the buffer cache, so that a read was "
        "not necessary",
        lambda s: 38 * s.done,
        variants=_SHOP,
        spread=0.05,
        whole=True,
    ),
    counter(
        "pg_stat_database_blks_read",
        "Number of disk blocks read in this database",
        lambda s: 0.4 * s.done,
        variants=_SHOP,
        spread=0.25,
        whole=True,
    ),
    counter(
        "pg_stat_database_blk_read_time",
        "Time spent reading data file blocks by backends in this database, in milliseconds",
        lambda s: 0.06 * s.slow * s.done,
        variants=_SHOP,
        spread=0.25,
    ),
    counter(
        "pg_stat_database_deadlocks",
        "Number of deadlocks detected in this database",
        lambda s: s.rng.poisson(1e-4 + 0 * s.rate).astype(float),
        variants=_SHOP,
    ),
    counter(
        "pg_stat_database_temp_bytes",
        "Total amount of data written to temporary files by queries in this database.",
        lambda s: 8_192 * s.rng.poisson(0.02 * s.done).astype(float),
        variants=_SHOP,
    ),
    gauge(
        "pg_stat_database_numbackends",
        "Number of backends currently connected to this database.",
        lambda s: s.backends,
        variants=_SHOP,
        spread=0.03,
        whole=True,
    ),
    gauge(
        "pg_stat_activity_count",
        "number of connections in this state",
        lambda s: np.stack([s.busy, s.backends - s.busy, 0.05 * s.busy], axis=2),
        variants=_STATES,
        spread=0.12,
        whole=True,
    ),
    gauge(
        "pg_stat_activity_max_tx_duration",
        "max duration in seconds any active transaction has been running",
        lambda s: np.stack([3 * s.latency_s, s.const(0), 5 * s.latency_s], axis=2),
        variants=_STATES,
        spread=0.35,
    ),
    gauge(
        "pg_locks_count",
        "Number of locks",
        lambda s: np.stack([2 + 3 * s.busy, 1 + s.busy, 0.02 * s.busy], axis=2),
        variants=_LOCKS,
        spread=0.15,
        whole=True,
    ),
    gauge(
        "pg_database_size_bytes",
        "Disk space used by the database",
        lambda s: s.const(7.4e9) + 260 * (s.scene.now_ms - s.scene.plan.start_ms) / 1e3,
        variants=_SHOP,
        whole=True,
    ),
    gauge(
        "pg_settings_max_connections",
        "Server Parameter: max_connections",
        lambda s: s.const(200),
    ),
    counter(
        "pg_stat_bgwriter_checkpoints_timed_total",
        "Number of scheduled checkpoints that have been performed",
        lambda s: s.every(300),
        total=True,
    ),
    counter(
        "pg_stat_bgwriter_buffers_checkpoint_total",
        "Number of buffers written during checkpoints",
        lambda s: 0.2 * s.done,
        spread=0.2,
        whole=True,
    ),
    gauge(
        "pg_replication_lag_seconds",
        "Replication lag behind master in seconds",
        lambda s: 0.004 * s.slow,
        spread=0.5,
    ),
    gauge(
        "pg_postmaster_start_time_seconds",
        "Time at which postmaster started",
        lambda s: s.start_s,
    ),
)

REDIS: Final[tuple[Family[Stores], ...]] = (
    gauge(
        "redis_up",
        "Information about the Redis instance",
        lambda s: s.const(1),
    ),
    gauge(
        "redis_uptime_in_seconds",
        "uptime_in_seconds metric",
        lambda s: np.floor(s.scene.now_ms / 1e3 - s.start_s),
    ),
    gauge(
        "redis_connected_clients",
        "connected_clients metric",
        lambda s: 12 + 0.05 * s.rate + 3 * s.busy,
        spread=0.03,
        whole=True,
    ),
    gauge(
        "redis_blocked_clients",
        "blocked_clients metric",
        lambda s: s.const(0),
    ),
    counter(
        "redis_commands_processed_total",
        "commands_processed_total metric",
        lambda s: s.done,
    ),
    counter(
        "redis_commands_duration_seconds_total",
        "Total amount of time in seconds spent per command",
        lambda s: s.done * s.latency_s,
        spread=0.05,
    ),
    counter(
        "redis_keyspace_hits_total",
        "keyspace_hits_total metric",
        lambda s: 0.93 * s.done,
        spread=0.02,
        whole=True,
    ),
    counter(
        "redis_keyspace_misses_total",
        "keyspace_misses_total metric",
        lambda s: 0.05 * s.done,
        spread=0.1,
        whole=True,
    ),
    counter(
        "redis_connections_received_total",
        "connections_received_total metric",
        lambda s: s.rng.poisson(0.2 + 0.01 * s.done).astype(float),
    ),
    counter(
        "redis_expired_keys_total",
        "expired_keys_total metric",
        lambda s: 0.04 * s.done,
        spread=0.15,
        whole=True,
    ),
    counter(
        "redis_evicted_keys_total",
        "evicted_keys_total metric",
        lambda s: s.const(0),
    ),
    gauge(
        "redis_memory_used_bytes",
        "memory_used_bytes metric",
        lambda s: 0.85 * s.memory,
        spread=0.004,
        whole=True,
    ),
    gauge(
        "redis_memory_used_rss_bytes",
        "memory_used_rss_bytes metric",
        lambda s: 0.97 * s.memory,
        spread=0.004,
        whole=True,
    ),
    gauge(
        "redis_memory_max_bytes",
        "memory_max_bytes metric",
        lambda s: s.each(0.9 * s.limit_bytes),
    ),
    gauge(
        "redis_mem_fragmentation_ratio",
        "mem_fragmentation_ratio metric",
        lambda s: s.const(1.14),
        spread=0.01,
    ),
    gauge(
        "redis_db_keys",
        "Total number of keys by DB",
        lambda s: 41_000 + 90 * s.rate,
        variants=by("db", "db0"),
        spread=0.01,
        whole=True,
    ),
    counter(
        "redis_net_input_bytes_total",
        "net_input_bytes_total metric",
        lambda s: 110 * s.done,
        spread=0.04,
        whole=True,
    ),
    counter(
        "redis_net_output_bytes_total",
        "net_output_bytes_total metric",
        lambda s: 480 * s.done,
        spread=0.06,
        whole=True,
    ),
    counter(
        "redis_cpu_user_seconds_total",
        "cpu_user_seconds_total metric",
        lambda s: 0.7 * s.cpu_s,
        spread=0.05,
    ),
    counter(
        "redis_cpu_sys_seconds_total",
        "cpu_sys_seconds_total metric",
        lambda s: 0.3 * s.cpu_s,
        spread=0.08,
    ),
)
