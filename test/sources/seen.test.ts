import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Identity } from '../../src/alert/identity.ts';
import { keepSeenMs, mostSeen, Seen } from '../../src/sources/seen.ts';

/** Not in the order of their slots. */
const nth = (n: number): Identity => ({ a: Math.imul(n, 0x9e3779b1) >>> 0, b: n >>> 0 });

test('what was added is seen, what was forgotten is not', () => {
  const seen = new Seen();
  expect(seen.has(nth(1))).toBe(false);
  seen.add(nth(1), 0);
  expect(seen.has(nth(1))).toBe(true);
  expect(seen.has(nth(2))).toBe(false);
  seen.forget(nth(2));
  seen.forget(nth(1));
  expect(seen.has(nth(1))).toBe(false);
  seen.add(nth(1), 0);
  expect(seen.has(nth(1))).toBe(true);
});

test('as a set is, also where identities lie in one slot or look like an empty one', () => {
  const identity = fc.record({ a: fc.constantFrom(0, 1, 2, 262_144, 524_288), b: fc.nat({ max: 4 }) });
  const steps = fc.array(fc.tuple(fc.constantFrom('add' as const, 'forget' as const), identity), { maxLength: 60 });
  fc.assert(
    fc.property(steps, (all) => {
      const seen = new Seen();
      const model = new Set<string>();
      // 0 0 and 0 1 are what slots without an identity hold: they are 0 2.
      const name = ({ a, b }: Identity) => `${a} ${a === 0 ? Math.max(b, 2) : b}`;
      for (const [what, each] of all) {
        expect(seen.has(each)).toBe(model.has(name(each)));
        if (what === 'add' && !seen.has(each)) seen.add(each, 0);
        if (what === 'forget') seen.forget(each);
        if (what === 'add') model.add(name(each));
        else model.delete(name(each));
      }
    }),
    { numRuns: 30 },
  );
});

test('a flood: the last are known, and the first are not for ever', () => {
  const seen = new Seen();
  const flood = 5 * mostSeen + 1_000;
  for (let n = 0; n < flood; n++) seen.add(nth(n), 0);
  for (let n = flood - mostSeen; n < flood; n++) if (!seen.has(nth(n))) expect.unreachable(`${n} is forgotten`);
  for (let n = 0; n < flood - 2 * mostSeen; n++) if (seen.has(nth(n))) expect.unreachable(`${n} is known`);
});

test('what is older than an alert may be is forgotten when more comes', () => {
  const seen = new Seen();
  seen.add(nth(1), 1_000);
  seen.add(nth(2), 1_000 + keepSeenMs - 1);
  expect(seen.has(nth(1))).toBe(true);
  seen.add(nth(3), 1_000 + keepSeenMs);
  expect([1, 2, 3].map((n) => seen.has(nth(n)))).toEqual([true, true, true]);
  seen.add(nth(4), 1_000 + 2 * keepSeenMs);
  expect([1, 2, 3, 4].map((n) => seen.has(nth(n)))).toEqual([false, false, true, true]);
});
