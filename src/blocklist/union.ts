/** Ends of claims in ledger time ↔ ends of the kernel's entry in drop-clock time. */
import { secondsLeft } from '../kernel/clock.ts';
import { type BlockValue, forEver as dropForEver, never as dropNever, ownerBits } from '../kernel/layout.ts';
import { kindOf } from './claims.ts';
import { forEver, type Ends as LedgerEnds, never } from './ledger/record.ts';
import type { Union } from './ledger/union.ts';

export type Ends = Pick<BlockValue, 'dropUntil' | 'countUntil' | 'action' | 'owners' | 'scope'>;

/** Of a wish for `seconds` (null: for ever) from the ledger's `now` on, in ms. */
export function ledgerEnd(now: number, seconds: number | null): number {
  return seconds === null ? forEver : now + Math.round(seconds * 1000);
}

/** What the kernel's entry must hold. `ledgerNow` (ms) and `dropNow` (ns) are one moment; `scope`: the row of its ports. */
export function endsOfUnion(union: Union, ledgerNow: number, dropNow: bigint, scope: number): Ends {
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
    scope,
  };
}

/** The kernel's ends in ledger time; what has ended, or never was, is {@link never}. */
export function endsHeld(
  value: Pick<BlockValue, 'dropUntil' | 'countUntil'>,
  dropNow: bigint,
  ledgerNow: number,
): LedgerEnds {
  const endOf = (end: bigint): number => {
    const seconds = secondsLeft(end, dropNow);
    if (seconds === null) return forEver;
    return seconds === 0 ? never : ledgerNow + Math.round(seconds * 1000);
  };
  return { dropEnd: endOf(value.dropUntil), countEnd: endOf(value.countUntil) };
}
