/** A block as people see it: the kernel's value with its drop-clock ends as remaining time. */
import type { Prefix } from '../address/prefix.ts';
import { secondsLeft } from '../kernel/clock.ts';
import { type BlockValue, type OwnerKind, ownerKinds } from '../kernel/layout.ts';

export interface Entry {
  readonly target: Prefix;
  /** What it does now. `ended`: nothing any more, until it is reaped. */
  readonly state: 'enforce' | 'monitor' | 'ended';
  /** Seconds it goes on dropping: 0 = it does not, null = for ever. */
  readonly dropSeconds: number | null;
  /** Seconds it goes on counting without dropping; overlaps the former. */
  readonly countSeconds: number | null;
  readonly owners: readonly OwnerKind[];
  /** Row of the ports it is limited to (kernel/scopes.ts `portsAt`); 0 = every port. */
  readonly scope: number;
  readonly packets: number;
  readonly bytes: number;
  /** Seconds since its last packet; null = none yet. */
  readonly lastSeenSecondsAgo: number | null;
}

export function entryOf(target: Prefix, value: BlockValue, now: bigint): Entry {
  const dropSeconds = secondsLeft(value.dropUntil, now);
  const countSeconds = secondsLeft(value.countUntil, now);
  return {
    target,
    state: dropSeconds !== 0 ? 'enforce' : countSeconds !== 0 ? 'monitor' : 'ended',
    dropSeconds,
    countSeconds,
    owners: ownerKinds(value.owners),
    scope: value.scope,
    packets: Number(value.packets),
    bytes: Number(value.bytes),
    // The coarse clock of the kernel may be a tick behind ours, never ahead by more than rounding.
    lastSeenSecondsAgo: value.lastSeen === 0n ? null : Math.max(0, Number(now - value.lastSeen) / 1e9),
  };
}

/** Seconds until it does nothing any more: null = never ends. */
export function secondsToEnd(entry: Pick<Entry, 'dropSeconds' | 'countSeconds'>): number | null {
  if (entry.dropSeconds === null || entry.countSeconds === null) return null;
  return Math.max(entry.dropSeconds, entry.countSeconds);
}
