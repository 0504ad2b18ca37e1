-- Which directories of Entra are whose, tenants that are suspended, and how accounts stand.

ALTER TABLE tenants ADD COLUMN state TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended'));
ALTER TABLE tenants ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
UPDATE tenants SET updated_at = created_at;

CREATE TABLE directories (
    -- The directory's id, a GUID in lower case.
    id        TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE
);

CREATE INDEX directories_by_tenant ON directories (tenant_id);

-- The directory of a person of Entra; null for everybody else.
ALTER TABLE users ADD COLUMN directory TEXT;
UPDATE users SET directory = substr(issuer, length(issuer) - 40, 36)
    WHERE issuer LIKE '%/________-____-____-____-____________/v2.0';

CREATE INDEX users_by_directory ON users (directory) WHERE directory IS NOT NULL;

-- Whether an account may come in. It must be active, its tenant must be, and as soon as any tenant names a directory, its own
-- directory must be one that its own tenant names.
CREATE VIEW standing AS
SELECT u.id AS user_id, u.tenant_id AS tenant_id,
    CASE
        WHEN t.state <> 'active' THEN 'suspended'
        WHEN u.state <> 'active' THEN u.state
        WHEN u.directory IS NOT NULL AND EXISTS (SELECT 1 FROM directories) AND NOT EXISTS
            (SELECT 1 FROM directories d WHERE d.id = u.directory AND d.tenant_id = u.tenant_id) THEN 'elsewhere'
        ELSE 'active'
    END AS state
FROM users u JOIN tenants t ON t.id = u.tenant_id;
