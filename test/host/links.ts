/** Dumps as the addon gives them, written down short. */
import { parseAddress } from '../../src/address/address.ts';
import { formatPrefix, type Prefix, parsePrefix } from '../../src/address/prefix.ts';
import type { InterfaceAddress, Link, Route } from '../../src/kernel/native.ts';

export function link(ifindex: number, name: string, kind: string | null, rest: Partial<Link> = {}): Link {
  return {
    ifindex,
    name,
    kind,
    flags: 1,
    type: 1,
    mtu: 1500,
    master: 0,
    lower: 0,
    lowerElsewhere: false,
    txQueues: 1,
    rxQueues: 1,
    xdp: { mode: 'none', programId: 0 },
    ...rest,
  };
}

export const lo: Link = link(1, 'lo', null, { type: 772, flags: 9 });

const types = { unicast: 1, local: 2, broadcast: 3, anycast: 4, multicast: 5, blackhole: 6 } as const;

/** `via` a gateway or null, an ifindex; several for a multipath route. "default" needs its family. */
export function route(
  destination: string,
  hops: readonly (readonly [via: string | null, ifindex: number])[],
  { type = 'unicast', table = 254 }: { type?: keyof typeof types; table?: number } = {},
): Route {
  const prefix = parsePrefix(destination);
  return {
    family: prefix.address.family,
    type: types[type],
    table,
    destination: Buffer.from(prefix.address.bytes),
    prefixLength: prefix.length,
    scope: hops.some(([via]) => via !== null) ? 0 : 253,
    nextHops: hops.map(([via, ifindex]) => ({
      ifindex,
      gateway: via === null ? null : Buffer.from(parseAddress(via).bytes),
    })),
  };
}

export const local = (prefix: string, ifindex = 1, table = 255): Route =>
  route(prefix, [[null, ifindex]], { type: 'local', table });

export function address(text: string, ifindex: number, prefixLength = 24): InterfaceAddress {
  const { family, bytes } = parseAddress(text);
  return { ifindex, family, address: Buffer.from(bytes), prefixLength, scope: 0 };
}

export const texts = (prefixes: readonly Prefix[]): string[] => prefixes.map(formatPrefix).toSorted();
