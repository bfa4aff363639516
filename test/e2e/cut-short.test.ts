/**
 * A set is withdrawn by those who find it in the ledger. When one of them is killed after the ledger and before the maps, the next
 * must not take it for done: exit 0 means that the packets pass.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WallClock } from '../../scripts/soak/wall-clock.ts';
import { ended } from '../kernel/lab.ts';
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
  ['ten years ahead', 3_650 * 86_400_000],
  ['ten years back', -3_650 * 86_400_000],
])('an import in the middle of which the clock is stepped %s has the ends that were asked for', async (_, offsetMs) => {
  const clock = new WallClock(edge.lab);
  const targets = ['192.0.2.41', '192.0.2.42'];
  edge.must(['unblock', '--within', '192.0.2.40/30', '--yes']);
  edge.must(['block', '192.0.2.41', '--for', '5m']);
  const argv = edge.argv(['import', '-', '--for', '2h'], { environment: clock.environment });
  const child = edge.lab.spawn(edge.namespace, argv, { stdio: ['pipe', 'ignore', 'inherit'] });
  // More than a pipe holds: who has taken it has begun.
  await new Promise<void>((resolve) => child.stdin?.write(`${'# nothing\n'.repeat(50_000)}`, () => resolve()));
  clock.step(offsetMs);
  const inAnHour = new Date(clock.now() - offsetMs + 3_600_000).toISOString();
  child.stdin?.end(`${targets.join('\n')}\n{"target":"192.0.2.43","ends_at":"${inAnHour}"}\n`);
  await ended(child);
  expect(child.exitCode).toBe(0);
  const seconds = [...targets, '192.0.2.43'].map((target) => heldIn(edge.lab.pinDir).get(target)?.dropSeconds ?? 0);
  for (const [index, asked] of [7200, 7200, 3600].entries()) {
    expect(seconds[index]).toBeLessThanOrEqual(asked);
    expect(seconds[index]).toBeGreaterThan(asked - 60);
  }
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
