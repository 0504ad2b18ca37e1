-- People who connected to servers whose own authorization server knows them.

-- Where such a server's authorization server is, as it was found the last time.
CREATE TABLE connection_issuers (
    tenant_id TEXT   NOT NULL,
    server_id UUID   NOT NULL PRIMARY KEY,
    issuer    TEXT   NOT NULL,
    -- administrator, server or neighbour: who named it.
    named_by  TEXT   NOT NULL,
    -- What tokens must be for (RFC 8707).
    resource  TEXT   NOT NULL,
    -- What the server wants to see in a token, separated by spaces.
    scopes    TEXT   NOT NULL,
    -- Where the server was then, by which it is seen that it has moved since.
    place     TEXT   NOT NULL,
    found_at  BIGINT NOT NULL,
    FOREIGN KEY (tenant_id, server_id) REFERENCES servers (tenant_id, id) ON DELETE CASCADE
);

-- The gateway as a client that registered itself at a server's authorization server: as which whoever goes there next is sent. Who
-- connected keeps the client to which their tokens were given.
CREATE TABLE connection_clients (
    server_id  UUID    NOT NULL PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    issuer     TEXT    NOT NULL,
    -- Id and secret, sealed; null while the first registration is under way.
    client     BYTEA,
    -- When the secret ends; null: it does not.
    expires_at BIGINT,
    -- Until when whoever registers has it alone.
    until      BIGINT  NOT NULL,
    -- Grows with each change: of several that want to change it, one does.
    version    BIGINT  NOT NULL
);

CREATE TABLE connections (
    id         UUID    NOT NULL PRIMARY KEY,
    -- The tenant of the person; the server may be another tenant's that offers it.
    tenant_id  TEXT    NOT NULL,
    user_id    UUID    NOT NULL,
    server_id  UUID    NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    -- What it is good for: this authorization server, and the server at this place.
    issuer     TEXT    NOT NULL,
    place      TEXT    NOT NULL,
    -- Tokens and the client that they were given to, sealed; null once they are of no use.
    tokens     BYTEA,
    -- What was granted, separated by spaces.
    scopes     TEXT    NOT NULL,
    -- What the server wants to see besides, separated by spaces.
    wanted     TEXT    NOT NULL DEFAULT '',
    state      TEXT    NOT NULL CHECK (state IN ('active', 'needs_person')),
    -- Why it is not active, or was not renewed the last time: one word, never a token.
    reason     TEXT,
    created_at BIGINT  NOT NULL,
    renewed_at BIGINT  NOT NULL,
    -- When the access token ends; null: nobody says.
    expires_at BIGINT,
    -- Before when nobody renews the tokens: somebody is at it, or could not.
    until      BIGINT  NOT NULL DEFAULT 0,
    asking     BOOLEAN NOT NULL DEFAULT FALSE,
    failures   BIGINT  NOT NULL DEFAULT 0,
    -- Grows with each change: what is written of an answer is written as long as nobody else got the tokens since.
    version    BIGINT  NOT NULL DEFAULT 0,
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
);

CREATE UNIQUE INDEX connections_by_user ON connections (tenant_id, user_id, server_id);
CREATE INDEX connections_by_server ON connections (server_id);

-- People on their way to an authorization server and back; minutes old at most.
CREATE TABLE connection_attempts (
    -- SHA-256 of the `state`.
    state_hash   BYTEA  NOT NULL PRIMARY KEY,
    -- SHA-256 of the cookie of the browser's session.
    browser_hash BYTEA  NOT NULL,
    tenant_id    TEXT   NOT NULL,
    user_id      UUID   NOT NULL,
    server_id    UUID   NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    -- What they were sent with, sealed.
    sent         BYTEA  NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
);

CREATE INDEX connection_attempts_by_user ON connection_attempts (tenant_id, user_id, created_at);
CREATE INDEX connection_attempts_by_end ON connection_attempts (expires_at);

-- Who connected or disconnected of late: what processes keep in memory is got anew then.
CREATE TABLE connection_changes (
    number    BIGINT  NOT NULL PRIMARY KEY,
    tenant_id TEXT    NOT NULL,
    user_id   UUID    NOT NULL,
    server_id UUID    NOT NULL,
    connected BOOLEAN NOT NULL,
    at        BIGINT  NOT NULL,
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
);

CREATE INDEX connection_changes_by_time ON connection_changes (at);

INSERT INTO counters (name, value) VALUES ('connections', 0);
