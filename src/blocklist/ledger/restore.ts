/** A backup's contents into a ledger that is in use. */
import { constants, copyFileSync, existsSync, lstatSync, rmSync } from 'node:fs';
import Database from 'better-sqlite3';
import { fault } from '../../fault.ts';
import { type Anchor, advance, type ReadClocks } from './clock.ts';
import { ledgerError, ledgerFailure } from './failure.ts';
import { makeEmptyFile, type Service } from './files.ts';
import { checkVersion, type Migration, migrate } from './migrations.ts';

export interface RestoreOptions {
  /** For the history: the file as its user names it. */
  readonly name: string;
  readonly path: string;
  readonly service: Service;
  readonly migrations: readonly Migration[];
  readonly clocks: ReadClocks;
  /** The ledger's one way to write. */
  readonly write: <T>(work: (now: Anchor) => T) => T;
}

/** Returns the number of its row in the history. */
export function restoreInto(database: Database.Database, file: string, options: RestoreOptions): number {
  const { path, clocks, write, name } = options;
  // A copy beside the ledger: the backup stays as it is, is checked and migrated, and cannot change meanwhile.
  const copy = `${path}.${process.pid}.restore`;
  const copies = ['', '-wal', '-shm', '-journal'].map((suffix) => `${copy}${suffix}`);
  const removeCopies = (): void => {
    for (const name of copies) rmSync(name, { force: true });
  };
  removeCopies();
  try {
    copyBackup(file, copy, options);
    database.prepare('ATTACH ? AS backup').run(copy);
    try {
      const row = write(() => replaceAll(database, name, advance(anchorIn(database), clocks())));
      fault('restore.replaced');
      return row;
    } finally {
      database.exec('DETACH backup');
    }
  } catch (error) {
    throw ledgerFailure(error, path);
  } finally {
    removeCopies();
  }
}

/** Checked and of our version. Failures name the file. */
function copyBackup(file: string, copy: string, { service, migrations }: RestoreOptions): void {
  try {
    if (lstatSync(file, { throwIfNoEntry: false }) === undefined) throw ledgerError('ledger_missing', file);
    makeEmptyFile(copy, 0o600, null);
    copyFileSync(file, copy, constants.COPYFILE_FICLONE);
    // Of one that was copied by hand, with its log.
    if (existsSync(`${file}-wal`)) copyFileSync(`${file}-wal`, `${copy}-wal`);
    const opened = new Database(copy, { fileMustExist: true });
    try {
      checkVersion(opened, file, migrations, existsSync);
      if (opened.pragma('user_version', { simple: true }) === 0) throw ledgerError('ledger_not_database', file);
      const found = opened.pragma('integrity_check(1)', { simple: true });
      if (found !== 'ok') throw ledgerError('ledger_corrupt', file, new Error(String(found)));
      migrate(opened, copy, service, { all: migrations, second: () => new Database(copy) });
      // One file again, whatever journal it was made with.
      opened.pragma('journal_mode = DELETE');
    } finally {
      opened.close();
    }
  } catch (error) {
    throw ledgerFailure(error, file);
  } finally {
    for (let version = 1; version < (migrations.at(-1)?.version ?? 1); version++)
      rmSync(`${copy}.v${version}`, { force: true });
  }
}

interface MetaRow {
  readonly boot_id: string;
  readonly boottime: number;
  readonly ledger: number;
  readonly wall: number;
}

function anchorIn(database: Database.Database): Anchor | null {
  const row = database
    .prepare<[], MetaRow>('SELECT boot_id, boottime, ledger, wall FROM backup.meta WHERE id = 1')
    .get();
  return row === undefined
    ? null
    : { bootId: row.boot_id, boottimeMs: row.boottime, ledgerMs: row.ledger, wallMs: row.wall };
}

/** The backup's ends are in its own time, so that goes on here. */
function replaceAll(database: Database.Database, name: string, now: Anchor): number {
  for (const table of ['claims', 'causes', 'history']) {
    database.exec(`DELETE FROM main.${table}; INSERT INTO main.${table} SELECT * FROM backup.${table}`);
  }
  database
    .prepare('UPDATE main.meta SET boot_id = ?, boottime = ?, ledger = ?, wall = ?')
    .run(now.bootId, now.boottimeMs, now.ledgerMs, now.wallMs);
  const { lastInsertRowid } = database
    .prepare(
      `INSERT INTO main.history (at, wall, action, count, detail)
       VALUES (?, ?, 'restored', (SELECT count(*) FROM main.claims), ?)`,
    )
    .run(now.ledgerMs, now.wallMs, name.slice(0, 1024));
  fault('restore.replacing');
  return Number(lastInsertRowid);
}
