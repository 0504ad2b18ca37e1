-- Many records of a chain as one row. A record of `audit_records` moves here with those beside it; what is still there is little, and is
-- looked through whole. Its index by id stays: until the records of an older version moved, one of them is found by it.
DROP INDEX audit_records_by_chain;
DROP INDEX audit_records_by_chain_name;
DROP INDEX audit_records_by_user;
DROP INDEX audit_records_by_name;
DROP INDEX audit_records_by_address;
DROP INDEX audit_records_by_client;
DROP INDEX audit_records_by_request;
DROP INDEX audit_records_by_action;
DROP INDEX audit_records_by_outcome;

CREATE TABLE audit_blocks (
    chain       TEXT   NOT NULL,
    -- Its records are those from here to there, without a gap.
    first_seq   BIGINT NOT NULL,
    last_seq    BIGINT NOT NULL,
    -- Of their ids, which sort by time.
    least_id    UUID   NOT NULL,
    greatest_id UUID   NOT NULL,
    -- Short hashes of what is looked for, and times, all records of one kind after the other: a block in which none fits is not opened.
    columns     BYTEA  NOT NULL,
    -- SHA-256 of the hash before each and its text.
    hashes      BYTEA  NOT NULL,
    -- The records to the letter, compressed (LZ4).
    texts       BYTEA  NOT NULL,
    PRIMARY KEY (chain, first_seq)
);

-- No two blocks have the same place in these, so that none is passed over between two pages. The second id is there so that blocks of another
-- time are passed over within the index.
CREATE INDEX audit_blocks_by_id ON audit_blocks (greatest_id, chain, first_seq, least_id);
CREATE INDEX audit_blocks_by_chain ON audit_blocks (chain, greatest_id, first_seq, least_id);
