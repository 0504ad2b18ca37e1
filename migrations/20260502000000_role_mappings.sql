-- Which app roles and groups of a tenant's directories give which role, in place of the settings' rules: an array; null: the settings'.
ALTER TABLE tenants ADD COLUMN role_mappings JSONB;
