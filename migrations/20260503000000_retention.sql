-- For how many days what is recorded of a tenant is kept.
ALTER TABLE tenants ADD COLUMN audit_days BIGINT NOT NULL DEFAULT 365;
ALTER TABLE tenants ADD COLUMN analytics_days BIGINT NOT NULL DEFAULT 395;
