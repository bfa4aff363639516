import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, onTestFinished, test } from 'vitest';
import { formatPrefix } from '../../../src/address/prefix.ts';
import { moveAside, pruneAside } from '../../../src/blocklist/ledger/aside.ts';
import { identityOf, ledgerPath } from '../../../src/blocklist/ledger/files.ts';
import { forEver } from '../../../src/blocklist/ledger/record.ts';
import { failureOf } from './failed.ts';
import { freshStateDir, noon, openLedger, self, wish } from './place.ts';

/** A ledger with some claims, closed: one file. */
function filled(claims = 200): string {
  const stateDir = freshStateDir();
  const ledger = openLedger(stateDir);
  for (let n = 0; n < claims; n++) ledger.apply([wish(`10.0.${n >> 8}.${n & 255}`, 'hand', forEver)]);
  ledger.close();
  return stateDir;
}

describe('a bad ledger', () => {
  test('that is not there and must not be made', () => {
    expect(failureOf(() => openLedger(freshStateDir(), { create: false })).code).toBe('ledger_missing');
    const stateDir = filled(1);
    rmSync(ledgerPath(stateDir));
    expect(failureOf(() => openLedger(stateDir, { create: false })).code).toBe('ledger_missing');
    expect(openLedger(stateDir).isNew).toBe(true);
  });

  test('that was read-only for a time has a log that can be written again', () => {
    const stateDir = filled(1);
    const path = ledgerPath(stateDir);
    // Of the time when it was: SQLite makes them with its mode.
    const still = openLedger(stateDir);
    const modes = (): number[] => ['', '-wal', '-shm'].map((suffix) => statSync(`${path}${suffix}`).mode & 0o777);
    for (const suffix of ['-wal', '-shm']) chmodSync(`${path}${suffix}`, 0o440);
    openLedger(stateDir).close();
    expect(modes()).toEqual([0o660, 0o660, 0o660]);
    chmodSync(path, 0o440);
    openLedger(stateDir).close();
    expect(modes()).toEqual([0o440, 0o440, 0o440]);
    still.close();
  });

  test.each([-1, 2 ** 60, 0.5])('with an end that nobody wrote, %s', (end) => {
    const stateDir = filled(3);
    const database = new Database(ledgerPath(stateDir));
    database.prepare('UPDATE claims SET drop_end = ? WHERE target = (SELECT min(target) FROM claims)').run(end);
    database.close();
    const ledger = openLedger(stateDir);
    expect(failureOf(() => [...ledger.claims({ state: 'any' })]).code).toBe('ledger_corrupt');
    expect(failureOf(() => ledger.targets(null, 10)).code).toBe('ledger_corrupt');
    ledger.close();
  });

  test.each([false, true])('whose log is left alone is not begun anew in silence (empty file: %s)', (isEmpty) => {
    const stateDir = freshStateDir();
    const ledger = openLedger(stateDir);
    ledger.apply([wish('192.0.2.1', 'hand', forEver)]);
    const path = ledgerPath(stateDir);
    copyFileSync(`${path}-wal`, `${path}-kept`);
    ledger.close();
    renameSync(`${path}-kept`, `${path}-wal`);
    if (isEmpty) truncateSync(path);
    else rmSync(path);
    const error = failureOf(() => openLedger(stateDir));
    expect([error.code, error.message]).toEqual(['ledger_corrupt', expect.stringContaining(`${path}-wal`)]);
    expect(moveAside(stateDir, { service: self, bad: identityOf(stateDir), wallMs: noon })).toMatch(
      /bad-20261107T120000Z$/,
    );
    expect(openLedger(stateDir).isNew).toBe(true);
  });

  test.each([
    ['text', Buffer.from('this is no database, and long enough to have a header of one hundred bytes'.repeat(20))],
    ['zeros', Buffer.alloc(8_192)],
    ['a few bytes', Buffer.from('SQLite')],
  ])('that holds %s', (_, bytes) => {
    const stateDir = filled(1);
    writeFileSync(ledgerPath(stateDir), bytes);
    expect(failureOf(() => openLedger(stateDir)).code).toBe('ledger_not_database');
    expect(readFileSync(ledgerPath(stateDir)).equals(bytes)).toBe(true);
  });

  test('that is another program’s database', () => {
    const stateDir = filled(1);
    rmSync(ledgerPath(stateDir));
    const other = new Database(ledgerPath(stateDir));
    other.exec('CREATE TABLE notes (text)');
    other.close();
    expect(failureOf(() => openLedger(stateDir)).code).toBe('ledger_not_database');
  });

  test('with damaged pages: found by a check, or when they are met', () => {
    const stateDir = filled(2_000);
    const path = ledgerPath(stateDir);
    const bytes = readFileSync(path);
    bytes.fill(0xa5, 4_096 * 2);
    writeFileSync(path, bytes);
    const error = failureOf(() => {
      const ledger = openLedger(stateDir);
      ledger.check();
    });
    expect(error.code).toBe('ledger_corrupt');
    expect(failureOf(() => [...openLedger(stateDir).claims()]).code).toBe('ledger_corrupt');
  });

  test('cut short', () => {
    const stateDir = filled(2_000);
    truncateSync(ledgerPath(stateDir), 4_096 * 5);
    const error = failureOf(() => openLedger(stateDir).check());
    expect(error.code).toBe('ledger_corrupt');
  });

  test('whose log is cut anywhere opens with what was whole in it, in order', () => {
    const stateDir = freshStateDir();
    const ledger = openLedger(stateDir);
    ledger.tick();
    const path = ledgerPath(stateDir);
    for (let n = 0; n < 12; n++) {
      ledger.apply([wish(`10.0.0.${n}`, 'hand', forEver), wish(`10.0.0.${n}`, 'feed:x', forEver)]);
    }
    const cut = freshStateDir();
    mkdirSync(cut, { mode: 0o770 });
    const database = readFileSync(path);
    const log = readFileSync(`${path}-wal`);
    let last = -1;
    const found = new Set<number>();
    const sizes = [...Array.from({ length: Math.ceil(log.length / 512) }, (_, n) => n * 512), log.length];
    for (const size of sizes) {
      rmSync(cut, { recursive: true });
      mkdirSync(cut, { mode: 0o770 });
      writeFileSync(ledgerPath(cut), database);
      writeFileSync(`${ledgerPath(cut)}-wal`, log.subarray(0, size));
      // Cut before the schema was whole, it is an empty database: a new ledger.
      const after = openLedger(cut);
      const claims = [...after.claims()].map(({ target, owner }) => `${formatPrefix(target)} ${owner}`);
      const whole = Array.from({ length: claims.length / 2 }, (_, n) => [
        `10.0.0.${n} feed:x`,
        `10.0.0.${n} hand`,
      ]).flat();
      expect(claims).toEqual(whole);
      expect(claims.length).toBeGreaterThanOrEqual(last);
      last = claims.length;
      found.add(last);
      after.apply([wish('192.0.2.1', 'hand', forEver)]);
      after.check();
      after.close();
    }
    expect(last).toBe(24);
    expect(found.size).toBe(13);
  });

  test('locked by a stranger', () => {
    const stateDir = filled(1);
    const ledger = openLedger(stateDir, { patienceMs: 50 });
    const stranger = new Database(ledgerPath(stateDir));
    onTestFinished(() => void stranger.close());
    stranger.exec('BEGIN IMMEDIATE');
    const error = failureOf(() => ledger.apply([wish('192.0.2.1', 'hand', forEver)]));
    expect([error.code, error.hint]).toEqual(['ledger_locked', expect.stringContaining('fuser')]);
    expect([...ledger.claims()]).toHaveLength(1);
    stranger.exec('COMMIT');
    ledger.apply([wish('192.0.2.1', 'hand', forEver)]);
    expect([...ledger.claims()]).toHaveLength(2);
  });
});

describe('moving aside', () => {
  test('keeps the bad one with its log, begins an empty one, and happens once', () => {
    const stateDir = freshStateDir();
    const ledger = openLedger(stateDir);
    ledger.apply([wish('192.0.2.1', 'hand', forEver)]);
    const bad = identityOf(stateDir);
    const aside = moveAside(stateDir, { service: self, bad, wallMs: noon });
    expect(aside).toBe(`${ledgerPath(stateDir)}.bad-20261107T120000Z`);
    expect(existsSync(`${aside}-wal`)).toBe(true);
    expect(moveAside(stateDir, { service: self, bad, wallMs: noon })).toBeNull();

    // who has the old one open goes over to the new one, reading or writing
    expect([...ledger.claims()]).toEqual([]);
    expect(ledger.identity).not.toBe(bad);
    ledger.apply([wish('192.0.2.2', 'hand', forEver)]);
    expect([...openLedger(stateDir).claims()].map(({ target }) => formatPrefix(target))).toEqual(['192.0.2.2']);

    const second = moveAside(stateDir, { service: self, bad: identityOf(stateDir), wallMs: noon });
    expect(second).toBe(`${ledgerPath(stateDir)}.bad-20261107T120000Z-2`);
    ledger.apply([wish('192.0.2.3', 'hand', forEver)]);
    expect([...openLedger(stateDir).claims()].map(({ target }) => formatPrefix(target))).toEqual(['192.0.2.3']);
  });
});

describe('old ones', () => {
  const put = (stateDir: string, ...names: string[]): void => {
    for (const name of names) writeFileSync(join(stateDir, name), '');
  };
  const bad = (time: string) => ['', '-wal', '-shm'].map((suffix) => `ledger.db.bad-${time}${suffix}`);

  test('are deleted but for the newest three of each kind, with their logs, and nothing else is', () => {
    const stateDir = freshStateDir();
    openLedger(stateDir).close();
    const others = [
      'ledger.db.bad-',
      'ledger.db.bad-mine',
      'ledger.db.v',
      'ledger.db.vx',
      'myledger.db.v1',
      'ledger.db.v2.gz',
    ];
    put(stateDir, ...others, ...[1, 2, 9, 10, 11].map((version) => `ledger.db.v${version}`));
    put(stateDir, ...bad('20261107T120000Z'), ...bad('20261107T120000Z-2'), ...bad('20261107T120000Z-10'));
    put(stateDir, ...bad('20251231T235959Z'), 'ledger.db.bad-20261107T120001Z', ...bad('20200101T000000Z'));
    expect(pruneAside(stateDir)).toEqual(
      [
        ...bad('20200101T000000Z'),
        ...bad('20251231T235959Z'),
        ...bad('20261107T120000Z'),
        'ledger.db.v1',
        'ledger.db.v2',
      ].sort(),
    );
    expect(readdirSync(stateDir)).toEqual(
      expect.arrayContaining([
        ...others,
        'ledger.db',
        'ledger.db.v9',
        'ledger.db.v10',
        'ledger.db.v11',
        ...bad('20261107T120000Z-2'),
        ...bad('20261107T120000Z-10'),
        'ledger.db.bad-20261107T120001Z',
      ]),
    );
    expect(pruneAside(stateDir)).toEqual([]);
  });

  test('the one that was moved just now stays, under a clock that was ahead for the others', () => {
    const stateDir = freshStateDir();
    openLedger(stateDir).close();
    put(stateDir, ...['1', '2', '3'].map((n) => `ledger.db.bad-2036010${n}T000000Z`));
    const latest = 'ledger.db.bad-20261107T120000Z';
    put(stateDir, latest);
    expect(pruneAside(stateDir, join(stateDir, latest))).toEqual(['ledger.db.bad-20360101T000000Z']);
    expect(readdirSync(stateDir)).toContain(latest);
  });

  test('of a directory that can not be read: nothing', () => {
    expect(pruneAside('/nonexistent/state')).toEqual([]);
  });
});

describe('the files', () => {
  test.each(['022', '077', '000'])('are the service’s and its group’s, whatever the umask (%s)', (mask) => {
    const before = process.umask(Number.parseInt(mask, 8));
    onTestFinished(() => void process.umask(before));
    const stateDir = freshStateDir();
    const ledger = openLedger(stateDir);
    ledger.apply([wish('192.0.2.1', 'hand', forEver)]);
    expect((statSync(stateDir).mode & 0o7777).toString(8)).toBe('2770');
    const modes = readdirSync(stateDir).map(
      (name) => `${name} ${(statSync(`${stateDir}/${name}`).mode & 0o777).toString(8)}`,
    );
    expect(modes.sort()).toEqual(['ledger.db 660', 'ledger.db-shm 660', 'ledger.db-wal 660']);
  });

  test('a directory that was made before is given its mode', () => {
    const stateDir = freshStateDir();
    mkdirSync(stateDir, { mode: 0o755 });
    openLedger(stateDir);
    expect((statSync(stateDir).mode & 0o7777).toString(8)).toBe('2770');
  });

  const unsafe: readonly (readonly [name: string, make: (stateDir: string) => void, says: string])[] = [
    [
      'a link for the directory',
      (stateDir) => {
        mkdirSync(`${stateDir}-real`);
        symlinkSync(`${stateDir}-real`, stateDir);
      },
      'symbolic link',
    ],
    ['a file for the directory', (stateDir) => writeFileSync(stateDir, ''), 'not a directory'],
    [
      'a link for the ledger',
      (stateDir) => {
        mkdirSync(stateDir);
        writeFileSync(`${stateDir}-target`, '');
        symlinkSync(`${stateDir}-target`, ledgerPath(stateDir));
      },
      'symbolic link',
    ],
    [
      'a link to nowhere for the log',
      (stateDir) => {
        mkdirSync(stateDir);
        symlinkSync('/nowhere', `${ledgerPath(stateDir)}-wal`);
      },
      'symbolic link',
    ],
    [
      'a directory for the shared memory',
      (stateDir) => {
        mkdirSync(stateDir);
        mkdirSync(`${ledgerPath(stateDir)}-shm`);
      },
      'regular file',
    ],
    [
      'a second name of the ledger',
      (stateDir) => {
        mkdirSync(stateDir);
        writeFileSync(`${stateDir}-target`, '');
        linkSync(`${stateDir}-target`, ledgerPath(stateDir));
      },
      'hard link',
    ],
    ['a parent that all may write', (stateDir) => chmodSync(dirname(stateDir), 0o777), 'everybody'],
  ];
  test.each(unsafe)('%s is refused', (_, make, says) => {
    const stateDir = freshStateDir();
    make(stateDir);
    const error = failureOf(() => openLedger(stateDir));
    expect([error.code, error.message]).toEqual(['ledger_unsafe_path', expect.stringContaining(says)]);
    expect(lstatSync(`${stateDir}-target`, { throwIfNoEntry: false })?.size ?? 0).toBe(0);
  });
});

describe('backup and restore', () => {
  test('bring everything back, for those too who have it open', () => {
    const stateDir = filled(10);
    const ledger = openLedger(stateDir);
    const other = openLedger(stateDir);
    const file = `${stateDir}/../backup`;
    const before = process.umask(0);
    ledger.backup(file);
    process.umask(before);
    expect((statSync(file).mode & 0o777).toString(8)).toBe('600');
    for (const claim of [...ledger.claims()]) {
      ledger.apply([{ kind: 'withdraw', target: claim.target, owners: 'all', cause: 1 }]);
    }
    other.apply([wish('192.0.2.9', 'hand', forEver)]);
    ledger.restore(file);
    expect([...other.claims()]).toHaveLength(10);
    expect([...other.claims({ state: 'withdrawn' })]).toHaveLength(0);
    expect([...other.history({ limit: 1 })]).toMatchObject([{ action: 'restored', count: 10 }]);
    other.apply([wish('192.0.2.9', 'hand', forEver)]);
    other.check();
    expect(readdirSync(stateDir).sort()).toEqual(['ledger.db', 'ledger.db-shm', 'ledger.db-wal']);
    // and over the old file
    ledger.backup(file);
    ledger.restore(file);
    expect([...ledger.claims()]).toHaveLength(11);
  });

  test.each([
    ['nothing', (): void => undefined, 'ledger_missing'],
    ['text', (file: string): void => writeFileSync(file, 'no database'.repeat(100)), 'ledger_not_database'],
    ['an empty file', (file: string): void => writeFileSync(file, ''), 'ledger_not_database'],
    [
      'a damaged one',
      (file: string): void => {
        copyFileSync(ledgerPath(filled(2_000)), file);
        const bytes = readFileSync(file);
        bytes.fill(0xa5, 4_096 * 3);
        writeFileSync(file, bytes);
      },
      'ledger_corrupt',
    ],
  ])('from %s changes nothing', (_, make, code) => {
    const stateDir = filled(3);
    const ledger = openLedger(stateDir);
    const file = `${stateDir}/../backup`;
    make(file);
    const error = failureOf(() => ledger.restore(file));
    expect([error.code, error.message]).toEqual([code, expect.stringContaining(file)]);
    expect([...ledger.claims()]).toHaveLength(3);
    expect(readdirSync(stateDir).sort()).toEqual(['ledger.db', 'ledger.db-shm', 'ledger.db-wal']);
  });

  test('to a place that is none says so', () => {
    const ledger = openLedger(filled(1));
    expect(failureOf(() => ledger.backup('/nowhere/at/all')).code).toBe('ledger_backup');
    expect(failureOf(() => ledger.backup(dirname(ledger.path))).code).toBe('ledger_backup');
  });
});
