/** What the judge must know of this host; `host/` fills it, `replay --own` makes one up. */
import type { PrefixSet } from '../address/set.ts';

export interface HostFacts {
  /** Names and aliases this host goes by, lower case; null = every hostname is ours (`replay --own`). */
  readonly names: ReadonlySet<string> | null;
  /** Every address in the kernel's local routing tables (AnyIP ranges too), loopback, the unspecified addresses. */
  readonly own: PrefixSet;
  /** Directly connected prefixes on container bridges and veths: whatever lies in them runs here. */
  readonly containers: PrefixSet;
  /** RTN_BROADCAST addresses of this host's networks. */
  readonly broadcasts: PrefixSet;
  readonly gateways: PrefixSet;
  readonly resolvers: PrefixSet;
  /** Remote hosts of authenticated inbound SSH sessions. */
  readonly sessions: PrefixSet;
}
