import { copyFileSync, existsSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import Database from 'better-sqlite3';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ledgerPath, prepareState } from '../../../src/blocklist/ledger/files.ts';
import { checkVersion, type Migration, migrations } from '../../../src/blocklist/ledger/migrations.ts';
import { forEver } from '../../../src/blocklist/ledger/record.ts';
import { failureOf } from './failed.ts';
import { freshStateDir, openLedger, self, wish } from './place.ts';

const next: Migration = {
  version: migrations.length + 1,
  up: (database) => void database.exec('ALTER TABLE claims ADD COLUMN mood TEXT; CREATE TABLE moods (name TEXT)'),
};
const newer = [...migrations, next];

describe('versions', () => {
  test('follow one another from 1', () => {
    expect(migrations.map(({ version }) => version)).toEqual(migrations.map((_, index) => index + 1));
  });

  test('a ledger that another process begins while it is looked at is no other program’s', () => {
    const stateDir = freshStateDir();
    const path = prepareState(stateDir, self);
    const database = new Database(path);
    onTestFinished(() => void database.close());
    const pragma = database.pragma.bind(database);
    let reads = 0;
    database.pragma = (...parameters: Parameters<typeof pragma>): unknown => {
      const found = pragma(...parameters);
      if (++reads !== 2) return found;
      try {
        openLedger(stateDir, { patienceMs: 0 }).close();
      } catch (error) {
        // it has to wait until this look is over
        expect(error).toMatchObject({ code: 'ledger_locked' });
      }
      return found;
    };
    expect(() => checkVersion(database, path, migrations, existsSync)).not.toThrow();
    expect(reads).toBeGreaterThan(1);
  });

  test('an upgrade keeps what is there, and a copy on which the version before starts', () => {
    const stateDir = freshStateDir();
    const path = ledgerPath(stateDir);
    const old = openLedger(stateDir);
    expect(old.isNew).toBe(true);
    old.apply([wish('192.0.2.1', 'hand', forEver)]);
    // Not closed: what stands in the log only must be in the copy too.
    const upgraded = openLedger(stateDir, { migrations: newer });
    expect(upgraded.isNew).toBe(false);
    upgraded.apply([wish('192.0.2.2', 'hand', forEver)]);
    expect([...upgraded.claims()]).toHaveLength(2);

    // who has it open still is told, and writes nothing
    expect(failureOf(() => old.apply([wish('192.0.2.3', 'hand', forEver)])).code).toBe('ledger_newer');
    old.close();
    upgraded.close();

    const before = readFileSync(path);
    const error = failureOf(() => openLedger(stateDir));
    expect(error.code).toBe('ledger_newer');
    expect(error.hint).toContain(`${path}.v${migrations.length}`);
    expect(readFileSync(path).equals(before)).toBe(true);

    // as the hint says
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true });
    expect(statSync(`${path}.v${migrations.length}`).mode & 0o777).toBe(0o660);
    renameSync(`${path}.v${migrations.length}`, path);
    const back = openLedger(stateDir);
    expect(back.isNew).toBe(false);
    expect([...back.claims()]).toHaveLength(1);
    back.apply([wish('192.0.2.4', 'hand', forEver)]);
    back.check();
  });

  test('a newer ledger is left as it is, its log too', () => {
    const stateDir = freshStateDir();
    const path = ledgerPath(stateDir);
    const upgraded = openLedger(stateDir, { migrations: newer });
    upgraded.apply([wish('192.0.2.2', 'hand', forEver)]);
    // as after a crash: the log was never written back
    const kept = ['', '-wal'].map((suffix) => [suffix, readFileSync(`${path}${suffix}`)] as const);
    const other = freshStateDir();
    openLedger(other).close();
    for (const [suffix] of kept) copyFileSync(`${path}${suffix}`, `${ledgerPath(other)}${suffix}`);
    const error = failureOf(() => openLedger(other));
    expect([error.code, error.hint?.includes(`${path}.v`)]).toEqual(['ledger_newer', false]);
    for (const [suffix, bytes] of kept) expect(readFileSync(`${ledgerPath(other)}${suffix}`).equals(bytes)).toBe(true);
  });

  test('an upgrade that fails changes nothing', () => {
    const stateDir = freshStateDir();
    const old = openLedger(stateDir);
    old.apply([wish('192.0.2.1', 'hand', forEver)]);
    const failing: Migration = {
      version: migrations.length + 1,
      up: (database) => {
        database.exec('DROP TABLE claims');
        throw new Error('no');
      },
    };
    expect(() => openLedger(stateDir, { migrations: [...migrations, failing] })).toThrow('no');
    expect([...old.claims()]).toHaveLength(1);
    old.apply([wish('192.0.2.2', 'hand', forEver)]);
    expect(existsSync(`${ledgerPath(stateDir)}.v${migrations.length}`)).toBe(true);
  });

  test('a backup of the version before is restored and brought up to date', () => {
    const stateDir = freshStateDir();
    const old = openLedger(stateDir);
    old.apply([wish('192.0.2.1', 'hand', forEver)]);
    const backup = `${stateDir}/../backup`;
    old.backup(backup);
    old.close();
    const upgraded = openLedger(stateDir, { migrations: newer });
    upgraded.apply([wish('192.0.2.2', 'hand', forEver)]);
    upgraded.restore(backup);
    expect([...upgraded.claims()]).toHaveLength(1);

    upgraded.backup(`${stateDir}/../newer`);
    const other = openLedger(freshStateDir());
    expect(failureOf(() => other.restore(`${stateDir}/../newer`)).code).toBe('ledger_newer');
  });
});
