/** The per-CPU totals: every packet seen, by verdict and reason, a slot an interface. */
import { possibleCpus, u32 } from './attach.ts';
import { count_kind, layout, MAX_SLOTS } from './layout.ts';
import type { PinnedSet } from './set.ts';

export type CountKind = Exclude<keyof typeof count_kind, 'COUNT_KINDS'>;

export interface Total {
  readonly packets: number;
  readonly bytes: number;
}

export const countKinds = Object.keys(count_kind).filter((kind) => kind !== 'COUNT_KINDS') as CountKind[];

/** Sums over CPUs. Bytes are those of the frames, Ethernet header included. */
export function readCounters(set: PinnedSet, slot: number): Record<CountKind, Total> {
  if (slot < 0 || slot >= MAX_SLOTS) throw new RangeError(`no slot ${slot}`);
  const counters = set.map('counters', true);
  const size = layout.total.size;
  const totals = countKinds.map((kind): [CountKind, Total] => {
    const values = counters.lookup(u32(slot * count_kind.COUNT_KINDS + count_kind[kind]));
    let packets = 0n;
    let bytes = 0n;
    for (let cpu = 0; values !== null && cpu < possibleCpus(); cpu++) {
      packets += values.readBigUInt64LE(cpu * size + layout.total.members.packets[0]);
      bytes += values.readBigUInt64LE(cpu * size + layout.total.members.bytes[0]);
    }
    return [kind, { packets: Number(packets), bytes: Number(bytes) }];
  });
  return Object.fromEntries(totals) as Record<CountKind, Total>;
}
