-- When a provider's tokens came, and when the access token among them ends. Microseconds, like all times.
ALTER TABLE logins ADD COLUMN issued_at  BIGINT NOT NULL DEFAULT 0;
ALTER TABLE logins ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;
-- When the provider is to be asked next; null: not before somebody uses what rests on it.
ALTER TABLE logins ADD COLUMN due_at     BIGINT;
-- Whether somebody has it alone to ask, until ask_after at most; and whether the provider has been asked since then. Both stay true when
-- who asked was cut off.
ALTER TABLE logins ADD COLUMN asking     BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE logins ADD COLUMN sent       BOOLEAN NOT NULL DEFAULT FALSE;
-- When it was seen that somebody who asked was cut off, until the provider answers well.
ALTER TABLE logins ADD COLUMN cut_off_at BIGINT;
-- Before when not even an administrator has the provider asked.
ALTER TABLE logins ADD COLUMN not_before BIGINT NOT NULL DEFAULT 0;
-- Questions in a row that came to nothing.
ALTER TABLE logins ADD COLUMN failures   BIGINT NOT NULL DEFAULT 0;
-- The last question: when, why it was asked, how it came out, and the provider's error code.
ALTER TABLE logins ADD COLUMN last_at     BIGINT;
ALTER TABLE logins ADD COLUMN last_kind   TEXT;
ALTER TABLE logins ADD COLUMN last_result TEXT;
ALTER TABLE logins ADD COLUMN last_code   TEXT;

-- What was kept before does not say when it ends but inside of what is sealed: an hour is what most providers give. Fractions of seconds
-- spread them over half an hour, so that not everybody is asked about at once.
UPDATE logins SET issued_at = checked_at, expires_at = checked_at + 3600000000;
UPDATE logins SET due_at = CASE WHEN ask_after > checked_at + 3000000000 THEN ask_after
    ELSE checked_at + 3000000000 - (checked_at % 1000000) * 1800 END
WHERE state = 'active' AND tokens IS NOT NULL;

DROP INDEX logins_by_check;
CREATE INDEX logins_by_due ON logins (provider, due_at, tenant_id) WHERE due_at IS NOT NULL;
-- Those of which no question has failed are asked about first.
CREATE INDEX logins_by_due_well ON logins (provider, due_at) WHERE due_at IS NOT NULL AND failures = 0;
CREATE INDEX logins_parked ON logins (tenant_id) WHERE state <> 'active';

-- How refreshes came out, by the hour in which they did.
CREATE TABLE refreshes (
    tenant_id TEXT   NOT NULL,
    -- Hours since 1970.
    hour      BIGINT NOT NULL,
    -- proactive, emergency, forced or on_demand.
    kind      TEXT   NOT NULL,
    -- success, failure or reauth_required.
    result    TEXT   NOT NULL,
    count     BIGINT NOT NULL,
    -- Tries beyond the first that these took.
    retries   BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, hour, kind, result)
);

CREATE INDEX refreshes_by_hour ON refreshes (hour);
