/** Ends of claims in ledger time ↔ ends of the kernel's entry in drop-clock time. */
import { type BlockValue, forEver as dropForEver, never as dropNever, ownerBits } from '../kernel/layout.ts';
import { kindOf } from './claims.ts';
import { forEver, never } from './ledger/record.ts';
import type { Union } from './ledger/union.ts';

export type Ends = Pick<BlockValue, 'dropUntil' | 'countUntil' | 'action' | 'owners' | 'scope'>;

/** Of a wish for `seconds` (null: for ever) from the ledger's `now` on, in ms. */
export function ledgerEnd(now: number, seconds: number | null): number {
  return seconds === null ? forEver : now + Math.round(seconds * 1000);
}

/** What the kernel's entry must hold. `ledgerNow` (ms) and `dropNow` (ns) are one moment. */
export function endsOfUnion(union: Union, ledgerNow: number, dropNow: bigint): Ends {
  const endOf = (end: number): bigint => {
    if (end === never) return dropNever;
    if (end === forEver) return dropForEver;
    // The clock of drops counts to 584 years: what is later is for ever, and what was over before it began is over.
    const until = dropNow + BigInt(Math.round(end - ledgerNow)) * 1_000_000n;
    return until < 1n ? 1n : until > dropForEver ? dropForEver : until;
  };
  return {
    dropUntil: endOf(union.dropEnd),
    countUntil: endOf(union.countEnd),
    action: 0,
    owners: union.owners.reduce((bits, owner) => bits | ownerBits[kindOf(owner)], 0),
    scope: union.scope,
  };
}

/** The later of each end. */
export function unite(a: Ends, b: Ends): Ends {
  const later = (x: bigint, y: bigint): bigint => (x > y ? x : y);
  return {
    ...a,
    dropUntil: later(a.dropUntil, b.dropUntil),
    countUntil: later(a.countUntil, b.countUntil),
    owners: a.owners | b.owners,
  };
}
