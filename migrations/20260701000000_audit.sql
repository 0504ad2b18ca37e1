-- The audit trail. The records of a tenant make a chain, and those of none another, whose name is empty. Nothing refers to tenants or
-- accounts: the trail outlives them. Times are microseconds.
CREATE TABLE audit_records (
    chain      TEXT   NOT NULL,
    -- From 1, without a gap.
    seq        BIGINT NOT NULL,
    -- UUID version 7 of when it began, so that ids sort by time.
    id         UUID   NOT NULL,
    at         BIGINT NOT NULL,
    action     TEXT   NOT NULL,
    outcome    TEXT   NOT NULL,
    user_id    UUID,
    username   TEXT,
    server     TEXT,
    name       TEXT,
    address    TEXT,
    client     TEXT,
    request_id TEXT,
    -- The record, to the letter: what the columns say is said here too.
    text       TEXT   NOT NULL,
    -- SHA-256 of the hash before it and the text.
    hash       BYTEA  NOT NULL,
    PRIMARY KEY (chain, seq)
);

CREATE UNIQUE INDEX audit_records_by_id ON audit_records (id);
CREATE INDEX audit_records_by_chain ON audit_records (chain, id);
CREATE INDEX audit_records_by_user ON audit_records (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX audit_records_by_name ON audit_records (server, name, id) WHERE server IS NOT NULL;
CREATE INDEX audit_records_by_address ON audit_records (address, id) WHERE address IS NOT NULL;
CREATE INDEX audit_records_by_client ON audit_records (client, id) WHERE client IS NOT NULL;
CREATE INDEX audit_records_by_request ON audit_records (request_id) WHERE request_id IS NOT NULL;
-- Most calls are calls of tools, and most go well: those are found by something else.
CREATE INDEX audit_records_by_action ON audit_records (action, id) WHERE action <> 'tools/call';
CREATE INDEX audit_records_by_outcome ON audit_records (outcome, id) WHERE outcome <> 'success';

-- Each chain: where it begins by now, and its last record.
CREATE TABLE audit_chains (
    chain         TEXT   NOT NULL PRIMARY KEY,
    -- Of the last record that is kept no longer; 0 and the hash that a chain begins with where none is gone.
    begin_seq     BIGINT NOT NULL,
    begin_hash    BYTEA  NOT NULL,
    seq           BIGINT NOT NULL,
    hash          BYTEA  NOT NULL,
    at            BIGINT NOT NULL,
    key_id        UUID   NOT NULL,
    signature     BYTEA  NOT NULL,
    -- The last checkpoint, and when it was made.
    checkpoint_seq BIGINT NOT NULL,
    checkpoint_at  BIGINT NOT NULL
);

-- What the head of a chain was, signed; the oldest kept one is where the chain begins.
CREATE TABLE audit_checkpoints (
    chain     TEXT   NOT NULL,
    seq       BIGINT NOT NULL,
    hash      BYTEA  NOT NULL,
    at        BIGINT NOT NULL,
    key_id    UUID   NOT NULL,
    signature BYTEA  NOT NULL,
    PRIMARY KEY (chain, seq)
);

-- The keys that sign them: Ed25519. They are never replaced while something is kept that they signed.
CREATE TABLE audit_keys (
    id         UUID   NOT NULL PRIMARY KEY,
    public     BYTEA  NOT NULL,
    sealed     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL
);

-- How far the journal of each process is in the tables above.
CREATE TABLE audit_journals (
    journal    UUID   NOT NULL PRIMARY KEY,
    segment    BIGINT NOT NULL,
    position   BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- How far each chain was sent to the collector, and until when a process has that to itself.
CREATE TABLE audit_sent (
    chain    TEXT   NOT NULL PRIMARY KEY,
    seq      BIGINT NOT NULL,
    until_at BIGINT NOT NULL
);
