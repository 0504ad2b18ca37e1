-- How far each chain was sent to each collector, and until when a process has that to itself.
CREATE TABLE audit_sent_to (
    way      TEXT   NOT NULL,
    chain    TEXT   NOT NULL,
    seq      BIGINT NOT NULL,
    until_at BIGINT NOT NULL,
    PRIMARY KEY (way, chain)
);

INSERT INTO audit_sent_to (way, chain, seq, until_at) SELECT 'syslog', chain, seq, until_at FROM audit_sent;

DROP TABLE audit_sent;
