-- How each process was, at intervals. What could not be measured is null.
CREATE TABLE samples (
    -- Seconds since 1970.
    at                BIGINT NOT NULL,
    instance          UUID   NOT NULL,
    -- Since the sample before, or since the process began.
    seconds           DOUBLE PRECISION NOT NULL,
    requests          BIGINT NOT NULL,
    -- Accounts of the whole gateway that were active within five minutes.
    users             BIGINT NOT NULL,
    sessions          BIGINT NOT NULL,
    sessions_limit    BIGINT NOT NULL,
    -- Of clients.
    connections       BIGINT NOT NULL,
    connections_limit BIGINT NOT NULL,
    -- Requests in flight to upstream servers.
    pool_in_use       BIGINT NOT NULL,
    pool_limit        BIGINT NOT NULL,
    -- Connections to the database.
    database_in_use   BIGINT NOT NULL,
    database_limit    BIGINT NOT NULL,
    -- Bytes.
    memory            BIGINT,
    memory_limit      BIGINT,
    -- Processors in use since the sample before, and how many there are.
    cpu               DOUBLE PRECISION,
    cpu_limit         DOUBLE PRECISION,
    descriptors       BIGINT,
    descriptors_limit BIGINT,
    -- How fair the sharing among tenants was, 0 to 1.
    fairness          DOUBLE PRECISION,
    -- Since the process began: operations that were answered by the sample before, and how many of them are in the trail.
    answered          BIGINT NOT NULL,
    recorded          BIGINT NOT NULL,
    -- What was not well then, separated by commas.
    unwell            TEXT   NOT NULL,
    PRIMARY KEY (at, instance)
);

-- Minutes since 1970 in which a process was there to serve.
CREATE TABLE heartbeats (
    minute BIGINT NOT NULL PRIMARY KEY
);

-- What the figures of a day were (days since 1970), for longer than what they are made of is kept.
CREATE TABLE kpi_days (
    day   BIGINT NOT NULL,
    name  TEXT   NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (day, name)
);
