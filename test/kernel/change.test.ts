/** The pinned change programs: raise and set, in place, in hashes and tries. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { monotonicNs } from '../../src/kernel/clock.ts';
import { type BlockValue, change_operation, change_result, forEver, never } from '../../src/kernel/layout.ts';
import { isNativeError } from '../../src/kernel/native.ts';
import { frame, ipv4 } from './packets.ts';
import { hour, openPlane, type Plane, past, soon } from './plane.ts';

const { CHANGE_RAISE: raise, CHANGE_SET: set } = change_operation;
const {
  CHANGE_ABSENT: absent,
  CHANGE_DONE: done,
  CHANGE_UNCHANGED: unchanged,
  CHANGE_INVALID: invalid,
} = change_result;

let plane: Plane;
beforeAll(() => {
  plane = openPlane();
});
beforeEach(() => plane.clear());
afterAll(() => plane.close());

const targets = ['198.51.100.66', '2001:db8::66', '198.51.100.0/24', '2001:db8::/32', '0.0.0.0/0', '::/0'] as const;
const met = { packets: 7n, bytes: 700n, lastSeen: 70n };

describe.each(targets)('%s', (target) => {
  it('absent', () => {
    expect(plane.change(raise, target, { dropUntil: forEver })).toBe(absent);
    expect(plane.change(set, target, { dropUntil: forEver })).toBe(absent);
    expect(plane.entry(target)).toBeNull();
  });

  const one = monotonicNs() + hour;
  const two = one + hour;
  type Ends = Pick<BlockValue, 'dropUntil' | 'countUntil'>;
  const rows: readonly (readonly [string, Ends, Ends, number, Ends])[] = [
    [
      'a later end wins',
      { dropUntil: one, countUntil: never },
      { dropUntil: two, countUntil: never },
      done,
      { dropUntil: two, countUntil: never },
    ],
    [
      'an earlier end does nothing',
      { dropUntil: two, countUntil: never },
      { dropUntil: one, countUntil: never },
      unchanged,
      { dropUntil: two, countUntil: never },
    ],
    [
      'the same end does nothing',
      { dropUntil: one, countUntil: one },
      { dropUntil: one, countUntil: one },
      unchanged,
      { dropUntil: one, countUntil: one },
    ],
    [
      'each end for itself',
      { dropUntil: one, countUntil: two },
      { dropUntil: two, countUntil: one },
      done,
      { dropUntil: two, countUntil: two },
    ],
    [
      'monitor does not shorten enforce',
      { dropUntil: one, countUntil: never },
      { dropUntil: never, countUntil: two },
      done,
      { dropUntil: one, countUntil: two },
    ],
    [
      'enforce over monitor',
      { dropUntil: never, countUntil: two },
      { dropUntil: one, countUntil: never },
      done,
      { dropUntil: one, countUntil: two },
    ],
    [
      'for ever is latest',
      { dropUntil: one, countUntil: never },
      { dropUntil: forEver, countUntil: never },
      done,
      { dropUntil: forEver, countUntil: never },
    ],
    [
      'nothing is later than for ever',
      { dropUntil: forEver, countUntil: never },
      { dropUntil: two, countUntil: never },
      unchanged,
      { dropUntil: forEver, countUntil: never },
    ],
  ];
  it.each(rows)('raise: %s', (_name, before, change, result, after) => {
    plane.put(target, { ...before, ...met, owners: 1 });
    expect(plane.change(raise, target, { ...change, owners: 4 })).toBe(result);
    expect(plane.entry(target)).toMatchObject({ ...after, ...met, owners: 5 });
  });

  it.each(rows)('set, whatever was there: %s', (_name, before, change) => {
    plane.put(target, { ...before, ...met, owners: 3, action: 0, scope: 1 });
    expect(plane.change(set, target, { ...change, owners: 4, scope: 9 })).toBe(done);
    expect(plane.entry(target)).toMatchObject({ ...change, ...met, owners: 4, scope: 9 });
  });

  it.each([
    ['raise', raise],
    ['set', set],
  ] as const)('%s makes an ended entry live again from nothing', (_name, operation) => {
    plane.put(target, { dropUntil: past(), countUntil: past(), ...met, owners: 3, action: 1, scope: 7 });
    expect(plane.change(operation, target, { dropUntil: soon(), owners: 4 })).toBe(done);
    const entry = plane.entry(target);
    expect(entry).toMatchObject({ packets: 0n, bytes: 0n, lastSeen: 0n, owners: 4, action: 0, scope: 0 });
    expect(entry?.dropUntil).toBeGreaterThan(monotonicNs());
  });

  it('the skew decides what has ended', () => {
    plane.put(target, { dropUntil: soon(), ...met });
    plane.skew(2n * hour);
    expect(plane.change(raise, target, { dropUntil: monotonicNs() + 3n * hour })).toBe(done);
    expect(plane.entry(target)).toMatchObject({ packets: 0n });
  });

  it('an unknown operation changes nothing', () => {
    for (const dropUntil of [past(), soon()]) {
      plane.put(target, { dropUntil, ...met, owners: 3 });
      expect(plane.change(2, target, { dropUntil: forEver, owners: 4 })).toBe(invalid);
      expect(plane.entry(target)).toMatchObject({ dropUntil, ...met, owners: 3 });
    }
  });
});

it('a wider prefix is not taken for a longer one', () => {
  plane.put('198.51.0.0/16', { dropUntil: soon(), ...met });
  plane.put('2001:db8::/32', { dropUntil: soon(), ...met });
  const before = [plane.entry('198.51.0.0/16'), plane.entry('2001:db8::/32')];
  for (const longer of ['198.51.0.0/17', '198.51.100.0/24', '2001:db8::/33', '2001:db8:0:1::/64']) {
    expect(plane.change(raise, longer, { dropUntil: forEver }), longer).toBe(absent);
    expect(plane.change(set, longer, { dropUntil: never }), longer).toBe(absent);
  }
  expect([plane.entry('198.51.0.0/16'), plane.entry('2001:db8::/32')]).toEqual(before);
});

it('an address and the /32 in the trie are two entries', () => {
  plane.put('198.51.100.66', { dropUntil: soon() });
  plane.put('198.51.100.66', { dropUntil: soon() }, { trie: true });
  expect(plane.change(raise, '198.51.100.66', { dropUntil: forEver })).toBe(done);
  expect(plane.entry('198.51.100.66', { trie: true })?.dropUntil).not.toBe(forEver);
  expect(plane.change(raise, '198.51.100.66', { dropUntil: forEver }, { trie: true })).toBe(done);
  expect(plane.entry('198.51.100.66', { trie: true })?.dropUntil).toBe(forEver);
});

it('rubbish for arguments', () => {
  plane.put('198.51.100.66', { dropUntil: soon() });
  plane.put('198.51.100.0/24', { dropUntil: soon() });
  for (const family of [0, 5, 255] as const) {
    const target = { address: { family: family as 4, bytes: Uint8Array.of(198, 51, 100, 66) }, length: 32 };
    expect(plane.changeRaw('change', target, raise)).toBe(invalid);
    expect(plane.changeRaw('change_cidr', { ...target, length: 24 }, raise)).toBe(invalid);
  }
  const tooLong = { address: { family: 4 as const, bytes: Uint8Array.of(198, 51, 100, 0) }, length: 33 };
  expect(plane.changeRaw('change_cidr', tooLong, raise)).toBe(absent);
});

it('a raise between two packets loses neither its drop nor its count', () => {
  plane.put('198.51.100.66', { dropUntil: soon() });
  const bytes = frame(4, ipv4({ source: '198.51.100.66' }));
  for (let i = 1; i <= 200; i++) {
    expect(plane.run(bytes).verdict).toBe('drop');
    expect(plane.change(raise, '198.51.100.66', { dropUntil: soon() + BigInt(i) })).toBe(done);
  }
  expect(plane.entry('198.51.100.66')?.packets).toBe(200n);
});

it('arguments that are cut short are refused', () => {
  const { change, changeCidr } = plane.programs;
  expect(changeCidr.testRun({ data: Buffer.alloc(14 + 47) }).returnValue).toBe(invalid);
  let refused: unknown;
  try {
    change.testRun({ context: Buffer.alloc(40) });
  } catch (error) {
    refused = error;
  }
  expect(isNativeError(refused) && refused.code).toBe('EINVAL');
});
