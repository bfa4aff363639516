import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bitsOf } from '../../../src/address/address.ts';
import { comparePrefixes, covers, formatPrefix, maskPrefix, type Prefix } from '../../../src/address/prefix.ts';
import { keyOfTarget, keysWithin, targetOfKey } from '../../../src/blocklist/ledger/key.ts';
import { at } from './place.ts';

const prefix: fc.Arbitrary<Prefix> = fc
  .tuple(fc.constantFrom(4 as const, 6 as const), fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.nat(128))
  .map(([family, bytes, length]) => {
    // few different bytes, so that some cover others
    const few = bytes.map((byte) => (byte % 3) * 0x55).subarray(0, bitsOf(family) / 8);
    return maskPrefix({ family, bytes: few }, length % (bitsOf(family) + 1));
  });

describe('keys', () => {
  test('say which target it is', () => {
    fc.assert(
      fc.property(prefix, (target) => {
        expect(targetOfKey(keyOfTarget(target))).toEqual(target);
      }),
    );
  });

  test('sort as prefixes do', () => {
    fc.assert(
      fc.property(prefix, prefix, (a, b) => {
        expect(Math.sign(Buffer.compare(keyOfTarget(a), keyOfTarget(b)))).toBe(Math.sign(comparePrefixes(a, b)));
      }),
    );
  });

  test('of all that lies within a prefix are between two, and not shorter', () => {
    fc.assert(
      fc.property(prefix, prefix, (outer, inner) => {
        const [first, last] = keysWithin(outer);
        const key = keyOfTarget(inner);
        const isBetween = Buffer.compare(first, key) <= 0 && Buffer.compare(key, last) <= 0;
        expect(isBetween && inner.length >= outer.length, `${formatPrefix(inner)} in ${formatPrefix(outer)}`).toBe(
          covers(outer, inner),
        );
      }),
    );
  });

  test.each([
    ['nothing', []],
    ['another family', [5, 1, 2, 3, 4, 32]],
    ['too short', [4, 1, 2, 3, 32]],
    ['a length beyond', [4, 1, 2, 3, 4, 33]],
    ['IPv6 with four bytes', [6, 1, 2, 3, 4, 32]],
  ])('%s is none', (_, bytes) => {
    expect(() => targetOfKey(Uint8Array.from(bytes))).toThrow(RangeError);
  });

  test('are as the schema says', () => {
    expect(keyOfTarget(at('192.0.2.0/24')).toString('hex')).toBe('04c000020018');
  });
});
