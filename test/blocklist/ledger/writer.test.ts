import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readdirSync, writeFileSync, writeSync } from 'node:fs';
import { basename } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Worker } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { describe, expect, onTestFinished, test } from 'vitest';
import { formatPrefix } from '../../../src/address/prefix.ts';
import { moveAside } from '../../../src/blocklist/ledger/aside.ts';
import { identityOf, ledgerPath } from '../../../src/blocklist/ledger/files.ts';
import { forEver, type Outcome } from '../../../src/blocklist/ledger/record.ts';
import { LedgerWriter, type Opened, type WriterOptions } from '../../../src/blocklist/ledger/writer.ts';
import type { FalcodropError } from '../../../src/errors.ts';
import { at, byHand, freshStateDir, hour, noon, openLedger, self, wish } from './place.ts';

interface Heard {
  readonly writer: LedgerWriter;
  readonly opened: Opened[];
  readonly troubles: FalcodropError[];
  /** Resolves when as many of them have come. */
  readonly hears: (opened: number, troubles: number) => Promise<void>;
}

function startWriter(stateDir: string, options: Partial<WriterOptions> = {}): Heard {
  const opened: Opened[] = [];
  const troubles: FalcodropError[] = [];
  let wake = (): void => undefined;
  const writer = new LedgerWriter({
    stateDir,
    service: self,
    patienceMs: 50,
    onOpen: (each) => {
      opened.push(each);
      wake();
    },
    onTrouble: (error) => {
      troubles.push(error);
      wake();
    },
    ...options,
  });
  onTestFinished(() => writer.close());
  writer.start();
  const hears = (openings: number, failures: number): Promise<void> =>
    new Promise((resolve) => {
      wake = () => {
        if (opened.length >= openings && troubles.length >= failures) resolve();
      };
      wake();
    });
  return { writer, opened, troubles, hears };
}

/** Holds the write lock until it is told not to. */
function stranger(stateDir: string): () => void {
  const database = new Database(ledgerPath(stateDir));
  onTestFinished(() => void database.close());
  database.exec('BEGIN IMMEDIATE');
  return () => void database.exec('ROLLBACK');
}

const address = (n: number): string => `10.0.${n >> 8}.${n & 255}`;

describe('the writer', () => {
  test('says done when it is on the disk, each post with its own outcomes', async () => {
    const stateDir = freshStateDir();
    const { writer, opened, hears } = startWriter(stateDir);
    await hears(1, 0);
    expect(opened).toEqual([{ isNew: true, movedAside: null, deleted: [] }]);
    const outcomes = await Promise.all([
      writer.post([wish('192.0.2.1', 'hand', forEver)]),
      writer.post([wish('192.0.2.1', 'hand', forEver), { kind: 'bury', target: at('192.0.2.9') }]),
      writer.post([]),
      writer.post([wish('192.0.2.2', 'hand', Number.NaN)]).catch((error: FalcodropError) => error.message),
      writer.post([wish('192.0.2.3', 'policy:a', forEver)]),
    ]);
    const statuses = outcomes.map((each) =>
      typeof each === 'string' ? each : each.map(({ status }: Outcome) => status),
    );
    expect(statuses).toEqual([['made'], ['unchanged', 'unchanged'], [], 'NaN is no end', ['made']]);
    const reader = openLedger(stateDir);
    expect([...reader.claims()].map(({ target }) => formatPrefix(target))).toEqual(['192.0.2.1', '192.0.2.3']);
    expect(writer.waiting).toBe(0);
  });

  test('commits what comes together together, in order', async () => {
    const stateDir = freshStateDir();
    const { writer, hears } = startWriter(stateDir);
    await hears(1, 0);
    const done: number[] = [];
    for (let n = 0; n < 3_000; n++) {
      void writer.post([wish(address(n), 'policy:a', forEver)]).then(() => done.push(n));
    }
    await writer.flush();
    await Promise.resolve();
    expect(done).toEqual(Array.from({ length: 3_000 }, (_, n) => n));
    expect([...openLedger(stateDir).claims()]).toHaveLength(3_000);
  });

  test('is ahead of the disk where a stranger holds the lock: says so, keeps what is posted, never blocks the loop', async () => {
    const stateDir = freshStateDir();
    const { writer, troubles, hears } = startWriter(stateDir, { patienceMs: 400 });
    await hears(1, 0);
    const release = stranger(stateDir);
    const delay = monitorEventLoopDelay({ resolution: 5 });
    delay.enable();
    const begun = writer.now();
    const posted = Array.from({ length: 50 }, (_, n) =>
      writer.post([wish(address(n), 'policy:a', writer.now() + hour)]),
    );
    await hears(1, 1);
    delay.disable();
    expect(troubles.map(({ code }) => code)).toEqual(['ledger_locked']);
    expect(writer.trouble?.code).toBe('ledger_locked');
    expect(writer.waiting).toBe(50);
    // the thread waited 400 ms for the lock meanwhile
    expect(delay.max / 1e6).toBeLessThan(300);
    release();
    await Promise.all(posted);
    expect(writer.trouble).toBeNull();
    const reader = openLedger(stateDir);
    for (const claim of reader.claims()) {
      // The times are those of the posts, not of the commit.
      expect(claim.begun - begun).toBeLessThan(300);
      expect(claim.dropEnd - claim.begun - hour).toBeLessThan(5);
    }
  });

  test('gives times from before it was open the ledger’s own', async () => {
    const stateDir = freshStateDir();
    openLedger(stateDir).close();
    const release = stranger(stateDir);
    // At the start there is nothing to write before the lock is free.
    const { writer, hears } = startWriter(stateDir);
    const post = writer.post([wish('192.0.2.1', 'hand', writer.now() + hour), wish('192.0.2.2', 'hand', forEver)]);
    await hears(0, 1);
    release();
    await post;
    const reader = openLedger(stateDir);
    const [short, long] = reader.claims();
    const left = (short?.dropEnd ?? 0) - reader.now();
    expect(left).toBeGreaterThan(hour - 60_000);
    expect(left).toBeLessThanOrEqual(hour);
    expect(long?.dropEnd).toBe(forEver);
    expect(Math.abs(writer.now() - reader.now())).toBeLessThan(1_000);
  });

  test('and those too that were made before it was open and posted after', async () => {
    const stateDir = freshStateDir();
    const ledger = openLedger(stateDir);
    // Withdrawn long ago: no reason to leave out what comes now.
    ledger.apply([{ kind: 'withdraw', target: at('192.0.2.2'), owners: 'all', cause: byHand }]);
    ledger.close();
    const { writer, hears } = startWriter(stateDir);
    const made = writer.now();
    const early = (target: string) => ({ ...wish(target, 'policy:x', made + hour), at: made });
    await hears(1, 0);
    const outcomes = await writer.post([
      { ...early('192.0.2.1'), wishedEnd: made + 2 * hour },
      { ...early('192.0.2.2'), unlessWithdrawnSince: made },
      wish('192.0.2.3', 'policy:x', writer.now() + hour),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['made', 'made', 'made']);
    const reader = openLedger(stateDir);
    const claims = [...reader.claims({ state: 'live' })];
    expect(claims.map(({ target }) => formatPrefix(target))).toEqual(['192.0.2.1', '192.0.2.2', '192.0.2.3']);
    for (const claim of claims) {
      expect(Math.abs(claim.dropEnd - reader.now() - hour)).toBeLessThan(60_000);
      expect(Math.abs(claim.begun - reader.now())).toBeLessThan(60_000);
    }
  });

  test('moves a damaged ledger aside and begins anew', async () => {
    const stateDir = freshStateDir();
    mkdirSync(stateDir);
    writeFileSync(ledgerPath(stateDir), 'no database at all, only text in its place'.repeat(100));
    const { writer, opened, troubles, hears } = startWriter(stateDir);
    await writer.post([wish('192.0.2.1', 'hand', forEver)]);
    await hears(1, 1);
    expect(troubles.map(({ code }) => code)).toEqual(['ledger_not_database']);
    const movedAside = expect.stringMatching(/ledger\.db\.bad-\d{8}T\d{6}Z$/) as string;
    expect(opened).toEqual([{ isNew: true, movedAside, deleted: [] }]);
    expect([...openLedger(stateDir).claims()]).toHaveLength(1);
  });

  test('leaves alone what has taken the place of a damaged ledger that it still holds open', async () => {
    const stateDir = freshStateDir();
    const { writer, opened, troubles, hears } = startWriter(stateDir);
    await hears(1, 0);
    await writer.post([wish('192.0.2.1', 'hand', forEver)]);
    // Somebody writes over it, whose log is written back; a hand meets that, moves it aside and begins a new one.
    const other = new Database(ledgerPath(stateDir));
    other.pragma('wal_checkpoint(TRUNCATE)');
    other.close();
    const damaged = openSync(ledgerPath(stateDir), 'r+');
    writeSync(damaged, Buffer.alloc(1 << 16, 7), 0, 1 << 16, 0);
    closeSync(damaged);
    const aside = moveAside(stateDir, { service: self, bad: identityOf(stateDir), wallMs: noon });
    const hand = openLedger(stateDir);
    hand.apply([wish('192.0.2.2', 'hand', forEver)]);
    await writer.post([wish('192.0.2.3', 'hand', forEver)]);
    expect([...openLedger(stateDir).claims()].map(({ target }) => formatPrefix(target))).toEqual([
      '192.0.2.2',
      '192.0.2.3',
    ]);
    expect(readdirSync(stateDir).filter((name) => /bad-[^-]+$/.test(name))).toEqual([basename(aside ?? '')]);
    expect(opened.at(-1)).toMatchObject({ isNew: true, movedAside: null });
    expect(troubles).toEqual([]);
  });

  test('goes over to another ledger when a hand moved the old one aside', async () => {
    const stateDir = freshStateDir();
    const { writer, opened, hears } = startWriter(stateDir);
    await writer.post([wish('192.0.2.1', 'hand', forEver)]);
    moveAside(stateDir, { service: self, bad: identityOf(stateDir), wallMs: noon });
    await writer.post([wish('192.0.2.2', 'hand', writer.now() + hour)]);
    await hears(2, 0);
    expect(opened.at(-1)).toEqual({ isNew: true, movedAside: null, deleted: [] });
    const reader = openLedger(stateDir);
    const [claim, ...others] = reader.claims();
    expect(others).toEqual([]);
    expect(Math.abs((claim?.dropEnd ?? 0) - reader.now() - hour)).toBeLessThan(60_000);
  });

  test('refuses what is beyond its bound', async () => {
    const stateDir = freshStateDir();
    const { writer, hears } = startWriter(stateDir, { capacity: 3 });
    await hears(1, 0);
    const release = stranger(stateDir);
    const kept = writer.post([1, 2, 3].map((n) => wish(address(n), 'hand', forEver)));
    await expect(writer.post([wish(address(4), 'hand', forEver)])).rejects.toMatchObject({ code: 'ledger_behind' });
    await hears(1, 1);
    await expect(writer.post([wish(address(4), 'hand', forEver)])).rejects.toMatchObject({
      message: expect.stringContaining('locked by another process'),
    });
    release();
    await kept;
    await writer.post([wish(address(4), 'hand', forEver)]);
  });

  test('writes what waits when it is closed', async () => {
    const stateDir = freshStateDir();
    const { writer } = startWriter(stateDir);
    const posts = Array.from({ length: 500 }, (_, n) => writer.post([wish(address(n), 'hand', forEver)]));
    await writer.close();
    await Promise.all(posts);
    expect([...openLedger(stateDir).claims()]).toHaveLength(500);
    await expect(writer.post([wish('192.0.2.1', 'hand', forEver)])).rejects.toMatchObject({ code: 'ledger_behind' });
    await writer.close();
  });

  test('says what it could not write when it is closed', async () => {
    const stateDir = freshStateDir();
    const { writer, hears } = startWriter(stateDir);
    await hears(1, 0);
    const release = stranger(stateDir);
    const post = writer.post([wish('192.0.2.1', 'hand', forEver)]);
    const [result] = await Promise.allSettled([post, writer.close(2_000)]);
    expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ledger_behind' } });
    release();
    expect([...openLedger(stateDir).claims()]).toEqual([]);
  });

  test('starts its thread again when that dies, and loses nothing', async () => {
    const stateDir = freshStateDir();
    const started = once(process, 'worker') as Promise<[Worker]>;
    const { writer, troubles, hears } = startWriter(stateDir);
    const [thread] = await started;
    await hears(1, 0);
    const release = stranger(stateDir);
    const posts = Array.from({ length: 20 }, (_, n) => writer.post([wish(address(n), 'hand', forEver)]));
    await thread.terminate();
    await hears(1, 1);
    expect(troubles[0]?.message).toContain('thread');
    release();
    await Promise.all(posts);
    expect([...openLedger(stateDir).claims()]).toHaveLength(20);
  });
});
