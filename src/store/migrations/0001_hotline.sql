-- The hotline's first tables. Ids are ULID text, times are milliseconds since 1970 UTC, money is in cents.

CREATE TABLE customer (
  id         TEXT PRIMARY KEY NOT NULL,
  name       TEXT NOT NULL,
  vip        INTEGER NOT NULL DEFAULT 0 CHECK (vip IN (0, 1)),
  elder      INTEGER NOT NULL DEFAULT 0 CHECK (elder IN (0, 1)),
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE contact_point (
  id          TEXT PRIMARY KEY NOT NULL,
  customer_id TEXT NOT NULL REFERENCES customer (id),
  kind        TEXT NOT NULL CHECK (kind IN ('phone')),
  value       TEXT NOT NULL,               -- a normalised number
  is_primary  INTEGER NOT NULL DEFAULT 1 CHECK (is_primary IN (0, 1)),
  UNIQUE (kind, value)
) STRICT;
CREATE INDEX contact_point_customer ON contact_point (customer_id);

CREATE TABLE address (
  id          TEXT PRIMARY KEY NOT NULL,
  customer_id TEXT NOT NULL REFERENCES customer (id),
  label       TEXT NOT NULL,
  text        TEXT NOT NULL,
  UNIQUE (customer_id, label)
) STRICT;

CREATE TABLE orders (
  id           TEXT PRIMARY KEY NOT NULL,
  customer_id  TEXT NOT NULL REFERENCES customer (id),
  no           TEXT NOT NULL UNIQUE,
  item         TEXT NOT NULL,
  amount_cents INTEGER NOT NULL CHECK (amount_cents >= 0),
  status       TEXT NOT NULL CHECK (status IN ('paid', 'packing', 'shipped', 'signed', 'closed', 'cancelled')),
  eta          TEXT NOT NULL,              -- 2026-11-22
  address      TEXT NOT NULL,
  receiver     TEXT NOT NULL,
  buyer_phone  TEXT NOT NULL,              -- a normalised number
  placed_at    INTEGER NOT NULL,
  urged        INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX orders_buyer ON orders (buyer_phone, placed_at DESC);

-- A call has exactly one row; ended_at is empty while it lasts.
CREATE TABLE call (
  id               TEXT PRIMARY KEY NOT NULL,
  sip_call_id      TEXT NOT NULL DEFAULT '',
  from_number      TEXT NOT NULL DEFAULT '',
  to_number        TEXT NOT NULL DEFAULT '',
  customer_id      TEXT REFERENCES customer (id),
  started_at       INTEGER NOT NULL,
  answered_at      INTEGER,
  ended_at         INTEGER,
  outcome          TEXT CHECK (outcome IN ('resolved', 'ticketed', 'transferred', 'abandoned', 'failed')),
  cause            INTEGER,                -- Q.850
  hung_up_by       TEXT CHECK (hung_up_by IN ('caller', 'seat', 'us')),
  reason           TEXT,
  steps            INTEGER NOT NULL DEFAULT 0,
  retries          INTEGER NOT NULL DEFAULT 0,
  verify_questions INTEGER NOT NULL DEFAULT 0,
  turns            INTEGER NOT NULL DEFAULT 0,
  flows            TEXT NOT NULL DEFAULT '[]',
  bridged          INTEGER NOT NULL DEFAULT 0 CHECK (bridged IN (0, 1)),
  flow_set         TEXT,                   -- content hash of the published flows that served it
  rtp              TEXT,                   -- JSON: loss, jitter, round trip
  CHECK ((ended_at IS NULL) = (outcome IS NULL))
) STRICT;
CREATE INDEX call_started ON call (started_at DESC);
CREATE INDEX call_open ON call (id) WHERE ended_at IS NULL;

CREATE TABLE order_event (
  id       INTEGER PRIMARY KEY,
  order_id TEXT NOT NULL REFERENCES orders (id),
  call_id  TEXT REFERENCES call (id),
  at       INTEGER NOT NULL,
  kind     TEXT NOT NULL CHECK (kind IN ('address_changed', 'urged')),
  was      TEXT,
  became   TEXT
) STRICT;
CREATE INDEX order_event_order ON order_event (order_id, id);
CREATE UNIQUE INDEX order_urged_once ON order_event (order_id, call_id) WHERE kind = 'urged';

CREATE TABLE turn (
  call_id        TEXT NOT NULL REFERENCES call (id),
  seq            INTEGER NOT NULL,
  at_ms          INTEGER NOT NULL,         -- from the call's answer
  flow           TEXT NOT NULL,
  node           TEXT NOT NULL,
  step           INTEGER NOT NULL,
  heard          TEXT NOT NULL,
  by_keys        INTEGER NOT NULL CHECK (by_keys IN (0, 1)),
  confidence     REAL NOT NULL,
  intent         TEXT NOT NULL,
  score          REAL NOT NULL,
  emotion        TEXT NOT NULL,
  barge_in       INTEGER NOT NULL CHECK (barge_in IN (0, 1)),
  reply          TEXT NOT NULL,
  endpoint_ms    INTEGER NOT NULL,
  recognise_ms   INTEGER NOT NULL,
  understand_ms  INTEGER NOT NULL,
  act_ms         INTEGER NOT NULL,
  first_audio_ms INTEGER NOT NULL,
  PRIMARY KEY (call_id, seq)
) STRICT;

CREATE TABLE call_event (
  id      INTEGER PRIMARY KEY,
  call_id TEXT NOT NULL REFERENCES call (id),
  at_ms   INTEGER NOT NULL,                -- from the call's start
  kind    TEXT NOT NULL,
  data    TEXT NOT NULL                    -- JSON
) STRICT;
CREATE INDEX call_event_call ON call_event (call_id, id);

CREATE TABLE ticket_day (
  day  TEXT PRIMARY KEY NOT NULL,          -- 20261120, in China
  last INTEGER NOT NULL
) STRICT;

CREATE TABLE ticket (
  id                TEXT PRIMARY KEY NOT NULL,
  no                TEXT NOT NULL UNIQUE,
  call_id           TEXT NOT NULL REFERENCES call (id),
  request           INTEGER NOT NULL,      -- the call's own number for the wish; a repeated wish makes no second ticket
  customer_id       TEXT REFERENCES customer (id),
  contact           TEXT NOT NULL DEFAULT '',
  category          TEXT NOT NULL,
  priority          TEXT NOT NULL CHECK (priority IN ('P0', 'P1', 'P2', 'P3')),
  state             TEXT NOT NULL,
  title             TEXT NOT NULL,
  facts             TEXT NOT NULL,         -- JSON
  sla               TEXT NOT NULL,
  created_at        INTEGER NOT NULL,
  first_due         INTEGER NOT NULL,
  resolve_due       INTEGER NOT NULL,
  recording_from_ms INTEGER,
  recording_to_ms   INTEGER,
  UNIQUE (call_id, request)
) STRICT;
CREATE INDEX ticket_created ON ticket (created_at DESC);

CREATE TABLE ticket_event (
  id        INTEGER PRIMARY KEY,
  ticket_id TEXT NOT NULL REFERENCES ticket (id),
  at        INTEGER NOT NULL,
  actor     TEXT NOT NULL,
  kind      TEXT NOT NULL,
  note      TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX ticket_event_ticket ON ticket_event (ticket_id, id);

CREATE TABLE transfer (
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
  result      TEXT CHECK (result IN ('connected', 'busy', 'timeout', 'closed')),
  PRIMARY KEY (call_id, seq)
) STRICT;

CREATE TABLE recording (
  call_id     TEXT PRIMARY KEY NOT NULL REFERENCES call (id),
  path        TEXT NOT NULL,
  duration_ms INTEGER NOT NULL,
  created_at  INTEGER NOT NULL
) STRICT;
