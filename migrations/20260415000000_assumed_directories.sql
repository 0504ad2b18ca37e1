-- Whether nobody named a directory for its tenant: the gateway wrote it down, when the first was named, for those whose people had
-- accounts already. What such a directory says of its people gives nobody more than the role `user`.
ALTER TABLE directories ADD COLUMN assumed BOOLEAN NOT NULL DEFAULT FALSE;

-- Which of those before were written down is not known. Elsewhere than in the first tenant, somebody named them.
UPDATE directories SET assumed = TRUE WHERE tenant_id = 'default';
