-- Version 2. Where a commit puts its events: those of all runs side by side, as they came, so that it writes few pages.
-- From here they are moved into `events`, many at a time, each to its run's others.
CREATE TABLE journal (
    run    INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    type   TEXT NOT NULL,
    json   BLOB NOT NULL
) STRICT;
