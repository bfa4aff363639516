/** An unblock that can not be written down: the packets pass, and go on passing, whatever reconciles and reaps meanwhile. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import { PinnedSet } from '../../src/kernel/set.ts';
import { differences, dropped, type Edge, heldIn, openEdge, wantedIn } from './edge.ts';

let edge: Edge;
let disk = '';
let environment: Readonly<Record<string, string>> = {};
let stateDir = '';

beforeAll(() => {
  edge = openEdge();
  edge.attach();
  disk = join(edge.lab.directory, 'disk');
  mkdirSync(disk);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m,mode=755', 'tmpfs', disk]);
  edge.lab.onClose(() => execFileSync('umount', ['-l', disk]));
  stateDir = join(disk, 'state');
  environment = { FALCODROP_STATE_DIR: stateDir };
});
afterAll(() => edge.lab.close());

let next = 10;
const fresh = (): string => `203.0.113.${next++}`;
const must = (...args: string[]): string => edge.must(args, { environment });
const passes = (target: string): boolean => !dropped(edge.lab.pinDir, [target]).has(target);

const filler = (): string => join(disk, 'filler');
function fill(): void {
  try {
    writeFileSync(filler(), Buffer.alloc(4 << 20));
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOSPC' });
  }
}
beforeEach(() => rmSync(filler(), { force: true }));

/** Reads the ledger while the disk is full: SQLite's shared memory is there already. */
function keepOpen(): () => void {
  const database = new Database(join(stateDir, 'ledger.db'));
  database.pragma('journal_mode = WAL');
  database.prepare('SELECT count(*) FROM claims').get();
  return () => database.close();
}

test.each(['can not be opened', 'can be read and not written'])('the ledger %s', (how) => {
  const [target, prefix, other] = [fresh(), `198.18.${next}.0/24`, fresh()];
  const inside = prefix.replace('.0/24', '.9');
  must('block', target, prefix, other, '--for', '2h');
  const close = how === 'can not be opened' ? () => undefined : keepOpen();
  fill();
  for (const each of [target, prefix]) {
    const { errors } = edge.json(1, ['unblock', each], { environment });
    expect(errors).toMatchObject([
      {
        code: 'ledger_full',
        message: expect.stringMatching(/^unblocked, but that could not be written down/) as string,
      },
    ]);
    expect(errors[0]?.hint).toMatch(
      /it stays unblocked until this host reboots, and falcodrop reconcile writes it down/,
    );
  }
  // The ledger still wants them, where it can be read.
  edge.run(['reconcile'], { environment });
  expect([passes(target), passes(inside), passes(other)]).toEqual([true, true, false]);
  expect(edge.json(0, ['list'], { environment }).said.map((line) => line.target)).not.toContain(target);
  // Again, and it is no other answer.
  expect(edge.json(1, ['unblock', target], { environment }).errors).toMatchObject([{ code: 'ledger_full' }]);

  rmSync(filler());
  close();
  must('reconcile');
  expect([passes(target), passes(inside), passes(other)]).toEqual([true, true, false]);
  expect(differences({ lab: edge.lab, stateDir })).toEqual([]);
  expect([...wantedIn(stateDir).keys()]).not.toContain(target);
  const set = new PinnedSet(edge.lab.pinDir);
  expect([target, prefix].map((each) => set.lookup(parsePrefix(each)))).toEqual([null, null]);
  set.close();
  const [row] = edge.json(0, ['history', target], { environment }).said;
  expect(row).toMatchObject({ action: 'withdrawn' });
  expect(JSON.stringify(row)).toContain('unblocked by a hand while the ledger could not be written');
  must('unblock', other);
});

test('blocked again before it was written down: that block counts, and what was unblocked is not asked for any more', () => {
  const target = fresh();
  must('block', target, '--for', '2h');
  fill();
  edge.json(1, ['unblock', target], { environment });
  rmSync(filler());
  must('block', target, '--for', '3h');
  must('reconcile');
  expect(passes(target)).toBe(false);
  expect(differences({ lab: edge.lab, stateDir })).toEqual([]);
  must('unblock', target);
  must('reconcile');
  expect(passes(target)).toBe(true);
});

test('an automatic block that waits for the disk does not come back either', () => {
  const target = fresh();
  fill();
  const argv = [process.execPath, join(import.meta.dirname, 'fixtures/automatic.ts')];
  const steps = [{ do: 'block', target, seconds: 3600 }];
  // Written into the map, and ended with its claim unwritten.
  const request = JSON.stringify({ pinDir: edge.lab.pinDir, stateDir, steps, eager: true });
  edge.run([request], { environment: { ...environment, FAULT: 'automatic.mapped' }, argv });
  expect(passes(target)).toBe(false);
  edge.json(1, ['unblock', target], { environment });
  expect(passes(target)).toBe(true);
  // Nobody reaps what is still to be written down.
  edge.run([JSON.stringify({ pinDir: edge.lab.pinDir, stateDir, steps: [{ do: 'reap' }], eager: true })], {
    environment,
    argv,
  });
  const set = new PinnedSet(edge.lab.pinDir);
  expect(set.lookup(parsePrefix(target))).not.toBeNull();
  set.close();
  rmSync(filler());
  must('reconcile');
  expect(passes(target)).toBe(true);
  expect(heldIn(edge.lab.pinDir).has(target)).toBe(false);
});

test('a whole feed, by a filter: all of it passes, and it is said that it comes back', () => {
  const targets = Array.from({ length: 600 }, (_, i) => `198.19.${i >> 8}.${i & 255}`);
  const file = join(edge.lab.directory, 'feed');
  writeFileSync(file, `${targets.join('\n')}\n`);
  must('import', file, '--feed', 'x', '--for', '2h');
  const kept = fresh();
  must('block', kept, '--for', '2h');
  const close = keepOpen();
  fill();
  const { errors } = edge.json(1, ['unblock', '--owner', 'feed:x', '--yes'], { environment });
  expect(errors).toMatchObject([{ code: 'ledger_full', hint: expect.stringContaining('IT COMES BACK') as string }]);
  expect([...dropped(edge.lab.pinDir, [...targets, kept])]).toEqual([kept]);
  rmSync(filler());
  close();
  must('unblock', '--owner', 'feed:x', '--yes');
  must('reconcile');
  expect([...dropped(edge.lab.pinDir, [...targets, kept])]).toEqual([kept]);
  expect(differences({ lab: edge.lab, stateDir })).toEqual([]);
  must('unblock', kept);
});

test('a claim whose entry is gone from the maps is unblocked, and that is no failure', () => {
  const target = fresh();
  must('block', target, '--for', '2h');
  const set = new PinnedSet(edge.lab.pinDir);
  set.remove(parsePrefix(target));
  set.close();
  expect(edge.json(0, ['unblock', target], { environment }).said).toMatchObject([
    { target, status: 'unblocked', packets: 0, bytes: 0, remaining: [] },
  ]);
  must('reconcile');
  expect(passes(target)).toBe(true);
  expect(edge.json(4, ['unblock', target], { environment }).errors).toMatchObject([{ code: 'not_blocked' }]);
});
