-- Whether the provider that vouches for an account has said that the person may not come in any longer, until it lets the person
-- sign in again. Then the account's API keys are no good either.
ALTER TABLE users ADD COLUMN lapsed BOOLEAN NOT NULL DEFAULT FALSE;

DROP VIEW standing;

-- Once a directory was named, the names decide for good.
INSERT INTO counters (name, value) SELECT 'directories_settled', 1 FROM directories LIMIT 1;

-- Whether an account may come in. It must be active, its tenant must be, its provider must not have taken back its word, and as
-- soon as any tenant has named a directory, its own directory must be one that its own tenant names.
CREATE VIEW standing AS
SELECT u.id AS user_id, u.tenant_id AS tenant_id,
    CASE
        WHEN t.state <> 'active' THEN 'suspended'
        WHEN u.state <> 'active' THEN u.state
        WHEN u.lapsed THEN 'lapsed'
        WHEN u.directory IS NOT NULL
            AND EXISTS (SELECT 1 FROM counters WHERE name = 'directories_settled')
            AND NOT EXISTS (SELECT 1 FROM directories d WHERE d.id = u.directory AND d.tenant_id = u.tenant_id) THEN 'elsewhere'
        ELSE 'active'
    END AS state
FROM users u JOIN tenants t ON t.id = u.tenant_id;
