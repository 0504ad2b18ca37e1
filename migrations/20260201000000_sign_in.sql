-- People of identity providers, the OAuth clients that act for them, and what was granted. Tokens, codes and secrets are
-- kept as SHA-256 only; what must be read again is sealed under the master key.

-- Who vouches for the account, and the name it has there; both null for an account of this gateway.
ALTER TABLE users ADD COLUMN issuer TEXT;
ALTER TABLE users ADD COLUMN subject TEXT;
ALTER TABLE users ADD COLUMN display_name TEXT;

CREATE UNIQUE INDEX users_by_subject ON users (issuer, subject) WHERE issuer IS NOT NULL;

-- Clients that an administrator registered. Others are known by their metadata document or by a sealed client id.
CREATE TABLE oauth_clients (
    id         UUID   NOT NULL PRIMARY KEY,
    tenant_id  TEXT   NOT NULL REFERENCES tenants (id),
    client_id  TEXT   NOT NULL UNIQUE,
    name       TEXT   NOT NULL,
    -- Redirect URIs, grant types, scopes, how it authenticates, hashes of its secrets, its keys.
    spec       JSONB  NOT NULL,
    -- The account as which it acts on its own (client credentials).
    user_id    UUID,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
);

-- Authorization requests under way, from the first redirect to the code; minutes old at most.
CREATE TABLE authorizations (
    id           UUID   NOT NULL PRIMARY KEY,
    -- SHA-256 of the cookie of the browser that it is bound to.
    browser_hash BYTEA  NOT NULL,
    -- SHA-256 of the `state` sent to the identity provider; null before.
    state_hash   BYTEA  UNIQUE,
    -- What was asked for, sealed.
    request      BYTEA  NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL
);

CREATE INDEX authorizations_by_end ON authorizations (expires_at);

-- What an identity provider gave us for a person: to ask it again whether the person may still come in.
CREATE TABLE logins (
    id         UUID   NOT NULL PRIMARY KEY,
    tenant_id  TEXT   NOT NULL,
    user_id    UUID   NOT NULL,
    provider   TEXT   NOT NULL,
    -- The provider's tokens, sealed; null when it gave none that last.
    tokens     BYTEA,
    state      TEXT   NOT NULL CHECK (state IN ('active', 'needs_interaction', 'dead')),
    -- Why it is not active: the provider's error, never a token.
    reason     TEXT,
    -- What the provider wants to see at the next sign-in (a claims challenge).
    claims     TEXT,
    created_at BIGINT NOT NULL,
    checked_at BIGINT NOT NULL,
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
);

CREATE INDEX logins_by_user ON logins (tenant_id, user_id);
CREATE INDEX logins_by_check ON logins (checked_at) WHERE state = 'active' AND tokens IS NOT NULL;

-- A grant is what one client may do for one account: a session, from its login to its end. Its tokens are one family.
CREATE TABLE grants (
    id           UUID   NOT NULL PRIMARY KEY,
    tenant_id    TEXT   NOT NULL,
    user_id      UUID   NOT NULL,
    -- `client` for a person through a client, `service` for a client on its own, `browser` for a person at our pages.
    kind         TEXT   NOT NULL CHECK (kind IN ('client', 'service', 'browser')),
    client_id    TEXT,
    client_name  TEXT,
    -- The resource that its tokens are good for (RFC 8707).
    resource     TEXT,
    -- Separated by spaces.
    scopes       TEXT   NOT NULL,
    -- `local`, or the name of an identity provider.
    login_method TEXT   NOT NULL,
    login_id     UUID   REFERENCES logins (id) ON DELETE SET NULL,
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    ended_at     BIGINT,
    end_reason   TEXT   CHECK (end_reason IN ('logout', 'timeout', 'error')),
    -- One word about the end: `revoked`, `idle`, `reuse`, `disabled` …
    end_detail   TEXT,
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
);

CREATE INDEX grants_by_user ON grants (tenant_id, user_id);
CREATE INDEX grants_by_client ON grants (tenant_id, client_id) WHERE client_id IS NOT NULL;
CREATE INDEX grants_by_login ON grants (login_id) WHERE login_id IS NOT NULL;
CREATE INDEX grants_by_end ON grants (ended_at, id) WHERE ended_at IS NOT NULL;
CREATE INDEX grants_by_use ON grants (last_used_at) WHERE ended_at IS NULL;
CREATE INDEX grants_by_limit ON grants (expires_at) WHERE ended_at IS NULL;

CREATE TABLE authorization_codes (
    -- SHA-256 of the code.
    hash           BYTEA  NOT NULL PRIMARY KEY,
    grant_id       UUID   NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    redirect_uri   TEXT   NOT NULL,
    -- S256 of the verifier, base64url (RFC 7636).
    code_challenge TEXT   NOT NULL,
    expires_at     BIGINT NOT NULL,
    spent_at       BIGINT
);

CREATE INDEX authorization_codes_by_grant ON authorization_codes (grant_id);
CREATE INDEX authorization_codes_unspent ON authorization_codes (expires_at) WHERE spent_at IS NULL;

-- Kinds of tokens are kept apart: one never passes for another.
CREATE TABLE access_tokens (
    hash       BYTEA  NOT NULL PRIMARY KEY,
    grant_id   UUID   NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    -- May be fewer than the grant's.
    scopes     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- Set at the first use that was noticed, a moment later.
    used_at    BIGINT
);

CREATE INDEX access_tokens_by_grant ON access_tokens (grant_id);
CREATE INDEX access_tokens_by_end ON access_tokens (expires_at);
CREATE INDEX access_tokens_used ON access_tokens (expires_at) WHERE used_at IS NOT NULL;

CREATE TABLE refresh_tokens (
    hash       BYTEA  NOT NULL PRIMARY KEY,
    grant_id   UUID   NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    state      TEXT   NOT NULL CHECK (state IN ('active', 'spent', 'revoked')),
    created_at BIGINT NOT NULL,
    spent_at   BIGINT,
    -- The answer that spent it, sealed, for as long as a lost answer is forgiven.
    answer     BYTEA,
    -- Hashes of what that answer gave.
    next_refresh BYTEA,
    next_access  BYTEA
);

CREATE INDEX refresh_tokens_by_grant ON refresh_tokens (grant_id);
CREATE INDEX refresh_tokens_spent ON refresh_tokens (spent_at) WHERE spent_at IS NOT NULL;
CREATE INDEX refresh_tokens_answered ON refresh_tokens (spent_at) WHERE answer IS NOT NULL;

CREATE TABLE browser_sessions (
    -- SHA-256 of the cookie.
    hash       BYTEA  NOT NULL PRIMARY KEY,
    grant_id   UUID   NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL
);

CREATE INDEX browser_sessions_by_grant ON browser_sessions (grant_id);

-- What a person agreed to once and need not be asked again; only for clients that an administrator registered.
CREATE TABLE consents (
    tenant_id    TEXT   NOT NULL,
    user_id      UUID   NOT NULL,
    client_id    TEXT   NOT NULL,
    redirect_uri TEXT   NOT NULL,
    resource     TEXT   NOT NULL,
    scopes       TEXT   NOT NULL,
    given_at     BIGINT NOT NULL,
    PRIMARY KEY (user_id, client_id, redirect_uri, resource),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
);

-- Assertions that may be shown once: `jti` with who issued it, as SHA-256.
CREATE TABLE spent_assertions (
    hash       BYTEA  NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

CREATE INDEX spent_assertions_by_end ON spent_assertions (expires_at);

-- One row for each attempt to sign in, with its steps; nothing in it is a secret.
CREATE TABLE sign_in_traces (
    id         UUID   NOT NULL PRIMARY KEY,
    tenant_id  TEXT,
    user_id    UUID,
    client_id  TEXT,
    -- `under_way`, `success`, `failure` or `abandoned`.
    outcome    TEXT   NOT NULL CHECK (outcome IN ('under_way', 'success', 'failure', 'abandoned')),
    steps      JSONB  NOT NULL,
    started_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE INDEX sign_in_traces_by_time ON sign_in_traces (updated_at);
