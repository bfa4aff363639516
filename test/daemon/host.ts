/** Facts of a host made up. */
import { parsePrefix } from '../../src/address/prefix.ts';
import { prefixSet } from '../../src/address/set.ts';
import type { HostFacts } from '../../src/judge/host-facts.ts';

export function hostOf(...own: string[]): HostFacts {
  const none = prefixSet([]);
  return {
    names: new Set(['edge']),
    own: prefixSet(own.map(parsePrefix)),
    containers: none,
    broadcasts: none,
    gateways: none,
    resolvers: none,
    sessions: none,
  };
}
