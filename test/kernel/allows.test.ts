import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Address } from '../../src/address/address.ts';
import { contains, formatPrefix, maskPrefix, type Prefix, parsePrefix } from '../../src/address/prefix.ts';

import {
  type AllowEntry,
  type AllowPlan,
  type AllowStep,
  applyAllows,
  planAllows,
  readAllows,
  spareAllows,
} from '../../src/kernel/allows.ts';
import { monotonicNs } from '../../src/kernel/clock.ts';
import { forEver } from '../../src/kernel/layout.ts';
import { native } from '../../src/kernel/native.ts';
import { PinnedSet } from '../../src/kernel/set.ts';
import { dropped, type Edge, openEdge } from '../e2e/edge.ts';

const second = 1_000_000_000n;
const now = 1_000_000n * second;

/** Few bits, so that prefixes meet: 203.0.113.0/24 … /32 and 2001:db8::/120 … /128. */
const prefixes: fc.Arbitrary<Prefix> = fc
  .tuple(fc.boolean(), fc.integer({ min: 0, max: 8 }), fc.integer({ min: 0, max: 15 }))
  .map(([four, more, last]) => {
    const { address } = parsePrefix(four ? `203.0.113.${last}` : `2001:db8::${last.toString(16)}`);
    return maskPrefix(address, (four ? 24 : 120) + more);
  });

const ends = fc.oneof(
  fc.constant(forEver),
  fc.integer({ min: -3, max: 6 }).map((seconds) => now + BigInt(seconds) * 10n * second),
);

const entries: fc.Arbitrary<AllowEntry[]> = fc.uniqueArray(fc.record({ prefix: prefixes, until: ends }), {
  selector: ({ prefix }) => formatPrefix(prefix),
  maxLength: 24,
});

const addresses: readonly Address[] = [4, 6].flatMap((family) =>
  Array.from(
    { length: 17 },
    (_, last) => parsePrefix(family === 4 ? `203.0.113.${last}` : `2001:db8::${last.toString(16)}`).address,
  ),
);

/** Until when an address passes; 0: it does not now. */
function until(held: Iterable<AllowEntry>, address: Address): bigint {
  let latest = 0n;
  for (const { prefix, until: end } of held) if (end > now && end > latest && contains(prefix, address)) latest = end;
  return latest;
}

const ofFamily = (held: ReadonlyMap<string, AllowEntry>, family: 4 | 6): number =>
  [...held.values()].filter(({ prefix }) => prefix.address.family === family).length;

/** Every state on the way, the first and the last among them. */
function* way(before: readonly AllowEntry[], steps: readonly AllowStep[]): Generator<ReadonlyMap<string, AllowEntry>> {
  const held = new Map(before.map((entry) => [formatPrefix(entry.prefix), entry]));
  yield held;
  for (const { kind, prefix, until: end } of steps) {
    if (kind === 'remove') held.delete(formatPrefix(prefix));
    else held.set(formatPrefix(prefix), { prefix, until: end });
    yield held;
  }
}

const attempt = (plan: AllowPlan): AllowStep[] | null => {
  try {
    return planAllows(plan);
  } catch (error) {
    expect(error).toMatchObject({ code: 'allows_full' });
    return null;
  }
};

const less = (a: bigint, b: bigint): bigint => (a < b ? a : b);

describe('the plan', () => {
  test.each([
    ['with room', 1000],
    ['in a trie that is nearly full', 18],
    ['in one that is too small', 12],
  ])('%s: ends at what is wanted; on the way nobody is less protected than before and after', (_, capacity) => {
    let planned = 0;
    fc.assert(
      fc.property(entries, entries, (before, wanted) => {
        fc.pre(
          [4, 6].every(
            (family) =>
              before.filter(({ prefix }) => prefix.address.family === family).length <= capacity - spareAllows,
          ),
        );
        const steps = attempt({ before, wanted, now, capacity });
        if (steps === null) return;
        planned++;
        let last: ReadonlyMap<string, AllowEntry> = new Map();
        for (const held of way(before, steps)) {
          for (const address of addresses) {
            const least = less(until(before, address), until(wanted, address));
            // Ends that are a second apart are the same.
            expect(until(held.values(), address) + second).toBeGreaterThanOrEqual(least);
          }
          for (const family of [4, 6] as const) expect(ofFamily(held, family)).toBeLessThan(capacity);
          last = held;
        }
        const live = wanted.filter(({ until: end }) => end > now);
        expect([...last.keys()].toSorted()).toEqual(live.map(({ prefix }) => formatPrefix(prefix)).toSorted());
        for (const { prefix, until: end } of live) {
          const is = last.get(formatPrefix(prefix))?.until ?? 0n;
          if (end === forEver) expect(is).toBe(forEver);
          else expect(is > end ? is - end : end - is).toBeLessThanOrEqual(second);
        }
        expect(planAllows({ before: [...last.values()], wanted, now, capacity })).toEqual([]);
      }),
      { numRuns: 500 },
    );
    expect(planned).toBeGreaterThan(50);
  });

  test('kept: nothing that lives is taken away or shortened', () => {
    fc.assert(
      fc.property(entries, entries, (before, wanted) => {
        const steps = planAllows({ before, wanted, now, capacity: 1000, keep: true });
        for (const held of way(before, steps)) {
          for (const address of addresses) {
            expect(until(held.values(), address)).toBeGreaterThanOrEqual(until(before, address));
          }
        }
      }),
    );
  });

  const of = (text: string, seconds: number | null = null): AllowEntry => ({
    prefix: parsePrefix(text),
    until: seconds === null ? forEver : now + BigInt(seconds) * second,
  });
  const said = (steps: readonly AllowStep[]) => steps.map(({ kind, prefix }) => `${kind} ${formatPrefix(prefix)}`);

  test.each<[string, AllowEntry[], AllowEntry[], number, string[]]>([
    [
      'adds before it removes',
      [of('203.0.113.0/24')],
      [of('203.0.113.7')],
      9,
      ['add 203.0.113.7', 'remove 203.0.113.0/24'],
    ],
    ['a second is the same end', [of('203.0.113.7', 100)], [of('203.0.113.7', 101)], 9, []],
    ['two are not', [of('203.0.113.7', 100)], [of('203.0.113.7', 102)], 9, ['raise 203.0.113.7']],
    ['shorter', [of('203.0.113.7')], [of('203.0.113.7', 102)], 9, ['lower 203.0.113.7']],
    ['what has ended is added anew', [of('203.0.113.7', -1)], [of('203.0.113.7')], 9, ['add 203.0.113.7']],
    ['and removed where nobody wants it', [of('203.0.113.7', -1)], [], 9, ['remove 203.0.113.7']],
    ['what is wanted and has ended is not', [], [of('203.0.113.7', 0)], 9, []],
    [
      'without room: first what is in nobody’s way',
      [of('192.0.2.1'), of('203.0.113.0/24')],
      [of('203.0.113.7')],
      3,
      ['remove 192.0.2.1', 'add 203.0.113.7', 'remove 203.0.113.0/24'],
    ],
  ])('%s', (_, before, wanted, capacity, steps) => {
    expect(said(planAllows({ before, wanted, now, capacity }))).toEqual(steps);
  });

  test('full: an error that names what would be needed, before anything is done', () => {
    const wanted = Array.from({ length: 9 }, (_, i) => of(`203.0.113.${i}`));
    expect(() => planAllows({ before: [], wanted, now, capacity: 9 })).toThrow(
      expect.objectContaining({
        code: 'allows_full',
        message: expect.stringMatching(/^9 prefixes of IPv4 .* holds 8; nothing was changed/) as string,
      }),
    );
    // Nine in place of nine others have no room either.
    const before = [of('203.0.113.0/24'), ...Array.from({ length: 6 }, (_, i) => of(`203.0.113.${i}`))];
    expect(() => planAllows({ before, wanted: wanted.slice(0, 8), now, capacity: 9 })).toThrow(
      expect.objectContaining({ code: 'allows_full' }),
    );
    // The other family has its own trie.
    expect(
      said(planAllows({ before: [], wanted: [...wanted.slice(0, 8), of('2001:db8::1')], now, capacity: 9 })),
    ).toHaveLength(9);
  });
});

describe('in the kernel', () => {
  let edge: Edge;
  beforeAll(() => {
    edge = openEdge();
    edge.attach();
    edge.must(['block', '203.0.113.0/24', '2001:db8:9::/48', '203.0.113.66', '--for', '1h']);
  });
  afterAll(() => edge.lab.close());

  const withSet = <T>(work: (set: PinnedSet) => T): T => {
    const set = new PinnedSet(edge.lab.pinDir);
    try {
      return work(set);
    } finally {
      set.close();
    }
  };
  const step = (kind: AllowStep['kind'], text: string, end: bigint = forEver): AllowStep => ({
    kind,
    prefix: parsePrefix(text),
    until: end,
  });
  const sources = ['203.0.113.66', '203.0.113.67', '203.0.113.200', '2001:db8:9::1'];
  const drops = () => [...dropped(edge.lab.pinDir, sources)];
  const names = () => withSet((set) => readAllows(set).map(({ prefix }) => formatPrefix(prefix)));

  test('what is applied is read back, and packets pass by it', () => {
    expect(drops()).toEqual(sources);
    const before = names();
    withSet((set) => applyAllows(set, [step('add', '203.0.113.64/26'), step('add', '2001:db8:9::1')]));
    expect(names().toSorted()).toEqual([...before, '203.0.113.64/26', '2001:db8:9::1'].toSorted());
    expect(drops()).toEqual(['203.0.113.200']);
    // Ended is ended, and hides no wider one.
    const past = monotonicNs() - 1_000_000_000n; // the clock of XDP may be a tick behind
    withSet((set) => applyAllows(set, [step('add', '203.0.113.66', past), step('lower', '2001:db8:9::1', past)]));
    expect(drops()).toEqual(['203.0.113.200', '2001:db8:9::1']);
    withSet((set) =>
      applyAllows(
        set,
        ['203.0.113.64/26', '203.0.113.66', '2001:db8:9::1'].map((text) => step('remove', text)),
      ),
    );
    expect(names()).toEqual(before);
    expect(drops()).toEqual(sources);
  });

  test('what another tool wrote with a wrong length counts as ended, host bits or not, and is written anew', () => {
    const map = native().openMap(`${edge.lab.pinDir}/current/allowed_cidr_v4`);
    const key = Buffer.from([24, 0, 0, 0, 192, 0, 2, 77, 9, 9, 9, 9]);
    const value = Buffer.alloc(16);
    value.writeBigUInt64LE(forEver, 0);
    value.writeUInt8(9, 8);
    map.update(key, value);
    // Longer than an address: no packet meets it.
    map.update(Buffer.from([40, 0, 0, 0, 192, 0, 2, 78, 9, 9, 9, 9]), value);
    expect(withSet((set) => readAllows(set).filter(({ prefix }) => prefix.length > 32))).toEqual([]);
    map.delete(Buffer.from([40, 0, 0, 0, 192, 0, 2, 78, 9, 9, 9, 9]));
    map.close();
    const found = withSet((set) => readAllows(set).find(({ prefix }) => formatPrefix(prefix) === '192.0.2.0/24'));
    expect(found?.until).toBe(0n);
    withSet((set) => {
      const wanted = [
        ...readAllows(set, false).filter(({ until: end }) => end !== 0n),
        { prefix: parsePrefix('192.0.2.0/24'), until: forEver },
      ];
      const steps = planAllows({ before: readAllows(set), wanted, now: monotonicNs(), capacity: 100 });
      expect(steps).toMatchObject([{ kind: 'add' }]);
      applyAllows(set, steps);
    });
    expect(withSet((set) => readAllows(set).find(({ prefix }) => formatPrefix(prefix) === '192.0.2.0/24')?.until)).toBe(
      forEver,
    );
    withSet((set) => applyAllows(set, [step('remove', '192.0.2.0/24')]));
  });

  test('a trie filled to its last place is still raised, and emptied', () => {
    const many = Array.from({ length: 16_383 }, (_, i) =>
      step('add', `10.${i >> 8}.${i & 255}.7`, monotonicNs() + 3600n * second),
    );
    withSet((set) => {
      const before = readAllows(set, false);
      const room = many.slice(0, many.length - before.filter(({ prefix }) => prefix.address.family === 4).length);
      applyAllows(set, room);
      applyAllows(
        set,
        room.slice(0, 9).map((each) => ({ ...each, kind: 'raise' as const, until: forEver })),
      );
      expect(readAllows(set).filter(({ until: end }) => end === forEver).length).toBeGreaterThanOrEqual(9);
      applyAllows(
        set,
        room.map((each) => ({ ...each, kind: 'remove' as const })),
      );
      expect(readAllows(set)).toHaveLength(before.length);
    });
  });
});
