-- Throws dead letters away that are named, as far as they are there.
-- KEYS: dead, spare.  ARGV: the letters as stored, each with its place.  Returns how many.
redis.call('LREM', KEYS[2], 1, '') -- harmless: it may be denied, and lets the script write when memory is full
return (take_named(KEYS[1], ARGV, 1, function() end))
