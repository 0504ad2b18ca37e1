-- Processes that serve from this database now: each says every few seconds that it is there.
CREATE TABLE replicas (
    -- Another one at every start.
    id      UUID   NOT NULL PRIMARY KEY,
    -- Microseconds since 1970.
    seen_at BIGINT NOT NULL
);
