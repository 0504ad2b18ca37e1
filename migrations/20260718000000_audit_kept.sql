-- Where a chain begins is signed once records went, like where it ends.
ALTER TABLE audit_chains ADD COLUMN begin_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE audit_chains ADD COLUMN begin_key UUID;
ALTER TABLE audit_chains ADD COLUMN begin_signature BYTEA;

-- What somebody took as it is in a chain that was found false: up to which record, who, why, and what was wrong (JSON); signed.
CREATE TABLE audit_accepted (
    chain     TEXT   NOT NULL,
    seq       BIGINT NOT NULL,
    hash      BYTEA  NOT NULL,
    at        BIGINT NOT NULL,
    author    TEXT   NOT NULL,
    reason    TEXT   NOT NULL,
    findings  TEXT   NOT NULL,
    key_id    UUID   NOT NULL,
    signature BYTEA  NOT NULL,
    PRIMARY KEY (chain, seq)
);

-- A tool or path of a tenant, whatever the server.
CREATE INDEX audit_records_by_chain_name ON audit_records (chain, name, id) WHERE name IS NOT NULL;
