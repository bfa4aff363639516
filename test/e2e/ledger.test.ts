/** Ledgers that can not be used, through the command and through the daemon's book: blocks drop all the same, and what is said is so. */
import { type ChildProcess, execFileSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { migrations } from '../../src/blocklist/ledger/migrations.ts';
import { ended, until } from '../kernel/lab.ts';
import { differences, dropped, type Edge, heldIn, openEdge, wantedIn } from './edge.ts';

let edge: Edge;
let backup = '';
const known = '203.0.113.1';

beforeAll(() => {
  edge = openEdge();
  edge.attach();
  edge.must(['block', known, '--for', '2h']);
  // Pages enough for a cut or a scratch to hit something.
  const file = join(edge.lab.directory, 'many');
  writeFileSync(file, Array.from({ length: 2000 }, (_, i) => `198.19.${i >> 8}.${i & 255}\n`).join(''));
  edge.must(['import', file, '--for', '2h']);
  backup = join(edge.lab.directory, 'backup');
  edge.must(['backup', backup]);
});
afterAll(() => edge.lab.close());

let places = 0;

interface Place {
  readonly stateDir: string;
  readonly path: string;
  readonly environment: Readonly<Record<string, string>>;
}

/** A state directory with a good ledger; on a tmpfs of its own where `options` are given. */
function place(options?: string): Place {
  const parent = join(edge.lab.directory, `place${places++}`);
  mkdirSync(parent);
  if (options !== undefined) {
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', parent]);
    edge.lab.onClose(() => execFileSync('umount', ['-l', parent]));
  }
  const stateDir = join(parent, 'state');
  mkdirSync(stateDir, { mode: 0o770 });
  const path = join(stateDir, 'ledger.db');
  copyFileSync(backup, path);
  return { stateDir, path, environment: { FALCODROP_STATE_DIR: stateDir } };
}

let next = 10;
const fresh = (): string => `203.0.113.${next++}`;

interface Trouble {
  readonly make: (place: Place) => void;
  readonly mend: (place: Place) => void;
}

const database = (path: string, sql: string): void => {
  const open = new Database(path);
  open.exec(sql);
  open.close();
};

/** Those that a new one replaces. */
const damaged: Readonly<Record<string, Trouble['make']>> = {
  truncated: ({ path }) => truncateSync(path, Math.floor(statSync(path).size / 8192) * 4096),
  garbage: ({ path }) => writeFileSync(path, 'no ledger at all, but long enough to be looked into '.repeat(1000)),
  'scratched in the middle': ({ path }) => {
    const bytes = readFileSync(path);
    bytes.fill(0xa5, 8192, Math.floor(bytes.length * 0.75));
    writeFileSync(path, bytes);
  },
  missing: ({ path }) => rmSync(path),
  empty: ({ path }) => truncateSync(path),
  'missing, its log left alone': ({ path }) => {
    rmSync(path);
    writeFileSync(`${path}-wal`, Buffer.alloc(4152, 1));
  },
  "another program's": ({ path }) => {
    rmSync(path);
    database(path, 'CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)');
  },
};

describe.each(Object.entries(damaged))('%s', (name, make) => {
  test('a hand blocks, and reconcile begins a new one from what the maps hold', () => {
    const { stateDir, path, environment } = place();
    make({ stateDir, path, environment });
    const target = fresh();
    const done = edge.run(['block', target, '--for', '1h'], { environment });
    // Recorded, in one begun anew; or not, which is a failure that says what it is.
    expect([0, 1]).toContain(done.status);
    if (done.status === 1) expect(done.stderr).toMatch(/ledger .* is damaged/);
    else expect(wantedIn(stateDir).has(target)).toBe(true);
    expect(dropped(edge.lab.pinDir, [target, known])).toEqual(new Set([target, known]));

    edge.must(['reconcile'], { environment });
    expect(differences({ lab: edge.lab, stateDir })).toEqual([]);
    expect(wantedIn(stateDir).size).toBe(heldIn(edge.lab.pinDir).size);
    expect(dropped(edge.lab.pinDir, [target, known])).toEqual(new Set([target, known]));
    const aside = readdirSync(stateDir).filter((file) => file.includes('.bad-'));
    if (name !== 'missing' && name !== 'empty') expect(aside.length).toBeGreaterThan(0);
    // What was unblocked stays so.
    edge.must(['unblock', target], { environment });
    edge.must(['reconcile'], { environment });
    expect(heldIn(edge.lab.pinDir).has(target)).toBe(false);
  });

  test('the daemon blocks and records', async () => {
    const { stateDir, path, environment } = place();
    make({ stateDir, path, environment });
    const target = fresh();
    const child = daemon(stateDir, target);
    await until('the block', () => heldIn(edge.lab.pinDir).has(target));
    await ended(child);
    expect(child.exitCode).toBe(0);
    expect(wantedIn(stateDir).has(target)).toBe(true);
    edge.must(['reconcile'], { environment });
    expect(differences({ lab: edge.lab, stateDir })).toEqual([]);
  });

  test('a backup is brought back', () => {
    const { stateDir, path, environment } = place();
    make({ stateDir, path, environment });
    const first = edge.run(['restore', backup, '--yes'], { environment });
    if (first.status !== 0) {
      // Damage that opening does not see: said, and reconcile makes room.
      expect(first.stderr).toContain('falcodrop reconcile');
      edge.must(['reconcile'], { environment });
      edge.must(['restore', backup, '--yes'], { environment });
    }
    expect(wantedIn(stateDir).has(known)).toBe(true);
    expect(wantedIn(stateDir).size).toBe(2001);
  });
});

/** Blocks one target as the daemon does, and ends when it is acknowledged. */
function daemon(stateDir: string, target: string): ChildProcess {
  const steps = [{ do: 'block', target, seconds: 3600 }, { do: 'settle' }];
  return edge.lab.spawn(
    edge.namespace,
    edge.argv([JSON.stringify({ pinDir: edge.lab.pinDir, stateDir, steps, eager: true })], {
      argv: [process.execPath, join(import.meta.dirname, 'fixtures/automatic.ts')],
    }),
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
}

/** Those that are waited out: nothing is moved. */
const passing: readonly (readonly [name: string, options: string | undefined, code: string, trouble: Trouble])[] = [
  [
    'of a newer version',
    undefined,
    'ledger_newer',
    {
      make: ({ path }) => database(path, 'PRAGMA user_version = 99'),
      mend: ({ path }) => database(path, `PRAGMA user_version = ${migrations.length}`),
    },
  ],
  [
    'on a read-only file system',
    'size=4m,mode=755',
    'ledger_read_only',
    {
      make: ({ stateDir }) => execFileSync('mount', ['-o', 'remount,ro', join(stateDir, '..')]),
      mend: ({ stateDir }) => execFileSync('mount', ['-o', 'remount,rw', join(stateDir, '..')]),
    },
  ],
  [
    'on a full disk',
    'size=2m,mode=755',
    'ledger_full',
    {
      make: ({ stateDir }) => {
        try {
          writeFileSync(join(stateDir, '../filler'), Buffer.alloc(4 << 20));
        } catch (error) {
          expect(error).toMatchObject({ code: 'ENOSPC' });
        }
      },
      mend: ({ stateDir }) => rmSync(join(stateDir, '../filler')),
    },
  ],
];

describe.each(passing)('%s', (_, options, code, { make, mend }) => {
  test('a hand blocks, which is not acknowledged, and unblocks', () => {
    const at = place(options);
    const { stateDir, environment } = at;
    make(at);
    const target = fresh();
    const { errors } = edge.json(1, ['block', target, '--for', '1h'], { environment });
    expect(errors).toMatchObject([{ code, hint: expect.stringContaining('drops go on') as string }]);
    expect(dropped(edge.lab.pinDir, [target, known])).toEqual(new Set([target, known]));
    expect(edge.json(1, ['reconcile'], { environment }).errors).toMatchObject([{ code }]);
    // A hand in need: the packets pass, and that it may come back is said by the status.
    expect(edge.json(1, ['unblock', target], { environment }).errors).toMatchObject([{ code }]);
    expect(dropped(edge.lab.pinDir, [target, known])).toEqual(new Set([known]));
    edge.run(['block', target, '--for', '1h'], { environment });

    mend(at);
    edge.must(['reconcile'], { environment });
    expect(differences({ lab: edge.lab, stateDir })).toEqual([]);
    expect(wantedIn(stateDir).has(target)).toBe(true);
    expect(readdirSync(stateDir).filter((file) => file.includes('.bad-'))).toEqual([]);
    edge.must(['unblock', target], { environment });
  });

  test('the daemon blocks, says it, and records when it can', async () => {
    const at = place(options);
    const { stateDir } = at;
    make(at);
    const target = fresh();
    const child = daemon(stateDir, target);
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    await until('the block', () => heldIn(edge.lab.pinDir).has(target));
    await until('the words', () => said.includes(code));
    expect(said).toContain('drops go on');
    expect(child.exitCode).toBeNull();
    mend(at);
    await ended(child);
    expect(child.exitCode).toBe(0);
    expect(wantedIn(stateDir).has(target)).toBe(true);
    expect(readdirSync(stateDir).filter((file) => file.includes('.bad-'))).toEqual([]);
  });
});

test('locked by a stranger: hand and daemon block at once, and the daemon records when it is free', async () => {
  const { stateDir, path, environment } = place();
  const script = `const D = require('better-sqlite3'); const d = new D(${JSON.stringify(path)}); d.pragma('journal_mode = WAL');
    d.exec('BEGIN EXCLUSIVE'); console.log('held'); process.stdin.once('data', () => process.exit(0));`;
  const stranger = edge.lab.spawn(null, [process.execPath, '-e', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
    cwd: join(import.meta.dirname, '../..'),
  });
  await new Promise((resolve) => stranger.stdout?.once('data', resolve));
  const [byHand, byDaemon] = [fresh(), fresh()];
  const child = daemon(stateDir, byDaemon);
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const begun = performance.now();
  const hand = edge.lab.spawn(edge.namespace, edge.argv(['block', byHand, '--for', '1h', '--json'], { environment }), {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  hand.stderr?.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  await until('both blocks', () => dropped(edge.lab.pinDir, [byHand, byDaemon]).size === 2);
  expect(performance.now() - begun).toBeLessThan(4_000);
  await ended(hand);
  expect(hand.exitCode).toBe(1);
  expect(JSON.parse(errors)).toMatchObject({ code: 'ledger_locked' });
  await until('the words', () => said.includes('ledger_locked'));
  stranger.stdin?.end('\n');
  await ended(child);
  expect(child.exitCode).toBe(0);
  edge.must(['reconcile'], { environment });
  expect(differences({ lab: edge.lab, stateDir })).toEqual([]);
  expect([...wantedIn(stateDir).keys()]).toEqual(expect.arrayContaining([byHand, byDaemon]));
});
