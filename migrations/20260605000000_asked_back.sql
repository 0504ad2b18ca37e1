-- What becomes of what a server behind the gateway wants to see of the person (logins.claims): `wanted` by a call on this grant, whose
-- holder is to send the person to sign in; `told` once the holder was.
ALTER TABLE grants ADD COLUMN asked_back TEXT CHECK (asked_back IN ('wanted', 'told'));
