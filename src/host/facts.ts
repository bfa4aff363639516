/** This host as the judge knows it: each fact derived by a plain function from what the kernel and a few files say. */
import type { Prefix } from '../address/prefix.ts';
import { prefixSet } from '../address/set.ts';
import type { HostFacts } from '../judge/host-facts.ts';
import { type Dumps, readDumps } from './carrier.ts';
import { containerPrefixes } from './containers.ts';
import { gatewayPrefixes } from './gateways.ts';
import { hostNames } from './names.ts';
import { broadcastPrefixes, ownPrefixes } from './own.ts';
import { readResolvers } from './resolvers.ts';
import { readSessions } from './sessions.ts';

export interface HostReading extends HostFacts {
  /** Remote hosts of SSH sessions that are recorded by name: they are not protected, and somebody should know. */
  readonly unresolvable: readonly string[];
}

/** What comes from the kernel over netlink. */
export interface NetworkFacts {
  readonly own: readonly Prefix[];
  readonly containers: readonly Prefix[];
  readonly broadcasts: readonly Prefix[];
  readonly gateways: readonly Prefix[];
}

/** What comes from files. */
export interface FileFacts {
  readonly resolvers: readonly Prefix[];
  readonly sessions: readonly Prefix[];
  readonly unresolvable: readonly string[];
}

export interface HostOptions {
  /** Interfaces that falcodrop is attached to: they lead outside. */
  readonly attachedIfindexes: Iterable<number>;
  /** Further names of this host (`host_aliases`). */
  readonly aliases: readonly string[];
  /** Instead of this host's names; null = every name is ours. */
  readonly names?: ReadonlySet<string> | null;
  /** Before every path that is read; for tests. */
  readonly root?: string;
}

/** Reads everything once. Throws `addon_missing`, or a NativeError when the kernel refuses a dump. */
export function readHostFacts(options: HostOptions): HostReading {
  const network = networkFacts(readDumps(), new Set(options.attachedIfindexes));
  return hostReading(
    network,
    readFiles(options.root),
    options.names === undefined ? hostNames(options.aliases) : options.names,
  );
}

export function networkFacts({ links, addresses, routes }: Dumps, attached: ReadonlySet<number>): NetworkFacts {
  return {
    own: ownPrefixes(addresses, routes),
    containers: containerPrefixes(links, routes, attached),
    broadcasts: broadcastPrefixes(routes),
    gateways: gatewayPrefixes(routes),
  };
}

export function readFiles(root = ''): FileFacts {
  const { peers, unresolvable } = readSessions(root);
  return { resolvers: readResolvers(root), sessions: peers, unresolvable };
}

export function hostReading(network: NetworkFacts, files: FileFacts, names: ReadonlySet<string> | null): HostReading {
  return {
    names,
    own: prefixSet(network.own),
    containers: prefixSet(network.containers),
    broadcasts: prefixSet(network.broadcasts),
    gateways: prefixSet(network.gateways),
    resolvers: prefixSet(files.resolvers),
    sessions: prefixSet(files.sessions),
    unresolvable: files.unresolvable,
  };
}
