import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Address, bitsOf, fromBytes, parseAddress } from '../../src/address/address.ts';
import {
  comparePrefixes,
  contains,
  covers,
  formatPrefix,
  hostPrefix,
  isHost,
  maskPrefix,
  overlaps,
  type Prefix,
  parsePrefix,
  readPrefix,
} from '../../src/address/prefix.ts';
import { FalcodropError } from '../../src/errors.ts';
import { addressBytes } from './arbitrary.ts';

const prefixes = fc
  .tuple(addressBytes, fc.nat(128))
  .map(([bytes, length]) => maskPrefix(fromBytes(bytes), length % (bitsOf(fromBytes(bytes).family) + 1)));

/** First and last address of a prefix as integers. */
function span(prefix: Prefix): readonly [bigint, bigint] {
  const first = integerOf(prefix.address);
  return [first, first + (1n << BigInt(bitsOf(prefix.address.family) - prefix.length)) - 1n];
}

const integerOf = (address: Address): bigint => address.bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);

describe('parsePrefix', () => {
  test.each([
    ['192.0.2.0/24', '192.0.2.0/24'],
    ['192.0.2.1/32', '192.0.2.1'],
    ['192.0.2.1', '192.0.2.1'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['2001:DB8::/32', '2001:db8::/32'],
    ['2001:db8::1/128', '2001:db8::1'],
    ['::/0', '::/0'],
    ['::ffff:192.0.2.0/120', '192.0.2.0/24'],
    ['::ffff:192.0.2.1/128', '192.0.2.1'],
    ['::ffff:0:0/96', '0.0.0.0/0'],
  ])('%s is %s', (text, canonical) => {
    expect(formatPrefix(parsePrefix(text))).toBe(canonical);
    expect(readPrefix(text)).toEqual(parsePrefix(text));
  });

  test.each([
    '192.0.2.0/33',
    '192.0.2.0/',
    '192.0.2.0/ 24',
    '192.0.2.0/024',
    '192.0.2.0/+24',
    '192.0.2.0/-1',
    '192.0.2.0/255.255.255.0',
    '192.0.2.0/24/24',
    '/24',
    '192.0.2/24',
    '2001:db8::/129',
    '::ffff:0.0.0.0/95',
    'fe80::%eth0/64',
  ])('%s is no prefix', (text) => {
    expect(() => parsePrefix(text)).toThrow(FalcodropError);
    expect(readPrefix(text)).toBeNull();
  });

  test.each([
    ['192.0.2.77/24', '192.0.2.0/24', '192.0.2.77'],
    ['2001:db8::1/32', '2001:db8::/32', '2001:db8::1'],
    ['::ffff:192.0.2.77/120', '192.0.2.0/24', '192.0.2.77'],
    ['128.0.0.0/0', '0.0.0.0/0', '128.0.0.0'],
  ])('%s names %s and %s instead', (text, prefix, address) => {
    try {
      parsePrefix(text);
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ code: 'prefix_host_bits' });
      expect((error as FalcodropError).hint).toBe(
        `write ${prefix} for the prefix, or ${address} for the address alone`,
      );
    }
  });

  test('reads what it prints', () => {
    fc.assert(
      fc.property(prefixes, (prefix) => {
        expect(parsePrefix(formatPrefix(prefix))).toEqual(prefix);
      }),
    );
  });
});

describe('maskPrefix', () => {
  test('holds the address, and has no host bits', () => {
    fc.assert(
      fc.property(addressBytes, fc.nat(128), (bytes, any) => {
        const address = fromBytes(bytes);
        const length = any % (bitsOf(address.family) + 1);
        const prefix = maskPrefix(address, length);
        const hostBits = (1n << BigInt(bitsOf(address.family) - length)) - 1n;
        expect(prefix.length).toBe(length);
        expect(integerOf(prefix.address)).toBe(integerOf(address) & ~hostBits);
        expect(contains(prefix, address)).toBe(true);
      }),
    );
  });

  test('leaves the address it was given as it was', () => {
    const address = parseAddress('192.0.2.77');
    maskPrefix(address, 8);
    expect(address).toEqual(parseAddress('192.0.2.77'));
  });
});

test('covers, contains and overlaps are those of the intervals', () => {
  fc.assert(
    fc.property(prefixes, prefixes, fc.nat(128), (a, other, shorter) => {
      // a shorter prefix of the same address half of the time, or nothing would ever cover
      const b = shorter % 2 === 0 ? other : maskPrefix(a.address, Math.min(shorter, a.length));
      const [firstA, lastA] = span(a);
      const [firstB, lastB] = span(b);
      const sameFamily = a.address.family === b.address.family;
      expect(covers(a, b)).toBe(sameFamily && firstA <= firstB && lastB <= lastA);
      expect(contains(a, b.address)).toBe(sameFamily && firstA <= firstB && firstB <= lastA);
      expect(overlaps(a, b)).toBe(sameFamily && firstA <= lastB && firstB <= lastA);
      expect(overlaps(b, a)).toBe(overlaps(a, b));
    }),
    { numRuns: 3000 },
  );
});

test('an address as a prefix', () => {
  expect(isHost(hostPrefix(parseAddress('192.0.2.1')))).toBe(true);
  expect(isHost(parsePrefix('2001:db8::1'))).toBe(true);
  expect(isHost(parsePrefix('192.0.2.0/31'))).toBe(false);
});

test('order: IPv4 first, by address, the wider first', () => {
  const sorted = ['10.0.0.0/8', '10.0.0.0/24', '10.0.0.0', '192.0.2.0/24', '::/0', '2001:db8::/32'];
  expect([...sorted].reverse().map(parsePrefix).sort(comparePrefixes).map(formatPrefix)).toEqual(sorted);
});
