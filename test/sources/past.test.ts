import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { noHabit } from '../../src/sources/habit.ts';
import { type Past, pastsOf, textOf } from '../../src/sources/past.ts';

const past = (atMs: number | null, rule = 'A rule'): Past => ({
  kind: 'file',
  lastAlert: atMs === null ? null : { atMs, rule, delaySeconds: 0.25 },
  habit: noHabit,
});

describe('what is kept of sources', () => {
  test('comes back as it was', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string({ minLength: 1 }),
          fc.tuple(fc.option(fc.integer({ min: 0, max: 1e13 })), fc.string({ maxLength: 128 })),
          { maxKeys: 20, noNullPrototype: true },
        ),
        (given) => {
          const all = new Map(Object.entries(given).map(([name, [atMs, rule]]) => [name, past(atMs, rule)]));
          expect(pastsOf(textOf(all, new Set()))).toEqual(all);
        },
      ),
    );
  });

  test('is bounded: those that are here, then the youngest', () => {
    const all = new Map(Array.from({ length: 400 }, (_, n) => [`file:/${n}`, past(n)]));
    const kept = pastsOf(textOf(all, new Set(['file:/0', 'file:/7'])));
    expect([...(kept?.keys() ?? [])].slice(0, 4)).toEqual(['file:/0', 'file:/7', 'file:/399', 'file:/398']);
    expect(kept?.size).toBe(256);
    const long = new Map(Array.from({ length: 256 }, (_, n) => [`file:/${'x'.repeat(4_000)}${n}`, past(n)]));
    const text = textOf(long, new Set());
    expect(text.length).toBeLessThanOrEqual(512 << 10);
    expect(pastsOf(text)?.size).toBeGreaterThan(100);
  });

  test.each<[string, string]>([
    ['nothing', ''],
    ['half', '{"version":1,"sources":['],
    ['another version', '{"version":2,"sources":[]}'],
    ['no list', '{"version":1,"sources":{}}'],
    ['null', 'null'],
  ])('%s is none', (_, text) => {
    expect(pastsOf(text)).toBeNull();
  });

  test('sources that are none are left out, and so are their alerts', () => {
    const habit = { listened_ms: 0, heard_at_ms: null, days: [] };
    const sources = [
      ['a', { kind: 'file', last_alert: null, habit }],
      ['b', { kind: 7, last_alert: null, habit }],
      ['c', { kind: 'file', last_alert: null, habit: null }],
      ['d', { kind: 'file', last_alert: { at_ms: 1e300, rule: 'x' }, habit }],
      ['e', { kind: 'file', last_alert: { at_ms: 5, rule: 'y'.repeat(999), delay_seconds: 'z' }, habit }],
      [{}, { kind: 'file', last_alert: null, habit }],
      7,
    ];
    const kept = pastsOf(JSON.stringify({ version: 1, sources }));
    expect([...(kept ?? [])].map(([name, { lastAlert }]) => [name, lastAlert])).toEqual([
      ['a', null],
      ['d', null],
      ['e', { atMs: 5, rule: 'y'.repeat(128), delaySeconds: null }],
    ]);
  });
});
