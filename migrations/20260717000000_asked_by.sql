-- Who asked: each account has so many keys, and not only its tenant. What was asked for before has none, for a day.
ALTER TABLE idempotency ADD COLUMN user_id UUID;

CREATE INDEX idempotency_by_account ON idempotency (tenant_id, user_id);
DROP INDEX idempotency_by_tenant;
