/**
 * Prefixes whose addresses run on this host: containers behind a bridge or a veth. A reverse shell in a container shows
 * the container's own address as its half of the connection, and no interface of the host has it.
 */
import { overlaps, type Prefix, parsePrefix } from '../address/prefix.ts';
import type { Link, Route } from '../kernel/native.ts';
import { destinationOf, distinct, isDefaultRoute, localTable, routeType } from './route.ts';

/** ARPHRD_LOOPBACK. */
const loopbackType = 772;

/** On every interface, and in no network alone: a neighbour's link-local address is not a container's. */
const linkLocal: readonly Prefix[] = ['169.254.0.0/16', 'fe80::/10'].map(parsePrefix);

/**
 * Directly connected (no gateway) on a bridge or veth that carries no default route and is not attached by us; a bridge
 * besides has no port that is physical or attached. So neither `br0` with the server's network card in it nor the veth
 * that is the uplink of a host in a namespace counts.
 */
export function containerPrefixes(
  links: readonly Link[],
  routes: readonly Route[],
  attached: ReadonlySet<number>,
): Prefix[] {
  const uplinks = new Set<number>();
  for (const route of routes) {
    if (isDefaultRoute(route)) for (const hop of route.nextHops) uplinks.add(hop.ifindex);
  }
  const inner = new Set<number>();
  for (const link of links) {
    if (link.kind !== 'bridge' && link.kind !== 'veth') continue;
    if (uplinks.has(link.ifindex) || attached.has(link.ifindex)) continue;
    if (link.kind === 'bridge' && portsOf(link, links).some((port) => leadsOutside(port, links, attached))) continue;
    inner.add(link.ifindex);
  }
  if (inner.size === 0) return [];

  const prefixes: Prefix[] = [];
  for (const route of routes) {
    // the local table has multicast and broadcast routes, and own addresses
    if (route.type !== routeType.unicast || route.table === localTable) continue;
    if (!route.nextHops.some((hop) => hop.gateway === null && inner.has(hop.ifindex))) continue;
    const prefix = destinationOf(route);
    if (!linkLocal.some((range) => overlaps(range, prefix))) prefixes.push(prefix);
  }
  return distinct(prefixes);
}

export function portsOf(link: Link, links: readonly Link[]): Link[] {
  return links.filter((port) => port.master === link.ifindex);
}

/** Physical or attached, or stacked (bond, VLAN, bridge) on what is. A veth's other end is not below it. */
function leadsOutside(link: Link, links: readonly Link[], attached: ReadonlySet<number>): boolean {
  return [link, ...below(link, links)].some(
    ({ ifindex, kind, type }) => attached.has(ifindex) || (kind === null && type !== loopbackType),
  );
}

/** Devices that carry this one's packets: a VLAN's lower device, a bond's or bridge's ports, and theirs. */
export function below(link: Link, links: readonly Link[]): Link[] {
  const found = new Map<number, Link>();
  const visit = (upper: Link): void => {
    const lower = upper.kind === 'veth' || upper.lowerElsewhere ? 0 : upper.lower;
    for (const candidate of links) {
      if (candidate.ifindex !== lower && candidate.master !== upper.ifindex) continue;
      if (candidate.ifindex === link.ifindex || found.has(candidate.ifindex)) continue;
      found.set(candidate.ifindex, candidate);
      visit(candidate);
    }
  };
  visit(link);
  return [...found.values()];
}
