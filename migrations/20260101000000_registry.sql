-- One text for SQLite and PostgreSQL. Times are microseconds since 1970 (UTC), ids are UUID version 7, both made by the
-- gateway. Columns that hold JSON of our own are JSONB and hold objects only; JSON of others is kept byte for byte (BYTEA).

CREATE TABLE tenants (
    id           TEXT   NOT NULL PRIMARY KEY,
    display_name TEXT   NOT NULL,
    created_at   BIGINT NOT NULL
);

-- The gateway sets the time of the first start.
INSERT INTO tenants (id, display_name, created_at) VALUES ('default', 'Default', 0);

CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

INSERT INTO counters (name, value) VALUES ('registry_revision', 1);

CREATE TABLE users (
    id            UUID   NOT NULL PRIMARY KEY,
    tenant_id     TEXT   NOT NULL REFERENCES tenants (id),
    -- Lower case.
    username      TEXT   NOT NULL,
    -- PHC string; null for an account that cannot sign in by password.
    password_hash TEXT,
    role          TEXT   NOT NULL CHECK (role IN ('admin', 'tenant_admin', 'server_owner', 'user')),
    state         TEXT   NOT NULL CHECK (state IN ('active', 'disabled')),
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    UNIQUE (tenant_id, username),
    UNIQUE (tenant_id, id)
);

CREATE TABLE servers (
    id         UUID    NOT NULL PRIMARY KEY,
    tenant_id  TEXT    NOT NULL REFERENCES tenants (id),
    -- Who registered it; null when that account is gone.
    owner_id   UUID    REFERENCES users (id) ON DELETE SET NULL,
    slug       TEXT    NOT NULL,
    -- The description without header values and environment.
    spec       JSONB   NOT NULL,
    -- Header values and environment, sealed; null when there are none.
    secrets    BYTEA,
    enabled    BOOLEAN NOT NULL,
    revision   BIGINT  NOT NULL,
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL,
    UNIQUE (tenant_id, slug),
    UNIQUE (tenant_id, id)
);

CREATE TABLE catalogs (
    tenant_id     TEXT   NOT NULL,
    server_id     UUID   NOT NULL,
    kind          TEXT   NOT NULL CHECK (kind IN ('tools', 'resources', 'templates', 'prompts')),
    -- A JSON array as the server sent it.
    items         BYTEA  NOT NULL,
    discovered_at BIGINT NOT NULL,
    PRIMARY KEY (server_id, kind),
    FOREIGN KEY (tenant_id, server_id) REFERENCES servers (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE upstream_memory (
    tenant_id         TEXT   NOT NULL,
    server_id         UUID   NOT NULL PRIMARY KEY,
    era               TEXT   NOT NULL,
    version           TEXT   NOT NULL,
    -- The answers to `server/discover` and `initialize`, as the server sent them.
    discover_result   BYTEA,
    initialize_result BYTEA,
    learned_at        BIGINT NOT NULL,
    FOREIGN KEY (tenant_id, server_id) REFERENCES servers (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE api_keys (
    id           UUID   NOT NULL PRIMARY KEY,
    tenant_id    TEXT   NOT NULL,
    user_id      UUID   NOT NULL,
    name         TEXT   NOT NULL,
    -- `key` was made on purpose, `login` by signing in.
    kind         TEXT   NOT NULL CHECK (kind IN ('key', 'login')),
    -- The first characters, to recognise it by.
    hint         TEXT   NOT NULL,
    -- SHA-256 of the key.
    hash         BYTEA  NOT NULL UNIQUE,
    scopes       JSONB  NOT NULL,
    role         TEXT   NOT NULL CHECK (role IN ('admin', 'tenant_admin', 'server_owner', 'user')),
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT,
    revoked_at   BIGINT,
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
);

CREATE INDEX api_keys_by_user ON api_keys (tenant_id, user_id);
