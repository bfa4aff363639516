/** A commit and its way to the disk: who is told when, and what a power cut in between leaves. */
import { copyFileSync, fdatasyncSync, fstatSync, mkdirSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { formatPrefix, parsePrefix } from '../../../src/address/prefix.ts';
import { ledgerPath } from '../../../src/blocklist/ledger/files.ts';
import type { Ledger } from '../../../src/blocklist/ledger/ledger.ts';
import { forEver, type LedgerEvent } from '../../../src/blocklist/ledger/record.ts';
import { failureOf } from './failed.ts';
import { byHand, freshStateDir, openLedger, wish } from './place.ts';

const targetsIn = (ledger: Ledger): string[] => [...ledger.claims()].map(({ target }) => formatPrefix(target));

test('what is committed is seen by others at once, and told only when the log is synced', () => {
  const stateDir = freshStateDir();
  const done: string[] = [];
  const ledger = openLedger(stateDir, {
    syncLog: (descriptor) => {
      // The very file that SQLite writes.
      expect(fstatSync(descriptor).ino).toBe(statSync(`${ledgerPath(stateDir)}-wal`).ino);
      fdatasyncSync(descriptor);
      done.push('synced');
    },
    onApplied: (events) => done.push(`told ${events.length}`),
  });
  const other = openLedger(stateDir);
  ledger.commit([wish('192.0.2.1', 'hand', forEver)]);
  ledger.commit([wish('192.0.2.2', 'hand', forEver), wish('192.0.2.3', 'hand', forEver)]);
  expect(targetsIn(other)).toEqual(['192.0.2.1', '192.0.2.2', '192.0.2.3']);
  expect(done).toEqual([]);
  ledger.sync();
  expect(done).toEqual(['synced', 'told 1', 'told 2']);
  ledger.apply([wish('192.0.2.4', 'hand', forEver)]);
  expect(done.slice(3)).toEqual(['synced', 'told 1']);
  ledger.sync();
  expect(done.slice(5)).toEqual(['synced']);
});

test('a disk that fails: an error, nobody is told, and what was committed is still seen', () => {
  const told: (readonly LedgerEvent[])[] = [];
  let fails = false;
  const ledger = openLedger(freshStateDir(), {
    syncLog: () => {
      if (fails) throw Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' });
    },
    onApplied: (events) => told.push(events),
  });
  fails = true;
  expect(failureOf(() => ledger.apply([wish('192.0.2.1', 'hand', forEver)])).code).toBe('ledger_io');
  expect(told).toEqual([]);
  expect(targetsIn(ledger)).toEqual(['192.0.2.1']);
});

/** What is on the disk when the power goes: the database and so much of the log. */
function afterPowerCut(stateDir: string, logBytes: number): string[] {
  const cut = join(freshStateDir());
  mkdirSync(cut, { mode: 0o770 });
  copyFileSync(ledgerPath(stateDir), ledgerPath(cut));
  copyFileSync(`${ledgerPath(stateDir)}-wal`, `${ledgerPath(cut)}-wal`);
  truncateSync(`${ledgerPath(cut)}-wal`, logBytes);
  return targetsIn(openLedger(cut));
}

test('a power cut leaves all that was told, and what was not may go, but never one before another', () => {
  const stateDir = freshStateDir();
  const synced: number[] = [];
  const sizeOfLog = (): number => statSync(`${ledgerPath(stateDir)}-wal`).size;
  const told: string[] = [];
  const ledger = openLedger(stateDir, {
    syncLog: () => synced.push(sizeOfLog()),
    onApplied: (events) => told.push(...events.map((event) => ('target' in event ? targetOf(event) : ''))),
  });
  const another = openLedger(stateDir);
  ledger.apply([wish('192.0.2.1', 'hand', forEver)]);
  // Somebody else's, not synced by him: ours comes after it, and brings it along.
  another.commit([wish('192.0.2.2', 'feed:x', forEver)]);
  ledger.apply([wish('192.0.2.3', 'hand', forEver)]);
  const last = synced.at(-1) ?? 0;
  const sizes = [last];
  for (const n of [4, 5, 6]) {
    ledger.commit([wish(`192.0.2.${n}`, 'hand', forEver)]);
    sizes.push(sizeOfLog());
  }
  expect(told).toEqual(['192.0.2.1', '192.0.2.3']);
  expect(afterPowerCut(stateDir, last)).toEqual(['192.0.2.1', '192.0.2.2', '192.0.2.3']);
  // Anywhere between two commits, and in the middle of one.
  for (const [nth, size] of sizes.entries()) {
    const whole = ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4', '192.0.2.5', '192.0.2.6'].slice(0, 3 + nth);
    expect(afterPowerCut(stateDir, size)).toEqual(whole);
    if (nth > 0) expect(afterPowerCut(stateDir, size - 1)).toEqual(whole.slice(0, -1));
  }
});

function targetOf(event: LedgerEvent): string {
  return event.target === null ? '' : formatPrefix(event.target);
}

test('a long log is written back outside of commits, and begun anew', () => {
  const stateDir = freshStateDir();
  const ledger = openLedger(stateDir);
  const cause = ledger.addCause(byHand);
  let longest = 0;
  for (let n = 0; n < 60; n++) {
    const events = Array.from({ length: 500 }, (_, i): LedgerEvent => {
      // Far from each other, so that each has a page of its own.
      const target = parsePrefix(`${10 + (i % 200)}.${n}.${i >> 3}.${(i * 7) & 255}`);
      return { kind: 'wish', target, owner: 'feed:x', dropEnd: forEver, countEnd: 0, cause };
    });
    ledger.commit(events);
    ledger.sync();
    longest = Math.max(longest, statSync(`${ledgerPath(stateDir)}-wal`).size);
  }
  expect([...ledger.claims()]).toHaveLength(60 * 500);
  // 1 000 pages, and what one slice adds; all of it would be some 40 MB.
  expect(longest).toBeLessThan(12 * 1024 * 1024);
});
