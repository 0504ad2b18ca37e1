-- Which of the authorizations under way give way when there are too many: where each came from, and how far it is.
ALTER TABLE authorizations ADD COLUMN source TEXT NOT NULL DEFAULT '';
-- 0 until somebody acts on it, 1 once somebody agreed, 2 once somebody has signed in.
ALTER TABLE authorizations ADD COLUMN stage BIGINT NOT NULL DEFAULT 0;

CREATE INDEX authorizations_by_stage ON authorizations (stage, created_at);
CREATE INDEX authorizations_by_source ON authorizations (source, stage, created_at);

-- Of an account's grants, those that are live are few among those that have ended.
CREATE INDEX grants_live_by_user ON grants (tenant_id, user_id) WHERE ended_at IS NULL;
