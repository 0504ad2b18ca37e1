-- Addresses and networks that are banned, and those that were lately: one row each, with its last ban. Times are microseconds.
CREATE TABLE bans (
    -- In CIDR notation, as short as it can be written.
    network        TEXT    NOT NULL PRIMARY KEY,
    since_at       BIGINT  NOT NULL,
    until_at       BIGINT  NOT NULL,
    -- refusals, neighbours or hand.
    reason         TEXT    NOT NULL,
    note           TEXT    NOT NULL,
    made_by        TEXT,
    refusals       BIGINT  NOT NULL,
    -- Bans before that were not forgotten.
    earlier        BIGINT  NOT NULL,
    false_positive BOOLEAN NOT NULL,
    lifted_at      BIGINT,
    -- wrong or served.
    lifted_as      TEXT,
    lift_note      TEXT,
    lifted_by      TEXT,
    -- Of the counter bans_revision, when it was last written: who looks reads only what is newer.
    revision       BIGINT  NOT NULL
);

CREATE INDEX bans_by_revision ON bans (revision);

INSERT INTO counters (name, value) VALUES ('bans_revision', 0);
