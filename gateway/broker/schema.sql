-- Version 1. `runs.number` keeps the events' keys short; a WITHOUT ROWID table keeps a run's events side by side.
-- One row: in which boot of the machine the file was opened last, and whether it was closed in order since.
CREATE TABLE opening (boot TEXT NOT NULL, clean INTEGER NOT NULL, durable INTEGER NOT NULL) STRICT;
INSERT INTO opening VALUES ('', 1, 1);

CREATE TABLE runs (
    number      INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    pipeline    TEXT NOT NULL,
    owner       TEXT NOT NULL,
    creator     TEXT NOT NULL,
    input       BLOB NOT NULL,
    options     BLOB NOT NULL,
    retry_of    TEXT,
    epoch       TEXT NOT NULL,
    status      TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    started_at  INTEGER,
    finished_at INTEGER,
    floor       INTEGER NOT NULL DEFAULT 0,
    tail        INTEGER NOT NULL DEFAULT 0,
    bytes       INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX runs_by_owner ON runs (owner, id);
CREATE INDEX runs_by_creator ON runs (creator, id);
CREATE INDEX runs_unfinished ON runs (number) WHERE finished_at IS NULL;
CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE events (
    run    INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    offset INTEGER NOT NULL,
    type   TEXT NOT NULL,
    json   BLOB NOT NULL,
    PRIMARY KEY (run, offset)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
    run     INTEGER PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
    offset  INTEGER NOT NULL,
    summary BLOB NOT NULL,
    state   BLOB NOT NULL
) STRICT;

CREATE TABLE keys (
    owner  TEXT NOT NULL,
    key    TEXT NOT NULL,
    digest BLOB NOT NULL,
    run    INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    at     INTEGER NOT NULL,
    PRIMARY KEY (owner, key)
) STRICT, WITHOUT ROWID;

-- One row for each request of a producer, so that a repeat gets the reply of the original.
CREATE TABLE requests (
    run      INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    producer TEXT NOT NULL,
    epoch    INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    offset   INTEGER NOT NULL,
    PRIMARY KEY (run, producer, epoch, seq)
) STRICT, WITHOUT ROWID;
