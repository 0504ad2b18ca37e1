-- Who needs no tenants sees how long each tool takes.
UPDATE tenants SET enhanced_monitoring = TRUE WHERE id = 'default';
