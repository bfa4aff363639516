import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bitsOf, fromBytes, parseAddress } from '../../src/address/address.ts';
import { contains, formatPrefix, maskPrefix, overlaps, parsePrefix } from '../../src/address/prefix.ts';
import { prefixSet } from '../../src/address/set.ts';
import { addressBytes } from './arbitrary.ts';

const setOf = (...texts: string[]) => prefixSet(texts.map(parsePrefix));
const text = (prefix: ReturnType<typeof parsePrefix> | null) => (prefix === null ? null : formatPrefix(prefix));

test('the longest member that holds an address', () => {
  const set = setOf('10.0.0.0/8', '10.1.0.0/16', '10.1.1.1', '2001:db8::/32', '::1');
  expect(text(set.covering(parseAddress('10.1.1.1')))).toBe('10.1.1.1');
  expect(text(set.covering(parseAddress('10.1.1.2')))).toBe('10.1.0.0/16');
  expect(text(set.covering(parseAddress('10.2.0.1')))).toBe('10.0.0.0/8');
  expect(text(set.covering(parseAddress('11.0.0.0')))).toBeNull();
  expect(text(set.covering(parseAddress('2001:db8:1::')))).toBe('2001:db8::/32');
  expect(text(set.covering(parseAddress('::2')))).toBeNull();
});

test('families do not meet: 0.0.0.0/0 holds no IPv6 address, ::/0 no IPv4 one', () => {
  expect(setOf('0.0.0.0/0').covering(parseAddress('::'))).toBeNull();
  expect(setOf('::/0').covering(parseAddress('0.0.0.0'))).toBeNull();
  expect(setOf('::/0').overlapping(parsePrefix('0.0.0.0/0'))).toBeNull();
});

test('overlapping: a member inside, or one that holds it whole', () => {
  const set = setOf('10.0.0.0/8', '192.0.2.1');
  expect(text(set.overlapping(parsePrefix('10.1.0.0/16')))).toBe('10.0.0.0/8');
  expect(text(set.overlapping(parsePrefix('192.0.2.0/24')))).toBe('192.0.2.1');
  expect(text(set.overlapping(parsePrefix('192.0.2.1')))).toBe('192.0.2.1');
  expect(text(set.overlapping(parsePrefix('0.0.0.0/0')))).not.toBeNull();
  expect(text(set.overlapping(parsePrefix('192.0.3.0/24')))).toBeNull();
});

test('the empty set holds nothing', () => {
  expect(prefixSet([]).covering(parseAddress('::'))).toBeNull();
  expect(prefixSet([]).overlapping(parsePrefix('::/0'))).toBeNull();
  expect(prefixSet([]).prefixes).toEqual([]);
});

describe('against looking at each member', () => {
  const prefix = fc
    .tuple(addressBytes, fc.nat(128))
    .map(([bytes, length]) => maskPrefix(fromBytes(bytes), length % (bitsOf(fromBytes(bytes).family) + 1)));

  test('covering and overlapping', () => {
    fc.assert(
      fc.property(
        fc.array(prefix, { maxLength: 12 }),
        prefix,
        fc.nat(11),
        fc.nat(128),
        (members, other, pick, length) => {
          const set = prefixSet(members);
          const near = members[pick % Math.max(1, members.length)];
          const target =
            near === undefined || length % 3 === 0 ? other : maskPrefix(near.address, Math.min(length, near.length));
          const holding = members.filter((member) => contains(member, target.address));
          const longest = Math.max(-1, ...holding.map((member) => member.length));
          expect(set.covering(target.address)?.length ?? -1).toBe(longest);
          const touching = set.overlapping(target);
          expect(touching !== null).toBe(members.some((member) => overlaps(member, target)));
          if (touching !== null) expect(overlaps(touching, target)).toBe(true);
        },
      ),
      { numRuns: 2000 },
    );
  });
});
