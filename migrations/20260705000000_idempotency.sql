-- What was asked for with an Idempotency-Key within the last day, so that it is done once however often it is asked for. With its
-- tenant it is gone.
CREATE TABLE idempotency (
    -- SHA-256 of credential, path and key.
    id          BYTEA  NOT NULL PRIMARY KEY,
    tenant_id   TEXT   NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    -- SHA-256 of the body.
    fingerprint BYTEA  NOT NULL,
    -- Microseconds since 1970.
    begun_at    BIGINT NOT NULL,
    -- Null: it is under way.
    status      BIGINT,
    headers     JSONB,
    -- Null: the answer was not kept.
    body        BYTEA
);

CREATE INDEX idempotency_by_tenant ON idempotency (tenant_id);
CREATE INDEX idempotency_by_time ON idempotency (begun_at);
