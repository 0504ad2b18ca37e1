-- Who may see and call what, in each tenant; what providers counted people among; and what was called, to try changed rules on.

CREATE TABLE access_rules (
    tenant_id  TEXT   NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    -- From 1; the greatest is in force. A tenant without any has the default.
    version    BIGINT NOT NULL,
    text       TEXT   NOT NULL,
    -- Who wrote it, as an account was called then; its id.
    author     TEXT   NOT NULL,
    author_id  UUID   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, version)
);

-- Groups and app roles of people of a provider, as it said them last.
CREATE TABLE memberships (
    user_id    UUID   NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    tenant_id  TEXT   NOT NULL,
    -- A line for each: `g` and the id of a group, `r` and an app role; `?` where the provider did not say all.
    text       TEXT   NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Operations that differ in more than their arguments, counted.
CREATE TABLE observed_operations (
    -- SHA-256 of what tells it from others.
    digest     BYTEA  NOT NULL PRIMARY KEY,
    tenant_id  TEXT   NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id    UUID   NOT NULL,
    role       TEXT   NOT NULL,
    -- The OAuth client's id, the API key's id, or `login`.
    client     TEXT   NOT NULL,
    -- `api_key`, `login`, `oauth` or `service`.
    credential TEXT   NOT NULL,
    server     TEXT   NOT NULL,
    -- `tool`, `resource`, `prompt` or `server`.
    kind       TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    -- `allowed` or `denied`.
    decision   TEXT   NOT NULL,
    count      BIGINT NOT NULL,
    last_at    BIGINT NOT NULL
);

CREATE INDEX observed_operations_by_time ON observed_operations (tenant_id, last_at);
