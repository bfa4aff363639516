import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { coversPorts, everyPort, formatPorts, isSamePorts, joinPorts, parsePorts } from '../../src/address/port.ts';

describe('ports', () => {
  test.each([
    ['tcp/22', 'tcp/22'],
    ['TCP/22, udp/53', 'tcp/22,udp/53'],
    ['udp/53,tcp/2222,tcp/22,tcp/22', 'tcp/22,tcp/2222,udp/53'],
    ['sctp/0,dccp/65535,udplite/7', 'dccp/65535,sctp/0,udplite/7'],
  ])('%s', (text, canonical) => {
    expect(formatPorts(parsePorts(text))).toBe(canonical);
  });

  test.each([
    '',
    '22',
    'tcp',
    'tcp/',
    'tcp/65536',
    'tcp/-1',
    'tcp/22,',
    'icmp/8',
    'tcp/22-30',
    'tcp:22',
    'toString/1',
    `tcp/${'2'.repeat(5000)}`,
    Array.from({ length: 17 }, (_, n) => `tcp/${n}`).join(),
  ])('%j is refused', (text) => {
    expect(() => parsePorts(text)).toThrow(expect.objectContaining({ code: 'ports_invalid' }));
    try {
      parsePorts(text);
    } catch (error) {
      expect(String(error).length).toBeLessThan(200);
    }
  });

  const some = fc
    .uniqueArray(fc.tuple(fc.constantFrom('tcp', 'udp', 'sctp'), fc.nat({ max: 65_535 })), {
      minLength: 1,
      maxLength: 16,
      selector: ([name, number]) => `${name}/${number}`,
    })
    .map((all) => parsePorts(all.map(([name, number]) => `${name}/${number}`).join()));
  const any = fc.oneof(fc.constant(everyPort), some);

  test('are what they say, and join as sets do', () => {
    fc.assert(
      fc.property(some, any, any, (a, b, c) => {
        expect(parsePorts(formatPorts(a))).toEqual(a);
        expect(joinPorts(a, b)).toEqual(joinPorts(b, a));
        expect(joinPorts(joinPorts(a, b), c)).toEqual(joinPorts(a, joinPorts(b, c)));
        expect(joinPorts(a, a)).toEqual(a);
        expect(joinPorts(a, everyPort)).toEqual(everyPort);
        expect(coversPorts(joinPorts(a, b), a)).toBe(true);
        expect(coversPorts(a, everyPort)).toBe(false);
        expect(isSamePorts(a, b)).toBe(coversPorts(a, b) && coversPorts(b, a));
      }),
    );
  });
});
