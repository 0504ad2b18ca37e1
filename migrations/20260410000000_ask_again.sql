-- Before when nobody asks the provider about a login: somebody is asking, or it could not be asked.
ALTER TABLE logins ADD COLUMN ask_after BIGINT NOT NULL DEFAULT 0;
