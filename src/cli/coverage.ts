/** Whether packets to each interface that matters meet the XDP program: those with a global address or a default route. */

import type { Dumps } from '../host/carrier.ts';
import { below, containerPrefixes } from '../host/containers.ts';
import { isDefaultRoute } from '../host/route.ts';
import type { Link } from '../kernel/native.ts';

export type CoverageReason =
  | 'attached'
  /** The device below it (a VLAN's card) or all its ports (a bridge, a bond). */
  | 'lower_attached'
  /** The bond or bridge it is a port of. */
  | 'master_attached'
  /** Only containers of this host are behind it. */
  | 'containers'
  /** Some ports are attached and some are not. */
  | 'ports_partly_attached'
  | 'no_ethernet_header'
  | 'not_attached';

export interface Coverage {
  readonly name: string;
  readonly covered: boolean;
  readonly reason: CoverageReason;
  /** What it is covered by, or what to attach to instead; null when that is the interface itself, or not known. */
  readonly through: readonly string[];
}

/** Bits of uapi/linux/if.h. */
const iffLoopback = 8;

/** ARPHRD_ETHER. */
const ethernet = 1;

/** RT_SCOPE_UNIVERSE. */
const globalScope = 0;

export function coverage({ links, addresses, routes }: Dumps, attached: ReadonlySet<number>): Coverage[] {
  const concerned = new Set<number>();
  for (const { ifindex, scope } of addresses) if (scope === globalScope) concerned.add(ifindex);
  for (const route of routes) if (isDefaultRoute(route)) for (const hop of route.nextHops) concerned.add(hop.ifindex);

  return links
    .filter((link) => concerned.has(link.ifindex) && (link.flags & iffLoopback) === 0)
    .map((link) => {
      const say = (covered: boolean, reason: CoverageReason, through: readonly Link[] = []): Coverage => ({
        name: link.name,
        covered,
        reason,
        through: through.map(({ name }) => name),
      });
      if (attached.has(link.ifindex)) return say(true, 'attached');
      const lower = lowestOf(link, links, attached);
      const covering = lower.filter((port) => isCovered(port, links, attached));
      if (lower.length > 0 && covering.length === lower.length) return say(true, 'lower_attached', covering);
      const master = links.find((candidate) => candidate.ifindex === link.master);
      if (master !== undefined && attached.has(master.ifindex)) return say(true, 'master_attached', [master]);
      if (covering.length > 0) {
        return say(
          false,
          'ports_partly_attached',
          lower.filter((port) => !covering.includes(port)),
        );
      }
      if (isContainers(link, { links, addresses, routes }, attached)) return say(false, 'containers');
      if (link.type !== ethernet) return say(false, 'no_ethernet_header', lower);
      return say(false, 'not_attached', lower);
    });
}

/** Ports to containers and virtual machines on this host: nobody outside comes in by them. */
const inward: ReadonlySet<string> = new Set(['veth', 'tun', 'macvtap', 'netkit']);

/** The devices at the bottom of a stack that packets from outside come in by: physical ports, and what is attached. */
function lowestOf(link: Link, links: readonly Link[], attached: ReadonlySet<number>): Link[] {
  return below(link, links).filter(
    (candidate) =>
      below(candidate, links).length === 0 && (attached.has(candidate.ifindex) || !inward.has(candidate.kind ?? '')),
  );
}

/** Itself, or something between it and the top. */
function isCovered(port: Link, links: readonly Link[], attached: ReadonlySet<number>): boolean {
  if (attached.has(port.ifindex)) return true;
  const master = links.find((candidate) => candidate.ifindex === port.master);
  return master !== undefined && attached.has(master.ifindex);
}

function isContainers(link: Link, { links, routes }: Dumps, attached: ReadonlySet<number>): boolean {
  const its = routes.filter(
    (route) => isDefaultRoute(route) || route.nextHops.some((hop) => hop.ifindex === link.ifindex),
  );
  return containerPrefixes(links, its, attached).length > 0;
}
