/** Blocks: the kernel's entries, each with the claims behind it. What list shows and unblock chooses from. */
import { comparePrefixes, covers, type Prefix } from '../address/prefix.ts';
import type { Entry } from '../blocklist/blocklist.ts';
import { secondsToEnd } from '../blocklist/entry.ts';
import type { Claim } from '../blocklist/ledger/record.ts';
import { isLive } from '../blocklist/ledger/union.ts';
import { FalcodropError } from '../errors.ts';
import { type ToldClaim, tellerOf } from './claims.ts';
import { claimMatches, type Filters, names, needsLedger, type Sort } from './filter.ts';
import type { Hand } from './hand.ts';

export interface Block {
  readonly entry: Entry;
  /** By owner; null where the ledger can not be read. */
  readonly claims: readonly ToldClaim[] | null;
}

/**
 * What is in force and fits the filters; a block fits when one of its claims does. May be gone through more than once: it is
 * read anew from the ledger then, so that not all of it is in memory. Throws the ledger's error when only it could answer.
 */
export function blocksOf({ blocklist, ledger, trouble }: Hand, filters: Filters): Iterable<Block> {
  if (ledger === null && needsLedger(filters)) {
    throw (
      trouble ??
      new FalcodropError('ledger_missing', 'these filters are about the ledger, and there is none', undefined)
    );
  }
  const entries = liveEntries(blocklist.entries(), filters);
  const all = { [Symbol.iterator]: () => merge(entries, ledger === null ? null : () => withClaims(ledger, filters)) };
  const { sort = 'address', limit } = filters;
  const fitting = {
    *[Symbol.iterator]() {
      let left = limit ?? Number.POSITIVE_INFINITY;
      for (const block of all) {
        if (!fits(block, filters)) continue;
        if (left-- <= 0) return;
        yield block;
      }
    },
  };
  if (sort === 'address') return fitting;
  const found = [...all].filter((block) => fits(block, filters)).sort(orders[sort]);
  return limit === undefined ? found : found.slice(0, limit);
}

/** Of one target, live ones; null where the ledger can not be read. */
export function claimsOn(ledger: Hand['ledger'], target: Prefix): readonly ToldClaim[] | null {
  if (ledger === null) return null;
  const teller = tellerOf(ledger);
  return ledger
    .claimsOf(target)
    .filter((claim) => claim.withdrawnAt === null && isLive(claim, teller.anchor.ledgerMs))
    .map(teller.claim);
}

/** Sorted by address. A map that changes while it is read may show an entry twice. */
export function liveEntries(all: Iterable<Entry>, { within }: Pick<Filters, 'within'> = {}): Entry[] {
  const live: Entry[] = [];
  for (const entry of all) {
    if (entry.state !== 'ended' && (within === undefined || covers(within, entry.target))) live.push(entry);
  }
  live.sort((a, b) => comparePrefixes(a.target, b.target));
  return live.filter((entry, index) => {
    const before = live[index - 1];
    return before === undefined || comparePrefixes(before.target, entry.target) !== 0;
  });
}

interface Told {
  readonly claim: Claim;
  readonly tell: () => ToldClaim;
}

function* withClaims(ledger: NonNullable<Hand['ledger']>, { within }: Filters): Generator<Told> {
  const teller = tellerOf(ledger);
  // In the order of addresses, as the entries are.
  for (const claim of ledger.claims(within === undefined ? {} : { within })) {
    yield { claim, tell: () => teller.claim(claim) };
  }
}

function* merge(entries: readonly Entry[], open: (() => Generator<Told>) | null): Generator<Block> {
  if (open === null) {
    for (const entry of entries) yield { entry, claims: null };
    return;
  }
  const claims = open();
  try {
    let next = claims.next();
    for (const entry of entries) {
      const own: ToldClaim[] = [];
      while (next.done !== true) {
        const order = comparePrefixes(next.value.claim.target, entry.target);
        if (order > 0) break;
        if (order === 0) own.push(next.value.tell());
        next = claims.next();
      }
      yield { entry, claims: own };
    }
  } finally {
    claims.return(undefined);
  }
}

/** A block that the ledger knows nothing of is compared by what the kernel holds. */
function fits({ entry, claims }: Block, filters: Filters): boolean {
  if (!names(filters)) return true;
  if (claims !== null && claims.length > 0) return claims.some((claim) => claimMatches(claim, filters));
  const mode = entry.state === 'enforce' ? 'enforce' : 'monitor';
  return entry.owners.some((owner) => claimMatches({ owner, mode, begunMs: null, rule: null }, filters));
}

type Order = (a: Block, b: Block) => number;

const byAddress: Order = (a, b) => comparePrefixes(a.entry.target, b.entry.target);

const endOf = ({ entry }: Block): number => secondsToEnd(entry) ?? Number.POSITIVE_INFINITY;

const begunOf = ({ claims }: Block): number => Math.max(0, ...(claims ?? []).map(({ begunMs }) => begunMs));

/** Infinity is as far as infinity. */
const compare = (a: number, b: number): number => (a === b ? 0 : a < b ? -1 : 1);

const orders: Readonly<Record<Exclude<Sort, 'address'>, Order>> = {
  packets: (a, b) => compare(b.entry.packets, a.entry.packets) || byAddress(a, b),
  bytes: (a, b) => compare(b.entry.bytes, a.entry.bytes) || byAddress(a, b),
  end: (a, b) => compare(endOf(a), endOf(b)) || byAddress(a, b),
  begin: (a, b) => compare(begunOf(b), begunOf(a)) || byAddress(a, b),
};
