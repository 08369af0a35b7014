-- What is watched, from which series, and what isn't and why. Each shard's rows are replaced whole.

ALTER TABLE signals
    ADD COLUMN folding text NOT NULL DEFAULT 'mean',
    ADD COLUMN role text NOT NULL DEFAULT 'evidence',
    ADD COLUMN why text NOT NULL DEFAULT '',
    ADD COLUMN step_s integer NOT NULL DEFAULT 60;

CREATE TABLE feeds (
    shard integer NOT NULL,
    signal_id bigint PRIMARY KEY,
    series integer NOT NULL,
    members integer NOT NULL,
    asleep boolean NOT NULL,
    value double precision,
    at_ms bigint NOT NULL,
    folded jsonb NOT NULL,
    example text NOT NULL
);
CREATE INDEX feeds_by_shard ON feeds (shard);

CREATE TABLE dropped_series (
    shard integer NOT NULL,
    entity text NOT NULL,
    metric text NOT NULL,
    reason text NOT NULL,
    why text NOT NULL,
    series integer NOT NULL,
    example text NOT NULL
);
CREATE INDEX dropped_series_by_shard ON dropped_series (shard);
CREATE INDEX dropped_series_by_entity ON dropped_series (entity);

-- What limits have refused, and why samples were dropped.
CREATE TABLE refusals (
    shard integer NOT NULL,
    entity text NOT NULL,
    reached text NOT NULL,
    count bigint NOT NULL,
    what text NOT NULL,
    at_ms bigint NOT NULL
);
CREATE INDEX refusals_by_shard ON refusals (shard);

CREATE TABLE senders (
    shard integer NOT NULL,
    cluster text NOT NULL,
    replica text NOT NULL,
    newest_ms bigint NOT NULL,
    heard_ms bigint NOT NULL,
    elected boolean NOT NULL,
    told_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX senders_by_shard ON senders (shard);
