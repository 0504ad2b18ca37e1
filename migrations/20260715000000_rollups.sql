-- What is counted of the records of the audit trail, in the transaction that stores them. Periods are of 60, 3600 or 86400 seconds
-- (`span`) and begin at `at`, seconds since 1970. The tenant is empty of what concerns none.
CREATE TABLE rollup_calls (
    span           BIGINT NOT NULL,
    tenant_id      TEXT   NOT NULL,
    at             BIGINT NOT NULL,
    -- Server, method and name are empty of what tells of all that a tenant did; there is nothing else of minutes.
    server         TEXT   NOT NULL,
    method         TEXT   NOT NULL,
    -- Of a tool or prompt; `other` beyond the most that are told apart.
    name           TEXT   NOT NULL,
    calls          BIGINT NOT NULL,
    tool_errors    BIGINT NOT NULL,
    errors         BIGINT NOT NULL,
    denied         BIGINT NOT NULL,
    rate_limited   BIGINT NOT NULL,
    request_bytes  BIGINT NOT NULL,
    response_bytes BIGINT NOT NULL,
    -- Microseconds.
    total_us       BIGINT NOT NULL,
    upstream_us    BIGINT NOT NULL,
    -- Those that succeeded within one second, and those that did within four.
    satisfied      BIGINT NOT NULL,
    tolerated      BIGINT NOT NULL,
    -- The times, as a sketch.
    latency        BYTEA  NOT NULL,
    PRIMARY KEY (span, tenant_id, at, server, method, name)
);
CREATE INDEX rollup_calls_by_time ON rollup_calls (span, at);
CREATE INDEX rollup_calls_whole ON rollup_calls (span, at, tenant_id) WHERE method = '';

-- Authentications, ended sessions, patterns of use, bans: by hours and days.
CREATE TABLE rollup_events (
    span      BIGINT NOT NULL,
    tenant_id TEXT   NOT NULL,
    at        BIGINT NOT NULL,
    -- auth, login, session, pattern or ban.
    kind      TEXT   NOT NULL,
    -- How somebody came, which pattern, what of a ban.
    what      TEXT   NOT NULL,
    result    TEXT   NOT NULL,
    reason    TEXT   NOT NULL,
    count     BIGINT NOT NULL,
    -- How long all of them lasted, microseconds.
    lasted_us BIGINT NOT NULL,
    -- Each, as a sketch.
    lasted    BYTEA  NOT NULL,
    -- The last one, microseconds since 1970.
    last_at   BIGINT NOT NULL,
    PRIMARY KEY (span, tenant_id, at, kind, what, result, reason)
);
CREATE INDEX rollup_events_by_time ON rollup_events (span, kind, at);

-- What accounts did, by hours and days.
CREATE TABLE rollup_users (
    span       BIGINT NOT NULL,
    tenant_id  TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    user_id    UUID   NOT NULL,
    operations BIGINT NOT NULL,
    tool_calls BIGINT NOT NULL,
    errors     BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    PRIMARY KEY (span, tenant_id, at, user_id)
);
CREATE INDEX rollup_users_by_time ON rollup_users (span, at);
CREATE INDEX rollup_users_of_one ON rollup_users (tenant_id, user_id, span, at);

-- What of an account's doings has a name, by days: its tools, errors, patterns, logins by their hour.
CREATE TABLE rollup_user_words (
    tenant_id TEXT   NOT NULL,
    user_id   UUID   NOT NULL,
    at        BIGINT NOT NULL,
    -- tool, error, pattern or login.
    kind      TEXT   NOT NULL,
    -- Of a tool its server.
    place     TEXT   NOT NULL,
    word      TEXT   NOT NULL,
    count     BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id, at, kind, place, word)
);
CREATE INDEX rollup_user_words_by_time ON rollup_user_words (at);
