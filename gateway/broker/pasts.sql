-- Version 4. The first page of a run's folded past, as the hub writes it when the run ends; empty: there is none.
ALTER TABLE snapshots ADD COLUMN past BLOB NOT NULL DEFAULT x'';
