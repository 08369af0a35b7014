-- What delivery needs: claims on snapshots, snapshots as blocks, places, attempts, troubles.

-- Snapshots of the format before have no manifest; their partitions start cold, and say so.
ALTER TABLE snapshots
    DROP COLUMN state,
    ADD COLUMN token bigint NOT NULL DEFAULT 0,
    ADD COLUMN unsaved integer NOT NULL DEFAULT 0,
    ADD COLUMN manifest bytea NOT NULL DEFAULT '';

CREATE TABLE snapshot_blocks (
    partition integer NOT NULL,
    block integer NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (partition, block)
);
-- Blocks are compressed already.
ALTER TABLE snapshot_blocks ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- How far the stages have come that read one partition and hold a lease of their own name.
CREATE TABLE places (
    stage text PRIMARY KEY,
    applied_offset bigint NOT NULL,
    record_hash text NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now()
);

-- Which record a stage has died of, and how often in a row; and which it is trying now, if it has
-- reason to fear that the record ends it.
CREATE TABLE attempts (
    stage text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL DEFAULT -1,
    record_hash text NOT NULL DEFAULT '',
    count integer NOT NULL DEFAULT 0,
    trying_offset bigint,
    trying_hash text,
    PRIMARY KEY (stage, partition)
);

-- What the operators of Watchkeep itself are to be told.
CREATE TABLE troubles (
    name text PRIMARY KEY,
    title text NOT NULL,
    text text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    told_at timestamptz
);
CREATE INDEX troubles_untold ON troubles (at) WHERE told_at IS NULL;

CREATE INDEX incidents_by_change ON incidents (updated_at);

-- A new day's partition is attached, as CREATE TABLE ... PARTITION OF would wait for every reader.
CREATE OR REPLACE FUNCTION rollups_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text := 'rollups_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF to_regclass(name) IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtext('rollups_partition'));
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I (LIKE rollups INCLUDING DEFAULTS INCLUDING INDEXES)', name
        );
        IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(name)) THEN
            EXECUTE format(
                'ALTER TABLE rollups ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                name, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC'
            );
        END IF;
    END IF;
END $$;
