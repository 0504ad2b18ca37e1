-- The trace of the sign-in that a code came of: whoever shows the code is noted there.
ALTER TABLE authorization_codes ADD COLUMN trace_id UUID;
