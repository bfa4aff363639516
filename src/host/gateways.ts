/** Gateways of every routing table, both families, all paths of a multipath route. */
import { fromBytes } from '../address/address.ts';
import { hostPrefix, type Prefix } from '../address/prefix.ts';
import type { Route } from '../kernel/native.ts';
import { routeType } from './route.ts';

/** An IPv4 route may have an IPv6 gateway (RTA_VIA). A router has 100 000 routes and few gateways: each is given once. */
export function gatewayPrefixes(routes: readonly Route[]): Prefix[] {
  const gateways = new Map<string, Prefix>();
  for (const route of routes) {
    if (route.type !== routeType.unicast) continue;
    for (const { gateway } of route.nextHops) {
      if (gateway === null) continue;
      const key = gateway.toString('latin1');
      if (!gateways.has(key)) gateways.set(key, hostPrefix(fromBytes(gateway)));
    }
  }
  return [...gateways.values()];
}
