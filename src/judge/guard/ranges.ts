/** Ranges that mean the same on every host. */
import type { Address } from '../../address/address.ts';
import { type Prefix, parsePrefix } from '../../address/prefix.ts';
import { type PrefixSet, prefixSet } from '../../address/set.ts';

const setOf = (...texts: string[]): PrefixSet => prefixSet(texts.map(parsePrefix));

/** RFC 1122 3.2.1.3, RFC 4291 2.5.3. */
export const loopback = setOf('127.0.0.0/8', '::1');

/** RFC 1122 3.2.1.3, RFC 4291 2.5.2: as a peer it means this host, as a source it is no address. */
export const unspecified = setOf('0.0.0.0', '::');

/** RFC 1918, CGNAT (RFC 6598), ULA (RFC 4193), and the site-local addresses that ULA replaced (RFC 3879). */
export const privateRanges = setOf(
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  'fc00::/7',
  'fec0::/10',
);

/** What no sender can be, or what is not one sender, each with its name. 169.254.169.254 is the clouds' metadata service. */
export const neverBlocked: readonly { readonly range: PrefixSet; readonly what: string }[] = [
  { range: unspecified, what: 'the unspecified address' },
  { range: setOf('0.0.0.0/8'), what: '"this network" (RFC 1122)' },
  { range: setOf('169.254.0.0/16', 'fe80::/10'), what: 'link-local' },
  { range: setOf('224.0.0.0/4', 'ff00::/8'), what: 'multicast' },
  { range: setOf('255.255.255.255'), what: 'the broadcast address' },
  { range: setOf('240.0.0.0/4'), what: 'reserved (RFC 1112)' },
];

/** The well-known NAT64 prefix (RFC 6052 2.1): to a host that has IPv6 only, all of IPv4 lies behind it. */
export const nat64: Prefix = parsePrefix('64:ff9b::/96');

/** RFC 5737: nobody's. Not RFC 3849's IPv6 prefix: of 2⁹⁶ addresses test alerts could fill a map. */
export const documentation = setOf('192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24');

export function isPrivate(address: Address): boolean {
  return privateRanges.covering(address) !== null;
}
