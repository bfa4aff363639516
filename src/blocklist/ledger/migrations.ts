/**
 * The ledger's versions (PRAGMA user_version). Each migration leads from the version before to its own, in one transaction;
 * before it a copy is laid beside, `ledger.db.v<N>`, on which the version before starts.
 */
import { renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Database } from 'better-sqlite3';
import { FalcodropError } from '../../errors.ts';
import { fault } from '../../fault.ts';
import { makeEmptyFile, type Service, syncPath } from './files.ts';
import { applicationId, firstSchema, portsOfClaims } from './schema.ts';

export interface Migration {
  /** One more than the one before. */
  readonly version: number;
  readonly up: (database: Database) => void;
}

export const migrations: readonly Migration[] = [
  { version: 1, up: (database) => void database.exec(firstSchema) },
  { version: 2, up: (database) => void database.exec(portsOfClaims) },
];

export function latestOf(all: readonly Migration[]): number {
  return all.at(-1)?.version ?? 0;
}

export function versionOf(database: Database): number {
  return Number(database.pragma('user_version', { simple: true }));
}

export const copyName = (path: string, version: number): string => `${path}.v${version}`;

/** Throws `ledger_newer` (naming the copy on which this version starts, when there is one), `ledger_not_database`. */
export function checkVersion(
  database: Database,
  path: string,
  all: readonly Migration[],
  exists: (path: string) => boolean,
): void {
  const { version, id, isEmpty } = headOf(database);
  if (id !== applicationId && (id !== 0 || version !== 0 || !isEmpty)) {
    throw new FalcodropError(
      'ledger_not_database',
      `${path} is an SQLite database of another program`,
      'drops go on; move it away, and falcodrop begins a ledger from what the maps hold',
    );
  }
  const latest = latestOf(all);
  if (version <= latest) return;
  let copy: string | null = null;
  for (let n = latest; n > 0 && copy === null; n--) if (exists(copyName(path, n))) copy = copyName(path, n);
  throw new FalcodropError(
    'ledger_newer',
    `the ledger ${path} is of format ${version}, written by a newer falcodrop; this one knows format ${latest}`,
    copy === null
      ? 'drops go on; start the newer falcodrop again, or move the ledger away to begin a new one from what the maps hold'
      : `drops go on; start the newer falcodrop again, or go back to the copy from before the upgrade: stop falcodrop, move ${path} with its -wal and -shm away, and rename ${copy} to ${path}`,
  );
}

interface Head {
  readonly version: number;
  readonly id: number;
  readonly isEmpty: boolean;
}

/** Of one moment: another process may begin the ledger between two of these reads. */
function headOf(database: Database): Head {
  return database.transaction(
    (): Head => ({
      version: versionOf(database),
      id: Number(database.pragma('application_id', { simple: true })),
      isEmpty: database.prepare('SELECT 1 FROM sqlite_schema LIMIT 1').get() === undefined,
    }),
  )();
}

/**
 * Brings the database to the latest version. Returns true when it was empty before. `second` opens the database once more: the
 * copy is made on it while `database` keeps writers out, for SQLite copies nothing inside a transaction.
 */
export function migrate(
  database: Database,
  path: string,
  service: Service,
  { all, second }: { all: readonly Migration[]; second: () => Database },
): boolean {
  let isNew = false;
  while (versionOf(database) < latestOf(all)) {
    database
      .transaction(() => {
        const version = versionOf(database); // another process may have been quicker
        const next = all.find((migration) => migration.version === version + 1);
        if (next === undefined) return;
        // Of what was empty a moment ago nobody needs a copy.
        if (version === 0) isNew = true;
        else if (!isNew) {
          copyBefore(path, version, service, second);
          fault('migrate.copied');
        }
        next.up(database);
        database.pragma(`application_id = ${applicationId}`);
        database.pragma(`user_version = ${next.version}`);
        fault('migrate.changed');
      })
      .immediate();
    fault('migrate.committed');
  }
  return isNew;
}

function copyBefore(path: string, version: number, service: Service, second: () => Database): void {
  const copy = copyName(path, version);
  const reader = second();
  try {
    snapshot(reader, copy, service);
  } finally {
    reader.close();
  }
}

/**
 * A consistent copy of a database that is in use, as one file: made beside under another name, synced, and renamed into place.
 * 0660 and the service's, or 0600 and the caller's where `service` is null. Must not be inside a transaction.
 */
export function snapshot(database: Database, copy: string, service: Service | null): void {
  const fresh = `${copy}.${process.pid}.new`;
  rmSync(fresh, { force: true });
  makeEmptyFile(fresh, service === null ? 0o600 : 0o660, service);
  try {
    database.prepare('VACUUM INTO ?').run(fresh);
    syncPath(fresh);
    renameSync(fresh, copy);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  }
  syncPath(dirname(copy));
}
