-- Version 3. Credentials taken back before their time; `kind` is jti or sub, `at` is Unix milliseconds.
CREATE TABLE revocations (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    at   INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
