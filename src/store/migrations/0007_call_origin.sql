-- Which way a call went, and what the network said of its origin.
ALTER TABLE call ADD COLUMN direction TEXT NOT NULL DEFAULT 'in' CHECK (direction IN ('in', 'out')); -- out: a seat called
ALTER TABLE call ADD COLUMN diverted_from TEXT;                                                      -- the number first dialled
ALTER TABLE call ADD COLUMN diverted_why TEXT;                                                       -- no-answer, user-busy
ALTER TABLE call ADD COLUMN private INTEGER NOT NULL DEFAULT 0 CHECK (private IN (0, 1));            -- the caller hides the number
