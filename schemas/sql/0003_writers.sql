-- How often each detect process has written. One that finds fewer writes here than it made knows
-- that the database was restored, and that rollups are missing which no snapshot tells of.
CREATE TABLE writers (
    writer text PRIMARY KEY,
    writes bigint NOT NULL,
    wrote_at timestamptz NOT NULL DEFAULT now()
);
