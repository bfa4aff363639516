/**
 * Between a commit and its way to the disk: a process that is killed there, and the power that goes there. The lock is free by
 * then and others see the commit; nobody was told of it.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { FaultName } from '../../src/fault.ts';
import { differences, dropped, type Edge, heldIn, openEdge, wantedIn } from './edge.ts';

let edge: Edge;
const many = Array.from({ length: 700 }, (_, i) => `198.19.${i >> 8}.${i & 255}`);
let file = '';

beforeAll(() => {
  edge = openEdge();
  edge.attach();
  file = join(edge.lab.directory, 'many');
  writeFileSync(file, `${many.join('\n')}\n`);
});
afterAll(() => edge.lab.close());

function die(fault: FaultName, args: readonly string[]): void {
  const done = edge.run(args, { fault });
  expect({ fault, status: done.status, stderr: done.stderr }).toMatchObject({ status: null });
}

const logSize = (): number => {
  const log = join(edge.stateDir, 'ledger.db-wal');
  return existsSync(log) ? statSync(log).size : 0;
};

/** The maps are gone with the kernel, and of the log what was not synced: back to so many bytes. Then the host boots. */
function cutPower(logBytes: number): void {
  const log = join(edge.stateDir, 'ledger.db-wal');
  const kept = join(edge.lab.directory, 'disk');
  rmSync(kept, { recursive: true, force: true });
  mkdirSync(kept);
  for (const name of ['ledger.db', 'ledger.db-wal']) {
    if (existsSync(join(edge.stateDir, name))) copyFileSync(join(edge.stateDir, name), join(kept, name));
  }
  edge.purge();
  for (const name of readdirSync(edge.stateDir)) if (name.startsWith('ledger.db')) rmSync(join(edge.stateDir, name));
  for (const name of readdirSync(kept)) copyFileSync(join(kept, name), join(edge.stateDir, name));
  if (existsSync(log)) truncateSync(log, logBytes);
  edge.attach();
}

test.each([
  ['block.entered', ['block', '203.0.113.10', '--for', '1h']],
  ['unblock.entered', ['unblock', '203.0.113.11']],
] as const)('%s: killed there it counts for all others, and can be repeated', (point, args) => {
  edge.must(['block', '203.0.113.11', '--for', '1h']);
  die(point, args);
  expect(differences(edge)).toEqual([]);
  const [, target] = args;
  expect(wantedIn(edge.stateDir).has(target)).toBe(args[0] === 'block');
  edge.must(['reconcile']);
  expect(dropped(edge.lab.pinDir, [target]).has(target)).toBe(args[0] === 'block');
  expect(edge.run(args).status).toBe(args[0] === 'block' ? 0 : 4);
});

test('the power goes: what was acknowledged is there after the boot, of an import that was not nothing or some of it', () => {
  edge.must(['block', '203.0.113.20', '--for', '2h']);
  edge.must(['block', '203.0.113.21', '--for', '2h']);
  edge.must(['unblock', '203.0.113.21']);
  // The last hand's end has written the log back: all of it is in the database.
  expect(logSize()).toBe(0);
  die('import.sliced', ['import', file, '--feed', 'many', '--for', '2h']);
  const size = logSize();
  expect(size).toBeGreaterThan(0);
  expect(heldIn(edge.lab.pinDir).has(many[0] ?? '')).toBe(true);
  cutPower(0);
  const held = heldIn(edge.lab.pinDir);
  expect([held.has('203.0.113.20'), held.has('203.0.113.21'), held.has(many[0] ?? '')]).toEqual([true, false, false]);
  expect(differences(edge)).toEqual([]);

  // Half of it got there.
  die('import.sliced', ['import', file, '--feed', 'many', '--for', '2h']);
  cutPower(Math.floor(logSize() / 2));
  expect(heldIn(edge.lab.pinDir).has('203.0.113.20')).toBe(true);
  expect(differences(edge)).toEqual([]);

  edge.must(['import', file, '--feed', 'many', '--for', '2h']);
  cutPower(logSize());
  const after = heldIn(edge.lab.pinDir);
  expect(many.filter((target) => !after.has(target))).toEqual([]);
  expect(differences(edge)).toEqual([]);
});
