-- The keys that seal what belongs to a tenant, each itself sealed under the master key. The one of the highest generation seals; the
-- others open what they sealed until nothing names them any more. With their tenant they are gone.
CREATE TABLE data_keys (
    tenant_id  TEXT   NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    generation BIGINT NOT NULL,
    sealed     BYTEA  NOT NULL,
    -- Microseconds since 1970; null of those that were made before this was noted.
    created_at BIGINT,
    -- When another took its place.
    retired_at BIGINT,
    PRIMARY KEY (tenant_id, generation)
);

CREATE INDEX data_keys_retired ON data_keys (tenant_id) WHERE retired_at IS NOT NULL;

INSERT INTO data_keys (tenant_id, generation, sealed) SELECT id, 1, data_key FROM tenants WHERE data_key IS NOT NULL;
ALTER TABLE tenants DROP COLUMN data_key;

-- Moves with every key that comes or goes.
INSERT INTO counters (name, value) VALUES ('data_keys_revision', 0);

-- What is sealed anew, and who does it: one of several processes, until held_until at most.
CREATE TABLE resealings (
    -- data: what older keys of tenants sealed; master: what older master keys sealed.
    what       TEXT   NOT NULL PRIMARY KEY CHECK (what IN ('data', 'master')),
    holder     UUID,
    held_until BIGINT NOT NULL DEFAULT 0,
    -- When it was last asked for, and under which key; microseconds since 1970.
    asked_at   BIGINT,
    key_id     TEXT,
    -- When it was last finished.
    done_at    BIGINT
);

INSERT INTO resealings (what) VALUES ('data');
INSERT INTO resealings (what) VALUES ('master');

-- What belongs to a tenant is sealed anew in this order.
CREATE INDEX logins_by_tenant ON logins (tenant_id, id);
-- Which keys they name: the first bytes of a sealed value tell.
CREATE INDEX logins_by_mark ON logins (substr(tokens, 1, 5), tenant_id) WHERE tokens IS NOT NULL;

-- The key that seals what only programs keep, such as the ids of clients that registered themselves; itself sealed under the master key.
-- There is one row.
CREATE TABLE id_keys (
    id         UUID   NOT NULL PRIMARY KEY,
    sealed     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL
);
