-- How much each tenant may call, and what is done for it beyond the rest.

-- Most requests a minute; null: no cap of its own.
ALTER TABLE tenants ADD COLUMN base_rpm BIGINT;
-- Its weight when tenants share.
ALTER TABLE tenants ADD COLUMN fairness_weight DOUBLE PRECISION NOT NULL DEFAULT 1.0;
-- How many times its share it may borrow; null: as the settings say.
ALTER TABLE tenants ADD COLUMN burst_factor DOUBLE PRECISION;
-- Most requests under way at once; null: no cap of its own.
ALTER TABLE tenants ADD COLUMN max_concurrent_requests BIGINT;
ALTER TABLE tenants ADD COLUMN priority_support BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE tenants ADD COLUMN enhanced_monitoring BOOLEAN NOT NULL DEFAULT FALSE;
-- When any of these was last changed; null: never.
ALTER TABLE tenants ADD COLUMN terms_changed_at BIGINT;
