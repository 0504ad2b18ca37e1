-- Whether records of a tenant show what its tools are called with.
ALTER TABLE tenants ADD COLUMN recorded_arguments BOOLEAN NOT NULL DEFAULT FALSE;
