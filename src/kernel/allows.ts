/** What root allows: the tries `allowed_cidr_v4` and `_v6`, looked at. An allow outranks every block. */
import { maskPrefix, type Prefix } from '../address/prefix.ts';
import { monotonicNs, secondsLeft } from './clock.ts';
import { layout } from './layout.ts';
import type { PinnedSet } from './set.ts';

export interface Allow {
  readonly prefix: Prefix;
  /** null = for ever. */
  readonly seconds: number | null;
}

const { until, prefix_length } = layout.allow.members;

/**
 * The live allows that hold `target` whole, the longest first. Their ends are CLOCK_MONOTONIC without the skew. Throws
 * `not_permitted` for who may not read the tries (root and the service's group may).
 */
export function coveringAllows(set: PinnedSet, target: Prefix, now: bigint = monotonicNs()): Allow[] {
  const { address } = target;
  const trie = set.map(address.family === 4 ? 'allowed_cidr_v4' : 'allowed_cidr_v6', true);
  const found: Allow[] = [];
  for (let length = target.length; length >= 0; ) {
    const key = Buffer.alloc(4 + address.bytes.length);
    key.writeUInt32LE(length, 0);
    key.set(address.bytes, 4);
    const value = trie.lookup(key);
    if (value === null) break;
    const at = Math.min(value.readUInt8(prefix_length[0]), length);
    const seconds = secondsLeft(value.readBigUInt64LE(until[0]), now);
    if (seconds !== 0) found.push({ prefix: maskPrefix(address, at), seconds });
    length = at - 1;
  }
  return found;
}
