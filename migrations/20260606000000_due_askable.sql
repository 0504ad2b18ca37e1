-- Who is due is found, and counted, without a look at what is sealed: only those of which a provider can be asked are in the indexes.
DROP INDEX logins_by_due;
DROP INDEX logins_by_due_well;
CREATE INDEX logins_by_due ON logins (provider, due_at, tenant_id)
    WHERE due_at IS NOT NULL AND state = 'active' AND tokens IS NOT NULL;
CREATE INDEX logins_by_due_well ON logins (provider, due_at)
    WHERE due_at IS NOT NULL AND state = 'active' AND tokens IS NOT NULL AND failures = 0;
