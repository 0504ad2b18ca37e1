-- What an attempt to sign in is found by: the program's own name, the person's, and the grant that came of it.
ALTER TABLE sign_in_traces ADD COLUMN client_name TEXT;
ALTER TABLE sign_in_traces ADD COLUMN username TEXT;
ALTER TABLE sign_in_traces ADD COLUMN grant_id UUID;

CREATE INDEX sign_in_traces_by_grant ON sign_in_traces (grant_id) WHERE grant_id IS NOT NULL;
CREATE INDEX sign_in_traces_under_way ON sign_in_traces (updated_at) WHERE outcome = 'under_way';
