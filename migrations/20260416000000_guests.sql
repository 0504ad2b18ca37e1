-- Whether guests of a tenant's directories come in, and who is one.
ALTER TABLE tenants ADD COLUMN guests BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE users ADD COLUMN guest BOOLEAN NOT NULL DEFAULT FALSE;

DROP VIEW standing;

-- Whether an account may come in. It must be active, its tenant must be, its provider must not have taken back its word, as soon as
-- any tenant has named a directory, its own directory must be one that its own tenant names, and a guest's tenant must take guests.
CREATE VIEW standing AS
SELECT u.id AS user_id, u.tenant_id AS tenant_id,
    CASE
        WHEN t.state <> 'active' THEN 'suspended'
        WHEN u.state <> 'active' THEN u.state
        WHEN u.lapsed THEN 'lapsed'
        WHEN u.directory IS NOT NULL
            AND EXISTS (SELECT 1 FROM counters WHERE name = 'directories_settled')
            AND NOT EXISTS (SELECT 1 FROM directories d WHERE d.id = u.directory AND d.tenant_id = u.tenant_id) THEN 'elsewhere'
        WHEN u.guest AND NOT t.guests THEN 'guest'
        ELSE 'active'
    END AS state
FROM users u JOIN tenants t ON t.id = u.tenant_id;
