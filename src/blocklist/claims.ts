/** Who wishes what. The ledger will keep claims; the maps hold only their union. */
import type { Prefix } from '../address/prefix.ts';
import type { OwnerKind } from '../kernel/layout.ts';

export type Owner = 'hand' | `policy:${string}` | `feed:${string}`;

/** One owner's wish about one target. */
export interface Wish {
  readonly target: Prefix;
  readonly owner: Owner;
  /** enforce: dropped; monitor: counted and let through. */
  readonly mode: 'enforce' | 'monitor';
  /** From now on; null = for ever. */
  readonly seconds: number | null;
  readonly reason: string | null;
}

/** Hears of every claim after the kernel has it; an unblock is heard of before. */
export interface Claims {
  made(wish: Wish): void;
  withdrawn(target: Prefix): void;
}

/** Keeps nothing: who and why stand in the log alone. */
export const forgetful: Claims = { made: () => undefined, withdrawn: () => undefined };

export function kindOf(owner: Owner): OwnerKind {
  return owner === 'hand' ? 'hand' : owner.startsWith('policy:') ? 'policy' : 'feed';
}
