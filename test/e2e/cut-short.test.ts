/**
 * A set is withdrawn by those who find it in the ledger. When one of them is killed after the ledger and before the maps, the next
 * must not take it for done: exit 0 means that the packets pass.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WallClock } from '../../scripts/soak/wall-clock.ts';
import { type Edge, heldIn, openEdge } from './edge.ts';
import type { Step } from './fixtures/automatic.ts';

let edge: Edge;

beforeAll(() => {
  edge = openEdge();
  edge.attach();
});
afterAll(() => edge.lab.close());

function automatic(targets: readonly string[], environment: Readonly<Record<string, string>> = {}): void {
  const steps: Step[] = [
    ...targets.map((target) => ({ do: 'block', target, seconds: 3600 }) as const),
    { do: 'settle' },
  ];
  const request = JSON.stringify({ pinDir: edge.lab.pinDir, stateDir: edge.stateDir, steps });
  const argv = [process.execPath, join(import.meta.dirname, 'fixtures/automatic.ts')];
  edge.must([request], { argv, environment });
}

function feed(name: string, targets: readonly string[]): readonly string[] {
  const file = join(edge.lab.directory, name);
  writeFileSync(file, targets.map((target) => `${target}\n`).join(''));
  return ['import', file, '--feed', name, '--replace', '--yes'];
}

const held = (targets: readonly string[]): string[] => targets.filter((target) => heldIn(edge.lab.pinDir).has(target));

interface Case {
  readonly name: string;
  readonly targets: readonly string[];
  readonly block: (targets: readonly string[]) => void;
  readonly withdraw: (targets: readonly string[]) => readonly string[];
}

const cases: readonly Case[] = [
  {
    name: 'import --replace',
    targets: ['192.0.2.1', '192.0.2.2', '2001:db8:7::/64'],
    block: (targets) => void edge.must(feed('cut', targets)),
    withdraw: () => feed('cut', []),
  },
  {
    name: 'undo',
    targets: ['192.0.2.11', '2001:db8:7::11'],
    block: (targets) => automatic(targets),
    withdraw: () => ['undo', '--yes'],
  },
  {
    name: 'unblock by a filter',
    targets: ['203.0.113.65', '203.0.113.96/28'],
    block: (targets) => void edge.must(['block', ...targets, '--for', '1h']),
    withdraw: () => ['unblock', '--within', '203.0.113.64/26', '--yes'],
  },
];

test.each(cases)('$name that was cut short is finished by the next', ({ targets, block, withdraw }) => {
  block(targets);
  expect(held(targets)).toEqual(targets);
  const args = withdraw(targets);
  expect(edge.run(args, { fault: 'unblock.recorded' }).status).toBeNull();
  // The ledger wants none of them any more; the maps do not know.
  expect(held(targets)).toEqual(targets);
  edge.must(args);
  expect(held(targets)).toEqual([]);
  expect(edge.must(['reconcile'])).toBe('unchanged: maps and ledger are equal\n');
});

test.each([
  ['by an hour ahead', 3_600_000],
  ['by an hour back', -3_600_000],
  ['by ten years ahead', 3_650 * 86_400_000],
  ['by ten years back', -3_650 * 86_400_000],
])('undo takes back what was done in the time that has passed, with a clock that was stepped %s', (_, offsetMs) => {
  const clock = new WallClock(edge.lab);
  const { environment } = clock;
  const target = '198.51.100.77';
  automatic([target], environment);
  clock.step(offsetMs);
  edge.must(['undo', '--since', '5m', '--yes'], { environment });
  expect(held([target])).toEqual([]);
});
