-- Issuers whose assertions are taken, and grants that rest on another grant.

CREATE TABLE trusted_issuers (
    id         UUID   NOT NULL PRIMARY KEY,
    tenant_id  TEXT   NOT NULL REFERENCES tenants (id),
    -- A short name for people, and for the grants that rest on it.
    name       TEXT   NOT NULL,
    -- Exactly as it writes itself (`iss`).
    issuer     TEXT   NOT NULL,
    -- What it may vouch for, with which keys, and which role its word gives.
    spec       JSONB  NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (tenant_id, name),
    UNIQUE (tenant_id, issuer)
);

-- The grant whose token was exchanged for this one's: with it this one ends.
ALTER TABLE grants ADD COLUMN parent_id UUID REFERENCES grants (id) ON DELETE CASCADE;

CREATE INDEX grants_by_parent ON grants (parent_id) WHERE parent_id IS NOT NULL;
