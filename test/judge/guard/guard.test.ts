import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bitsOf, fromBytes, parseAddress } from '../../../src/address/address.ts';
import { covers, maskPrefix, overlaps, parsePrefix } from '../../../src/address/prefix.ts';
import { defaultWidest, type GuardSettings, guard, type RefusalReason } from '../../../src/judge/guard/guard.ts';
import { addressBytes } from '../../address/arbitrary.ts';
import { bareHost, edge, setOf } from '../host.ts';

const settings: GuardSettings = {
  allowPrivate: false,
  protected: setOf('198.51.100.0/24', '2001:db8:aaaa::/48'),
  widest: defaultWidest,
};
const caller = parseAddress('192.0.2.201');

describe('the edge host', () => {
  test.each<[string, RefusalReason]>([
    // this host, and what runs on it
    ['203.0.113.10', 'own_address'],
    ['203.0.113.0/28', 'own_address'],
    ['2001:db8:1::/48', 'own_address'],
    ['::ffff:203.0.113.10', 'own_address'],
    ['10.9.0.10', 'own_address'],
    ['10.0.0.0/8', 'own_address'],
    ['172.17.0.2', 'own_address'],
    ['172.17.5.0/24', 'own_address'],
    ['172.16.0.0/12', 'own_address'],
    ['fd00:17::2', 'own_address'],
    ['fe80::10', 'own_address'],
    ['127.0.0.1', 'own_address'],
    ['127.255.255.255', 'own_address'],
    ['127.0.0.0/8', 'own_address'],
    ['::1', 'own_address'],
    ['0.0.0.0/0', 'own_address'],
    ['::/0', 'own_address'],
    // life-lines, also where the range alone would be a reason
    ['192.0.2.201', 'ssh_session'],
    ['192.0.2.0/24', 'ssh_session'],
    ['192.0.2.200', 'ssh_session'],
    ['203.0.113.1', 'gateway'],
    ['203.0.113.0/30', 'gateway'],
    ['fe80::1', 'gateway'],
    ['9.9.9.9', 'resolver'],
    ['9.9.9.0/24', 'resolver'],
    ['2620:fe::/48', 'resolver'],
    ['10.9.0.53', 'resolver'],
    ['198.51.100.7', 'protected'],
    ['198.51.100.0/25', 'protected'],
    ['198.51.0.0/16', 'protected'],
    ['2001:db8:aaaa:1::1', 'protected'],
    // what is nobody's, or everybody's
    ['0.0.0.0', 'never_block'],
    ['::', 'never_block'],
    ['0.0.0.0/8', 'never_block'],
    ['0.1.2.3', 'never_block'],
    ['203.0.113.255', 'never_block'],
    ['203.0.113.128/25', 'never_block'],
    ['169.254.169.254', 'never_block'],
    ['169.254.0.0/16', 'never_block'],
    ['fe80::2', 'never_block'],
    ['224.0.0.1', 'never_block'],
    ['239.255.255.255', 'never_block'],
    ['224.0.0.0/4', 'never_block'],
    ['ff02::1', 'never_block'],
    ['240.0.0.1', 'never_block'],
    ['255.255.255.255', 'never_block'],
    // private
    ['10.1.2.3', 'private'],
    ['10.1.0.0/16', 'private'],
    ['172.16.0.1', 'private'],
    ['172.31.255.255', 'private'],
    ['192.168.0.0/16', 'private'],
    ['100.64.0.1', 'private'],
    ['100.127.255.255', 'private'],
    ['fc00::1', 'private'],
    ['fdff::1', 'private'],
    ['fec0::1', 'private'],
    // too wide
    ['64.0.0.0/6', 'too_wide'],
    ['16.0.0.0/7', 'too_wide'],
    ['2400::/12', 'too_wide'],
    ['2a00::/31', 'too_wide'],
    // behind NAT64
    ['64:ff9b::203.0.113.10', 'own_address'],
    ['64:ff9b::127.0.0.1', 'own_address'],
    ['64:ff9b::9.9.9.9', 'resolver'],
    ['64:ff9b::9.9.9.0/120', 'resolver'],
    ['64:ff9b::10.1.2.3', 'private'],
    ['64:ff9b::/96', 'own_address'],
    ['64:ff9b::/64', 'own_address'],
    ['64:ff9b::/48', 'own_address'],
    ['64:ff9b::40.0.0.0/102', 'too_wide'],
  ])('%s is refused: %s', (target, reason) => {
    expect(guard(parsePrefix(target), edge, settings, caller)?.reason).toBe(reason);
  });

  test.each([
    '203.0.113.66',
    '203.0.113.64/26',
    '203.0.113.254',
    '198.18.77.66',
    '8.0.0.0/8',
    '1.0.0.0',
    '1.1.1.1',
    '126.255.255.255',
    '128.0.0.0',
    '172.15.255.255',
    '172.32.0.0',
    '192.167.255.255',
    '192.169.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '169.253.255.255',
    '169.255.0.0',
    '223.255.255.255',
    '::2',
    '2001:db8:1::66',
    '2001:db9::/33',
    '2400::/32',
    '64:ff9b::203.0.113.66',
    '64:ff9b::8.8.8.0/120',
    '64:ff9a::1',
  ])('%s may be blocked', (target) => {
    expect(guard(parsePrefix(target), edge, settings, caller)).toBeNull();
  });

  test('only loopback cannot be forced', () => {
    const forcible = (target: string) => guard(parsePrefix(target), edge, settings, caller)?.forcible;
    for (const target of ['127.0.0.1', '::1', '127.0.0.0/9', '64.0.0.0/2', '0.0.0.0/0', '::/0']) {
      expect(forcible(target), target).toBe(false);
    }
    for (const target of [
      '203.0.113.10',
      '203.0.113.1',
      '192.0.2.201',
      '10.1.2.3',
      '0.0.0.0',
      '64:ff9b::7f00:1',
      '16.0.0.0/7',
    ]) {
      expect(forcible(target), target).toBe(true);
    }
  });

  test.each([
    ['203.0.113.10', '203.0.113.10 is an address of this host'],
    ['203.0.113.0/28', '203.0.113.0/28 covers 203.0.113.10, an address of this host'],
    ['172.17.0.2', "172.17.0.2 lies in 172.17.0.0/16, a network of this host's containers"],
    ['203.0.113.1', "203.0.113.1 is this host's gateway"],
    ['9.9.9.9', '9.9.9.9 is a name server this host asks'],
    ['192.0.2.201', '192.0.2.201 is where your own SSH session comes from'],
    ['192.0.2.200', '192.0.2.200 is where somebody is logged in from over SSH'],
    ['198.51.100.7', '198.51.100.7 lies in 198.51.100.0/24, protected by the configuration'],
    ['169.254.169.254', '169.254.169.254 lies in 169.254.0.0/16, link-local'],
    ['10.1.2.3', '10.1.2.3 lies in 10.0.0.0/8, a private range'],
    ['16.0.0.0/7', '16.0.0.0/7 is wider than /8'],
    [
      '64:ff9b::9.9.9.9',
      '64:ff9b::909:909 stands for 9.9.9.9 behind NAT64, and 9.9.9.9 is a name server this host asks',
    ],
  ])('%s: %s', (target, detail) => {
    expect(guard(parsePrefix(target), edge, settings, caller)?.detail).toBe(detail);
  });
});

test('private ranges where they are allowed, life-lines in them still not', () => {
  const lax = { ...settings, allowPrivate: true };
  expect(guard(parsePrefix('10.1.2.3'), edge, lax, null)).toBeNull();
  expect(guard(parsePrefix('fd12::/48'), edge, lax, null)).toBeNull();
  expect(guard(parsePrefix('10.9.0.53'), edge, lax, null)?.reason).toBe('resolver');
  expect(guard(parsePrefix('10.9.0.0/24'), edge, lax, null)?.reason).toBe('own_address');
  expect(guard(parsePrefix('172.17.0.9'), edge, lax, null)?.reason).toBe('own_address');
  expect(guard(parsePrefix('169.254.169.254'), edge, lax, null)?.reason).toBe('never_block');
});

test('the widest is a setting', () => {
  const narrow = { ...settings, widest: { 4: 24, 6: 64 } };
  expect(guard(parsePrefix('8.8.0.0/16'), edge, narrow, null)?.reason).toBe('too_wide');
  expect(guard(parsePrefix('8.8.8.0/24'), edge, narrow, null)).toBeNull();
  expect(guard(parsePrefix('2400::/63'), edge, narrow, null)?.reason).toBe('too_wide');
  const wide = { ...settings, widest: { 4: 0, 6: 0 } };
  expect(guard(parsePrefix('16.0.0.0/4'), bareHost, wide, null)).toBeNull();
});

test('the daemon has no caller: what only the caller makes special may be blocked', () => {
  expect(guard(parsePrefix('192.0.2.201'), edge, settings, null)).toBeNull();
});

test('whatever is let through shares no address with anything protected', () => {
  const protectedPrefixes = [
    edge.own,
    edge.containers,
    edge.broadcasts,
    edge.gateways,
    edge.resolvers,
    edge.sessions,
    settings.protected,
    setOf('127.0.0.0/8', '::1', '224.0.0.0/3', 'ff00::/8', 'fe80::/10', '169.254.0.0/16', '0.0.0.0/8'),
    setOf('10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'),
  ].flatMap(({ prefixes }) => prefixes);
  const near = fc.constantFrom(...protectedPrefixes.map(({ address }) => address));
  const any = addressBytes.map(fromBytes);
  fc.assert(
    fc.property(fc.oneof(near, any), fc.nat(128), (address, length) => {
      const target = maskPrefix(address, bitsOf(address.family) - (length % (bitsOf(address.family) + 1)));
      const refusal = guard(target, edge, settings, null);
      const touched = protectedPrefixes.filter((prefix) => overlaps(prefix, target));
      if (refusal === null) expect(touched).toEqual([]);
      else expect(refusal.detail).toMatch(/^\S+ \w/);
      if (touched.length > 0) expect(refusal).not.toBeNull();
    }),
    { numRuns: 3000 },
  );
});

test('what holds a refused target is refused too', () => {
  fc.assert(
    fc.property(addressBytes, fc.nat(128), fc.nat(128), (bytes, a, b) => {
      const address = fromBytes(bytes);
      const bits = bitsOf(address.family);
      const inner = maskPrefix(address, Math.max(a, b) % (bits + 1));
      const outer = maskPrefix(address, Math.min(Math.min(a, b) % (bits + 1), inner.length));
      expect(covers(outer, inner)).toBe(true);
      if (guard(inner, edge, settings, null) !== null) expect(guard(outer, edge, settings, null)).not.toBeNull();
    }),
  );
});
