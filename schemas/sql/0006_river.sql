-- How rare a signal was to the model of River that was chosen for it; null for all others.

ALTER TABLE rollups ADD COLUMN river real;
