-- A caller who gives up waiting, or hangs up on the way to a seat: SQLite changes a CHECK only with its table.
CREATE TABLE transfer_new (
  call_id     TEXT NOT NULL REFERENCES call (id),
  seq         INTEGER NOT NULL,            -- first transfer of the call is 1
  queue       TEXT NOT NULL,
  skill       TEXT,
  warm        INTEGER NOT NULL CHECK (warm IN (0, 1)),
  briefing    TEXT NOT NULL,
  seat        TEXT,
  asked_at    INTEGER NOT NULL,
  bridged_at  INTEGER,
  returned_at INTEGER,
  result      TEXT CHECK (result IN ('connected', 'busy', 'timeout', 'closed', 'cancelled')),
  PRIMARY KEY (call_id, seq)
) STRICT;
INSERT INTO transfer_new SELECT * FROM transfer;
DROP TABLE transfer;
ALTER TABLE transfer_new RENAME TO transfer;
