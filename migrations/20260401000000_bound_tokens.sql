-- What is bound to a key of the client's (RFC 9449): the SHA-256 thumbprint of that key (RFC 7638); null for what anybody may show.
ALTER TABLE access_tokens ADD COLUMN jkt BYTEA;
-- The key that the code must be shown with.
ALTER TABLE authorization_codes ADD COLUMN jkt BYTEA;
-- The key that its refresh tokens must be shown with.
ALTER TABLE grants ADD COLUMN jkt BYTEA;
