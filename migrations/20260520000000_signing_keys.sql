-- The keys with which the gateway signs its word about who calls, each sealed under the master key and bound to its id. The newest that
-- others had time to read is signed with; those before it stay until nothing that they signed is good any more.
CREATE TABLE signing_keys (
    id         UUID   NOT NULL PRIMARY KEY,
    sealed     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL
);
