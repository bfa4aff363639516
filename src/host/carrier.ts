/** Which interface packets from an address come in by, as far as the routing tables tell. */
import type { Address } from '../address/address.ts';
import { contains, type Prefix } from '../address/prefix.ts';
import { type InterfaceAddress, type Link, native, type Route } from '../kernel/native.ts';
import type { Caller } from './caller.ts';
import { below } from './containers.ts';
import { destinationOf, prefixOf, routeType } from './route.ts';

export interface Dumps {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  readonly routes: readonly Route[];
}

export function readDumps(): Dumps {
  const { netlink } = native();
  return { links: netlink.links(), addresses: netlink.addresses(), routes: netlink.routes() };
}

/** IFF_LOOPBACK of uapi/linux/if.h. */
const iffLoopback = 8;

/** RT_TABLE_MAIN. */
const mainTable = 254;

/**
 * An own address: the interface that has it (null on loopback: a service address says nothing of the way in). Another:
 * the interface of the longest route to it, the main table before others. Null when there is none.
 */
export function interfaceOf(address: Address, dumps: Dumps = readDumps()): Link | null {
  const linkOf = (ifindex: number | undefined): Link | null =>
    dumps.links.find((link) => link.ifindex === ifindex) ?? null;
  const own = dumps.addresses.find((entry) => contains(prefixOf(entry.address, entry.address.length * 8), address));
  if (own !== undefined) {
    const link = linkOf(own.ifindex);
    return link === null || (link.flags & iffLoopback) !== 0 ? null : link;
  }
  let best: { readonly route: Route; readonly prefix: Prefix } | null = null;
  for (const route of dumps.routes) {
    if (route.type !== routeType.unicast || route.nextHops.length === 0) continue;
    const prefix = destinationOf(route);
    if (!contains(prefix, address)) continue;
    if (best === null || rank(route) > rank(best.route)) best = { route, prefix };
  }
  return linkOf(best?.route.nextHops[0]?.ifindex);
}

function rank(route: Route): number {
  return (route.table === mainTable ? 1000 : 0) + route.prefixLength;
}

/**
 * Every interface at which attaching or detaching may touch the caller's SSH session: those of its two addresses (the way
 * in and the way out may differ), and the devices below them (the card under a VLAN, the ports of a bridge or bond).
 */
export function sessionInterfaces(caller: Caller, dumps: Dumps = readDumps()): Link[] {
  const found = new Map<number, Link>();
  for (const address of [caller.server, caller.client]) {
    const link = interfaceOf(address, dumps);
    if (link === null) continue;
    for (const carrier of [link, ...below(link, dumps.links)]) found.set(carrier.ifindex, carrier);
  }
  return [...found.values()];
}
