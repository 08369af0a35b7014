-- Rollups, snapshots, incidents, alerts and their outbox, deliveries, leases, progress.
-- Times without a time zone don't exist here; bigint ids are xxh3-64 with its bits read as signed.

CREATE TABLE signals (
    signal_id bigint PRIMARY KEY,
    entity text NOT NULL,
    metric text NOT NULL,
    labels jsonb NOT NULL,
    unit text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX signals_by_entity ON signals (entity);

-- One row a signal and cell. `extreme` is the value of the member farthest from the others, and
-- `rarity` the fused rarity of the entity; both are null until something computes them.
CREATE TABLE rollups (
    at timestamptz NOT NULL,
    signal_id bigint NOT NULL,
    step_s integer NOT NULL,
    value double precision NOT NULL,
    extreme double precision,
    members integer NOT NULL,
    expected double precision,
    spread double precision,
    score double precision,
    rarity double precision,
    threshold double precision,
    warmup real NOT NULL,
    channel text NOT NULL,
    PRIMARY KEY (signal_id, at)
) PARTITION BY RANGE (at);
CREATE INDEX rollups_by_time ON rollups (at);

-- Partitions are made by whoever writes into a day first.
CREATE FUNCTION rollups_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text := 'rollups_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF to_regclass(name) IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtext('rollups_partition'));
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I PARTITION OF rollups FOR VALUES FROM (%L) TO (%L)',
            name, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC'
        );
    END IF;
END $$;

CREATE TABLE snapshots (
    partition integer PRIMARY KEY,
    applied_offset bigint NOT NULL,
    record_hash text NOT NULL,
    settings text NOT NULL,
    state bytea NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now()
);
-- Snapshots are compressed already.
ALTER TABLE snapshots ALTER COLUMN state SET STORAGE EXTERNAL;

CREATE TABLE windows (
    window_id text NOT NULL,
    revision integer NOT NULL,
    entity text NOT NULL,
    state text NOT NULL,
    record jsonb NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (window_id, revision)
);

CREATE TABLE incidents (
    incident_id text PRIMARY KEY,
    revision integer NOT NULL,
    entity text NOT NULL,
    state text NOT NULL,
    record jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX incidents_firing ON incidents (entity) WHERE state = 'firing';

-- The alerts as published, and those still to be published: the outbox.
CREATE TABLE alerts (
    alert_id text NOT NULL,
    revision integer NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    record jsonb NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    PRIMARY KEY (alert_id, revision)
);
CREATE INDEX alerts_outbox ON alerts (seq) WHERE published_at IS NULL;

CREATE TABLE deliveries (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    alert_id text NOT NULL,
    revision integer NOT NULL,
    channel text NOT NULL,
    reason text NOT NULL,
    outcome text NOT NULL,
    attempts integer NOT NULL,
    error text NOT NULL
);
CREATE INDEX deliveries_by_alert ON deliveries (alert_id);

CREATE TABLE leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    token bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE progress (
    shard integer PRIMARY KEY,
    log_time_ms bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
