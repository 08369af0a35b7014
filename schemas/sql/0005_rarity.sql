-- Cells are judged by how rare they are, and no longer by a score in units of a spread. `rarity` is
-- that of the signal's entity, `threshold` the rarity from which on its window opens; the columns
-- named after channels tell how rare the signal itself was to each, null where it didn't look.

ALTER TABLE rollups
    DROP COLUMN spread,
    DROP COLUMN score,
    DROP COLUMN channel,
    DROP COLUMN extreme,
    ADD COLUMN low double precision,
    ADD COLUMN high double precision,
    ADD COLUMN spike real,
    ADD COLUMN envelope real,
    ADD COLUMN hour real,
    ADD COLUMN member real;
-- What was there is in the old unit.
UPDATE rollups SET rarity = NULL, threshold = NULL;
