-- The key that seals what belongs to a tenant, itself sealed under the master key; null: none was made yet. With the row it is gone.
ALTER TABLE tenants ADD COLUMN data_key BYTEA;
