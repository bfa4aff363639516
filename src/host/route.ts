/** Routes of the kernel's dumps as this room reads them. */
import { maskPrefix, type Prefix } from '../address/prefix.ts';
import type { Route } from '../kernel/native.ts';

/** RTN_* of uapi/linux/rtnetlink.h. */
export const routeType = { unicast: 1, local: 2, broadcast: 3 } as const;

/** RT_TABLE_LOCAL. */
export const localTable = 255;

/** From 4 or 16 bytes in network order; IPv4-mapped becomes IPv4. */
export function prefixOf(bytes: Uint8Array, length: number): Prefix {
  return maskPrefix({ family: bytes.length === 4 ? 4 : 6, bytes }, length);
}

export function destinationOf(route: Route): Prefix {
  return prefixOf(route.destination, route.prefixLength);
}

/**
 * `default`, and the halves of it that VPNs set so as not to touch the default route (0.0.0.0/1; 2000::/3 is all of
 * IPv6's global unicast).
 */
export function isDefaultRoute(route: Route): boolean {
  return route.type === routeType.unicast && route.prefixLength <= (route.family === 4 ? 1 : 3);
}

/** Each prefix once, in the order of its first appearance. */
export function distinct(prefixes: Iterable<Prefix>): Prefix[] {
  const found = new Map<string, Prefix>();
  for (const prefix of prefixes) {
    const key = `${String.fromCharCode(...prefix.address.bytes)}/${prefix.length}`;
    if (!found.has(key)) found.set(key, prefix);
  }
  return [...found.values()];
}
