/** Who wishes what, and where it is written down. The maps hold only the union of the claims. */
import type { Ports } from '../address/port.ts';
import type { Prefix } from '../address/prefix.ts';
import type { OwnerKind } from '../kernel/layout.ts';
import type { Cause, CauseId, Claim, LedgerEvent, Outcome } from './ledger/record.ts';

export type Owner = 'hand' | `policy:${string}` | `feed:${string}`;

/** One owner's wish about one target. */
export interface Wish {
  readonly target: Prefix;
  readonly owner: Owner;
  /** enforce: dropped; monitor: counted and let through. */
  readonly mode: 'enforce' | 'monitor';
  /** From now on; null = for ever. */
  readonly seconds: number | null;
  /** The local ports it is limited to; every port when absent. */
  readonly ports?: Ports;
  /** Of a wish to be confirmed: the end that it gets then, as `seconds` from now. */
  readonly wishedSeconds?: number | null;
  readonly cause: Cause | CauseId;
}

/** The ledger as the block list sees it. */
export interface Book {
  /** Ledger milliseconds. */
  now(): number;
  /** On the disk when it resolves. Outcomes in the order of the events; none when nothing is kept. */
  record(events: readonly LedgerEvent[]): Promise<readonly Outcome[]> | readonly Outcome[];
  /**
   * In two steps, for those who write under the lock: entered, they are seen by all in this order; on the disk they are only
   * after {@link sync}, which waits for it. Absent where `record` does not wait on the caller's thread.
   */
  readonly enter?: (events: readonly LedgerEvent[]) => readonly Outcome[];
  /** All that was entered is on the disk when it returns; nothing is acknowledged before. */
  readonly sync?: () => void;
  /** Why nothing can be written now; null when it can. */
  readonly trouble: Error | null;
  claimsOf(target: Prefix): readonly Claim[];
}

/** Keeps nothing: without a ledger the maps are all there is. */
export const noBook: Book = { now: () => 0, record: () => [], trouble: null, claimsOf: () => [] };

export function kindOf(owner: Owner): OwnerKind {
  return owner === 'hand' ? 'hand' : owner.startsWith('policy:') ? 'policy' : 'feed';
}
