/** Blocks: the kernel's entries, each with the claims behind it. What list shows and unblock chooses from. */
import type { Ports } from '../address/port.ts';
import { comparePrefixes, type Prefix } from '../address/prefix.ts';
import type { Entry } from '../blocklist/blocklist.ts';
import { secondsToEnd } from '../blocklist/entry.ts';
import { EntryTable } from '../blocklist/entry-table.ts';
import type { Claim } from '../blocklist/ledger/record.ts';
import { isLive } from '../blocklist/ledger/union.ts';
import { FalcodropError } from '../errors.ts';
import { portsAt } from '../kernel/scopes.ts';
import type { PinnedSet } from '../kernel/set.ts';
import { type Teller, type ToldClaim, tellerOf } from './claims.ts';
import { claimMatches, type Filters, names, needsLedger, type Sort } from './filter.ts';
import type { Hand } from './hand.ts';

export interface Block {
  readonly entry: Entry;
  /** What the kernel limits it to; empty: every port. */
  readonly ports: Ports;
  /** By owner; null where the ledger can not be read. */
  readonly claims: readonly ToldClaim[] | null;
}

/**
 * What is in force and fits the filters; a block fits when one of its claims does. May be gone through more than once: the maps
 * are read once, into a table, and claims each time anew from the ledger, so that not all of it is in memory. Throws the
 * ledger's error when only it could answer.
 */
export function blocksOf({ blocklist, ledger, trouble }: Hand, filters: Filters): Iterable<Block> {
  if (ledger === null && needsLedger(filters)) {
    throw (
      trouble ??
      new FalcodropError('ledger_missing', 'these filters are about the ledger, and there is none', undefined)
    );
  }
  const { set } = blocklist;
  const entries = new EntryTable(set, filters.within);
  const { sort = 'address', limit = entries.length } = filters;
  if (sort !== 'address') return sorted(set, entries, ledger, filters, { sort, limit });
  return {
    *[Symbol.iterator]() {
      let left = limit;
      if (left === 0) return;
      for (const { block } of ranked(set, entries, ledger, filters)) {
        yield block;
        if (--left === 0) return;
      }
    },
  };
}

interface Ranked {
  readonly rank: number;
  readonly block: Block;
}

/** By address, with their ranks in the table. */
function* ranked(set: PinnedSet, entries: EntryTable, ledger: Hand['ledger'], filters: Filters): Generator<Ranked> {
  for (const each of merge(set, entries, ledger === null ? null : () => withClaims(ledger, filters))) {
    if (fits(each.block, filters)) yield each;
  }
}

/** Only numbers are sorted and kept; the claims of what is shown are asked for one by one. */
function sorted(
  set: PinnedSet,
  entries: EntryTable,
  ledger: Hand['ledger'],
  filters: Filters,
  { sort, limit }: { readonly sort: Exclude<Sort, 'address'>; readonly limit: number },
): Iterable<Block> {
  const ranks = new Uint32Array(entries.length);
  const keys = new Float64Array(entries.length);
  const keyOf = sortKeys[sort];
  let count = 0;
  for (const { rank, block } of ranked(set, entries, ledger, filters)) {
    ranks[count++] = rank;
    keys[rank] = keyOf(block);
  }
  // Ranks are by address: what is equal stays in that order. Infinity is as far as infinity.
  const order = ranks.subarray(0, count).sort((a, b) => {
    const [keyA = 0, keyB = 0] = [keys[a], keys[b]];
    return keyA === keyB ? a - b : keyA - keyB;
  });
  return {
    *[Symbol.iterator]() {
      const teller = ledger === null ? null : tellerOf(ledger);
      for (const rank of order.subarray(0, limit)) {
        const entry = entries.at(rank);
        const claims = ledger === null || teller === null ? null : liveClaims(ledger, entry.target, teller);
        yield { entry, ports: portsAt(set, entry.scope), claims };
      }
    },
  };
}

/** Of one target, live ones; null where the ledger can not be read. */
export function claimsOn(ledger: Hand['ledger'], target: Prefix): readonly ToldClaim[] | null {
  return ledger === null ? null : liveClaims(ledger, target, tellerOf(ledger));
}

function liveClaims(ledger: NonNullable<Hand['ledger']>, target: Prefix, teller: Teller): readonly ToldClaim[] {
  return ledger
    .claimsOf(target)
    .filter((claim) => claim.withdrawnAt === null && isLive(claim, teller.anchor.ledgerMs))
    .map(teller.claim);
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

function* merge(set: PinnedSet, entries: EntryTable, open: (() => Generator<Told>) | null): Generator<Ranked> {
  const claims = open?.();
  try {
    let next = claims?.next();
    for (let rank = 0; rank < entries.length; rank++) {
      const entry = entries.at(rank);
      const own: ToldClaim[] = [];
      while (claims !== undefined && next !== undefined && next.done !== true) {
        const order = comparePrefixes(next.value.claim.target, entry.target);
        if (order > 0) break;
        if (order === 0) own.push(next.value.tell());
        next = claims.next();
      }
      const ports = portsAt(set, entry.scope);
      yield { rank, block: { entry, ports, claims: claims === undefined ? null : own } };
    }
  } finally {
    claims?.return(undefined);
  }
}

/** A block that the ledger knows nothing of is compared by what the kernel holds. */
function fits({ entry, claims }: Block, filters: Filters): boolean {
  if (!names(filters)) return true;
  if (claims !== null && claims.length > 0) return claims.some((claim) => claimMatches(claim, filters));
  const mode = entry.state === 'enforce' ? 'enforce' : 'monitor';
  return entry.owners.some((owner) => claimMatches({ owner, mode, begunMs: null, rule: null }, filters));
}

/** The least first. */
const sortKeys: Readonly<Record<Exclude<Sort, 'address'>, (block: Block) => number>> = {
  packets: ({ entry }) => -entry.packets,
  bytes: ({ entry }) => -entry.bytes,
  end: ({ entry }) => secondsToEnd(entry) ?? Number.POSITIVE_INFINITY,
  begin: ({ claims }) => -Math.max(0, ...(claims ?? []).map(({ begunMs }) => begunMs)),
};
