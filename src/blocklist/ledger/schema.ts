/**
 * The ledger's tables. Readable with the `sqlite3` command: `target` is hex(family, address, length).
 *
 * Nothing refers to another table by a foreign key: a cause of a million claims would be searched for in all of them.
 * `causes.target` says whose cause it is instead, where it is one target's.
 */

/** "fdrp": tells our files from other SQLite databases. */
export const applicationId = 0x66_64_72_70;

export const fileName = 'ledger.db';

/**
 * Version 2: a claim is limited to ports, which are a part of what it is about: the same owner may wish some for long and all for
 * a while. By their canonical text, for rows of the kernel's `scopes` are another boot's; '' = every port.
 */
export const portsOfClaims = `
CREATE TABLE claims_of_ports (
  target BLOB NOT NULL,
  owner TEXT NOT NULL,
  ports TEXT NOT NULL,
  drop_end INTEGER NOT NULL,  -- ledger ms; 0 never, 2^53-1 for ever
  count_end INTEGER NOT NULL,
  wished_end INTEGER,         -- the later end that a confirmation gives it; NULL: nothing is to be confirmed
  begun INTEGER NOT NULL,
  cause INTEGER NOT NULL,
  withdrawn INTEGER,          -- a tombstone: since when
  PRIMARY KEY (target, owner, ports)
) WITHOUT ROWID;
INSERT INTO claims_of_ports SELECT target, owner, '', drop_end, count_end, NULL, begun, cause, withdrawn FROM claims;
DROP TABLE claims;
ALTER TABLE claims_of_ports RENAME TO claims;
CREATE INDEX claims_withdrawn ON claims (withdrawn) WHERE withdrawn IS NOT NULL;
CREATE INDEX claims_wished ON claims (wished_end) WHERE wished_end IS NOT NULL;
ALTER TABLE history ADD COLUMN ports TEXT;
`;

/** Version 1. */
export const firstSchema = `
CREATE TABLE meta (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  boot_id TEXT NOT NULL,
  boottime INTEGER NOT NULL,  -- ms
  ledger INTEGER NOT NULL,    -- ms of ledger time at that moment
  wall INTEGER NOT NULL       -- ms since 1970 at that moment
);

CREATE TABLE causes (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  wall INTEGER NOT NULL,
  kind TEXT NOT NULL,
  target BLOB,                -- NULL: of many
  name TEXT,                  -- file or feed
  reason TEXT,
  alert_id TEXT,
  rule TEXT,
  priority TEXT,
  hostname TEXT,
  alert_time INTEGER,         -- ms since 1970
  policy TEXT,
  policy_hash TEXT,
  alert TEXT,
  verb TEXT,
  login_uid INTEGER,
  uid INTEGER,
  sudo_user TEXT,
  tty TEXT,
  ssh_client TEXT
);
CREATE INDEX causes_of_many ON causes (id) WHERE target IS NULL;

CREATE TABLE claims (
  target BLOB NOT NULL,
  owner TEXT NOT NULL,
  drop_end INTEGER NOT NULL,  -- ledger ms; 0 never, 2^53-1 for ever
  count_end INTEGER NOT NULL,
  wished_end INTEGER,         -- reserved: an end to be confirmed
  scope INTEGER NOT NULL,     -- 0 all ports
  begun INTEGER NOT NULL,
  cause INTEGER NOT NULL,
  withdrawn INTEGER,          -- a tombstone: since when
  PRIMARY KEY (target, owner)
) WITHOUT ROWID;
CREATE INDEX claims_withdrawn ON claims (withdrawn) WHERE withdrawn IS NOT NULL;

CREATE TABLE history (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  wall INTEGER NOT NULL,
  action TEXT NOT NULL,
  target BLOB,                -- NULL: of many
  owner TEXT,
  rule TEXT,
  drop_end INTEGER,
  count_end INTEGER,
  drop_before INTEGER,
  count_before INTEGER,
  cause INTEGER,
  count INTEGER NOT NULL,
  detail TEXT
);
CREATE INDEX history_target ON history (target) WHERE target IS NOT NULL;
CREATE INDEX history_wall ON history (wall);
CREATE INDEX history_rule ON history (rule) WHERE rule IS NOT NULL;
CREATE INDEX history_owner ON history (owner) WHERE owner IS NOT NULL;
-- One row for each thing done to a set, whatever the number of slices it was done in.
CREATE UNIQUE INDEX history_of_many ON history (cause, action, owner) WHERE target IS NULL AND cause IS NOT NULL AND owner IS NOT NULL;
`;
