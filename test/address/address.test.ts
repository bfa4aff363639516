import { isIP } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  compareAddresses,
  formatAddress,
  fromBytes,
  isV4Mapped,
  parseAddress,
  quote,
  readAddress,
  sameAddress,
} from '../../src/address/address.ts';
import { FalcodropError } from '../../src/errors.ts';
import { addressBytes, addressText } from './arbitrary.ts';

const read = (text: string): string | null => {
  const address = readAddress(text);
  return address === null ? null : formatAddress(address);
};

describe('readAddress', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'],
    ['0.0.0.0', '0.0.0.0'],
    ['255.255.255.255', '255.255.255.255'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['2001:DB8::A', '2001:db8::a'],
    ['2001:0db8:0000:0000:0000:0000:0000:0001', '2001:db8::1'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['1:0:0:2:3:0:0:4', '1::2:3:0:0:4'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['1:2:3:4:5:6:1.2.3.4', '1:2:3:4:5:6:102:304'],
    ['::1.2.3.4', '::102:304'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::FFFF:c000:0201', '192.0.2.1'],
    ['0:0:0:0:0:ffff:0.0.0.0', '0.0.0.0'],
    ['0000:0000:0000:0000:0000:ffff:255.255.255.255', '255.255.255.255'],
  ])('%s is %s', (text, canonical) => {
    expect(read(text)).toBe(canonical);
  });

  test.each([
    '',
    ' 192.0.2.1',
    '192.0.2.1 ',
    '192.0.2.1\n',
    '192.0.2',
    '192.0.2.1.',
    '.192.0.2.1',
    '192..2.1',
    '192.0.2.256',
    '192.0.2.1.1',
    '010.0.0.1',
    '10.0.0.00',
    '127.1',
    '1',
    '2130706433',
    '0x7f.0.0.1',
    '-1.0.0.1',
    '+1.0.0.1',
    '1e1.0.0.1',
    '192.0.2.١',
    ':',
    ':::',
    ':1',
    '1:',
    '1::2::3',
    '::1::',
    ':1::2',
    '1::2:',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '::1:2:3:4:5:6:7:8',
    '1:2:3:4::5:6:7:8',
    '12345::',
    '::g',
    '::-1',
    '[::1]',
    'fe80::1%eth0',
    '::1%',
    '1.2.3.4::',
    '::1.2.3.4:5',
    '::1.2.3.04',
    '::1.2.3',
    '1:2:3:4:5:6:7:1.2.3.4',
    '::ffff:192.0.2.1/128',
    '192.0.2.1/32',
    'localhost',
    'ffff8f1c',
  ])('%j is no address', (text) => {
    expect(readAddress(text)).toBeNull();
  });

  test('takes what the C library takes for an address, zone ids apart', () => {
    fc.assert(
      fc.property(addressText, (text) => {
        expect(readAddress(text) !== null).toBe(isAddressByOracle(text));
      }),
      { numRuns: 5000 },
    );
  });

  test('agrees about slips of the pen', () => {
    fc.assert(
      fc.property(
        addressText,
        fc.nat(46),
        fc.constantFrom('', ':', '.', '0', 'f', '::', '%', ' ', '\0'),
        (text, at, slip) => {
          const slipped = text.slice(0, at) + slip + text.slice(at + 1);
          expect(readAddress(slipped) !== null).toBe(isAddressByOracle(slipped));
        },
      ),
      { numRuns: 5000 },
    );
  });

  test('reads the bytes that were written, and prints RFC 5952', () => {
    fc.assert(
      fc.property(addressBytes, (bytes) => {
        const address = fromBytes(bytes);
        const text = formatAddress(address);
        expect(readAddress(text)).toEqual(address);
        // The URL standard prints IPv6 as RFC 5952 does, without dotted ends
        if (address.family === 6) expect(new URL(`http://[${text}]/`).hostname).toBe(`[${text}]`);
      }),
      { numRuns: 3000 },
    );
  });

  test('has the value that the URL standard reads', () => {
    fc.assert(
      fc.property(addressText, (text) => {
        const address = readAddress(text);
        fc.pre(address?.family === 6);
        if (address !== null) expect(new URL(`http://[${text}]/`).hostname).toBe(`[${formatAddress(address)}]`);
      }),
      { numRuns: 3000 },
    );
  });
});

describe('parseAddress', () => {
  test.each([
    ['fe80::1%eth0', /zone id/],
    ['010.0.0.1', /leading zero/],
    ['10.0.0.0/8', /prefix/],
    ['example.org', /not an IP address/],
  ])('%s: says what is wrong', (text, message) => {
    expect(() => parseAddress(text)).toThrow(message);
    expect(() => parseAddress(text)).toThrow(FalcodropError);
  });

  test('prints no control characters of what it refuses', () => {
    const hostile = '\u001b[31m\u0007\u009b\u202e1.2.3.4';
    try {
      parseAddress(hostile);
      expect.unreachable();
    } catch (error) {
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
      expect(String(error)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
    }
  });
});

describe('fromBytes', () => {
  test.each([0, 1, 3, 5, 15, 17])('refuses %i bytes', (length) => {
    expect(() => fromBytes(new Uint8Array(length))).toThrow(RangeError);
  });

  test('an IPv4-mapped address is the IPv4 address', () => {
    const bytes = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1]);
    expect(isV4Mapped(bytes)).toBe(true);
    expect(fromBytes(bytes)).toEqual({ family: 4, bytes: Uint8Array.from([192, 0, 2, 1]) });
  });

  test.each([0, 5, 9, 10, 11])('one other bit in byte %i makes it IPv6', (at) => {
    const bytes = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1]);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    expect(fromBytes(bytes).family).toBe(6);
  });
});

test('order: IPv4 first, then by value', () => {
  const sorted = ['2.0.0.0', '10.0.0.0', '10.0.0.1', '::', '::1', '2001:db8::'];
  expect([...sorted].reverse().map(parseAddress).sort(compareAddresses).map(formatAddress)).toEqual(sorted);
});

test('the same address is of the same family and bytes', () => {
  expect(sameAddress(parseAddress('::ffff:1.2.3.4'), parseAddress('1.2.3.4'))).toBe(true);
  expect(sameAddress(parseAddress('::1.2.3.4'), parseAddress('1.2.3.4'))).toBe(false);
  expect(sameAddress(parseAddress('1.2.3.4'), parseAddress('1.2.3.5'))).toBe(false);
});

test('quote cuts, and makes direction marks and control characters visible', () => {
  expect(quote('a\u202eb\u0085\n')).toBe('"a\\u202eb\\u0085\\n"');
  expect(quote('x'.repeat(100))).toHaveLength(62);
});

function isAddressByOracle(text: string): boolean {
  return isIP(text) !== 0 && !text.includes('%');
}
