/**
 * The database of the embedded store. Every entry of MIGRATIONS takes it one version up; entries
 * are never edited once released. Rows of keys and keyspaces are numbered by AUTOINCREMENT, so a
 * number is never used twice, not even after a delete.
 */

/** `PRAGMA application_id`, the ASCII of "DRIP": tells our files from those of other programs. */
export const APPLICATION_ID = 0x44524950

export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE keyspace (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    ksid TEXT NOT NULL,
    name TEXT NOT NULL,
    keys_prefix TEXT NOT NULL,
    -- No limit: capacity 0.
    capacity INTEGER NOT NULL,
    rate INTEGER NOT NULL,
    interval_ms INTEGER NOT NULL,
    require_expiration INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    key_count INTEGER NOT NULL DEFAULT 0,
    -- Set by a delete; the row and its keys are invisible from then on and swept piece by piece.
    deleted_at INTEGER
  ) STRICT;
  CREATE UNIQUE INDEX keyspace_ksid ON keyspace (ksid) WHERE deleted_at IS NULL;
  CREATE UNIQUE INDEX keyspace_name ON keyspace (name) WHERE deleted_at IS NULL;
  CREATE UNIQUE INDEX keyspace_prefix ON keyspace (keys_prefix) WHERE deleted_at IS NULL;

  CREATE TABLE key (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    keyspace INTEGER NOT NULL REFERENCES keyspace (seq),
    kid TEXT NOT NULL UNIQUE,
    token_hash BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at_ms INTEGER,
    expires_at TEXT,
    -- Its own limit; capacity NULL inherits the keyspace's.
    capacity INTEGER,
    rate INTEGER,
    interval_ms INTEGER
  ) STRICT;
  CREATE INDEX key_page ON key (keyspace, seq);
  CREATE INDEX key_expiry ON key (expires_at_ms) WHERE expires_at_ms IS NOT NULL;

  -- The only hot table. A key without a row was never used.
  CREATE TABLE bucket (
    seq INTEGER PRIMARY KEY,
    -- NULL: full.
    remaining INTEGER,
    last_refilled INTEGER,
    last_used INTEGER,
    -- The limit in whose terms remaining and last_refilled are.
    capacity INTEGER NOT NULL,
    rate INTEGER NOT NULL,
    interval_ms INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE service_key (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    skid TEXT NOT NULL UNIQUE,
    token_hash BLOB NOT NULL,
    description TEXT NOT NULL,
    admin INTEGER NOT NULL,
    roles TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- The row stays after a delete, so that no skid is ever given twice.
    deleted_at INTEGER
  ) STRICT;
  CREATE UNIQUE INDEX service_key_token ON service_key (token_hash) WHERE deleted_at IS NULL;

  CREATE TABLE policy (
    service_key INTEGER NOT NULL REFERENCES service_key (seq),
    ksid TEXT NOT NULL,
    can_read INTEGER NOT NULL,
    can_write INTEGER NOT NULL,
    PRIMARY KEY (service_key, ksid)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX policy_ksid ON policy (ksid);
  `,
  `
  -- What scripts keep by plain keys.
  CREATE TABLE cache_entry (
    seq INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    value BLOB NOT NULL,
    -- NULL: never.
    expires_at INTEGER
  ) STRICT;
  CREATE INDEX cache_entry_expiry ON cache_entry (expires_at) WHERE expires_at IS NOT NULL;
  `,
]
