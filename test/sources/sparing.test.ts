import { describe, expect, test } from 'vitest';
import { type Seldom, Sparing } from '../../src/sources/sparing.ts';

function said(seldom: Seldom, events: readonly (readonly [second: number, problem: string])[]): string[] {
  const lines: string[] = [];
  let now = 0;
  const sparing = new Sparing(
    (_level, _message, { problem, unsaid }) => lines.push(`${now / 1000} ${String(problem)} ${String(unsaid ?? 0)}`),
    seldom,
    () => now,
  );
  for (const [second, problem] of events) {
    now = second * 1000;
    sparing.say('warn', 'm', { problem });
  }
  return lines;
}

const every = (seconds: number, count: number, problem: (n: number) => string): [number, string][] =>
  Array.from({ length: count }, (_, n) => [n * seconds, problem(n)]);

describe('what is said', () => {
  test.each<[string, Seldom, (readonly [number, string])[], string[]]>([
    [
      'what changes, at once',
      { most: 10, againMs: 600_000 },
      [
        [0, 'a'],
        [1, 'b'],
        [2, 'a'],
      ],
      ['0 a 0', '1 b 0', '2 a 0'],
    ],
    ['what stays, every ten minutes', { most: 10, againMs: 600_000 }, every(5, 150, () => 'a'), ['0 a 0', '600 a 119']],
    [
      'what goes to and fro, some times a minute',
      { most: 2, againMs: 0 },
      every(10, 9, (n) => `${n % 2}`),
      ['0 0 0', '10 1 0', '60 0 4', '70 1 0'],
    ],
    ['what is seldom, always', { most: 1, againMs: 0 }, every(60, 3, () => 'a'), ['0 a 0', '60 a 0', '120 a 0']],
  ])('%s', (_, seldom, events, lines) => {
    expect(said(seldom, events)).toEqual(lines);
  });
});
