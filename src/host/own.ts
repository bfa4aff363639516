/** This host's own addresses and its networks' broadcast addresses, from the kernel's routing tables. */
import { type Prefix, parsePrefix } from '../address/prefix.ts';
import type { InterfaceAddress, Route } from '../kernel/native.ts';
import { destinationOf, distinct, prefixOf, routeType } from './route.ts';

/** Ours on every host, also while `lo` is down and has no routes. */
const always: readonly Prefix[] = ['127.0.0.0/8', '::1', '0.0.0.0', '::'].map(parsePrefix);

/**
 * A local route as wide as this is no set of addresses: transparent proxies send what a mark selects through
 * `local default dev lo` in a table of its own. Taken at its word the whole Internet would be this host, and nothing
 * could ever be blocked.
 */
const proxyLength = 1;

/**
 * Every local route of every table: AnyIP ranges (`local 198.18.0.0/24 dev lo`) and addresses of interfaces without
 * carrier are in there and nowhere else. Addresses that are still tentative have no local route yet, so the interfaces'
 * own list is taken too.
 */
export function ownPrefixes(addresses: readonly InterfaceAddress[], routes: readonly Route[]): Prefix[] {
  const local = routes.filter((route) => route.type === routeType.local && route.prefixLength > proxyLength);
  const assigned = addresses.map(({ address }) => prefixOf(address, address.length * 8));
  return distinct([...always, ...local.map(destinationOf), ...assigned]);
}

export function broadcastPrefixes(routes: readonly Route[]): Prefix[] {
  return distinct(routes.filter((route) => route.type === routeType.broadcast).map(destinationOf));
}
