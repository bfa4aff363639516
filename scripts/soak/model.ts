/**
 * What was acknowledged, and so what must be: the soak's model of every claim.
 *
 * A claim's end is known as a range. What ended with 0 makes it exact; what was killed, or failed, may have been done or not,
 * and only widens it. A target must be dropped while any claim's earliest end is to come, and must not be once every claim's
 * latest end is past.
 */

/** Times are ms since 1970; for ever is Infinity, never 0. */
export interface Range {
  readonly earliest: number;
  readonly latest: number;
}

/**
 * `adopted` is what a feed's block becomes whose claim was not written down: only --all-claims ends it. `someone` has a claim that
 * must be there, and that may be any of the others': a ledger begun anew knows from the maps until when, and not by whom.
 */
export const owners = ['hand', 'policy', 'feed', 'adopted', 'someone'] as const;
export type ModelOwner = (typeof owners)[number];

export type Claims = Readonly<Record<ModelOwner, Range>>;

const none: Range = { earliest: 0, latest: 0 };

export const noClaims: Claims = { hand: none, policy: none, feed: none, adopted: none, someone: none };

/** Two clocks are read, a second is rounding in a reconciliation, and a process takes its time to start. */
export const marginMs = 2_000;

/**
 * An owner's block until between `from` and `to`. What is not acknowledged may stand in the maps alone, and is adopted as the
 * claim of whoever the entry's bits name: a hand's where there is one.
 */
export function blocked(claims: Claims, owner: ModelOwner, end: Range, isAcknowledged: boolean): Claims {
  const raise = ({ earliest, latest }: Range, isSure: boolean): Range => ({
    earliest: isSure ? Math.max(earliest, end.earliest) : earliest,
    latest: Math.max(latest, end.latest),
  });
  const own = { ...claims, [owner]: raise(claims[owner], isAcknowledged) };
  return isAcknowledged ? own : adoptable(own, owner, end.latest);
}

/** Set exactly: the claim becomes that, or, not acknowledged, may have. */
export function replaced(claims: Claims, owner: ModelOwner, end: Range, isAcknowledged: boolean): Claims {
  const others = { ...claims, someone: unsure(claims.someone) };
  if (isAcknowledged) return { ...others, [owner]: end };
  const { earliest, latest } = claims[owner];
  const range = { earliest: Math.min(earliest, end.earliest), latest: Math.max(latest, end.latest) };
  return adoptable({ ...others, [owner]: range }, owner, end.latest);
}

function adoptable(claims: Claims, owner: ModelOwner, latest: number): Claims {
  const others: readonly ModelOwner[] = owner === 'feed' ? ['hand', 'policy', 'adopted'] : ['hand', 'policy'];
  const widened = others.map((other) => [other, { ...claims[other], latest: Math.max(claims[other].latest, latest) }]);
  return { ...claims, ...Object.fromEntries(widened) };
}

/** It may be there, or not any more. */
const unsure = ({ latest }: Range): Range => ({ earliest: 0, latest });

/** Each may be there, or not any more. */
export function unsureOf(claims: Claims): Claims {
  return Object.fromEntries(owners.map((owner) => [owner, unsure(claims[owner])])) as Claims;
}

/** With all owners withdrawn nobody's is left; with some of them `someone`'s may have been theirs. */
export function withdrawn(claims: Claims, whose: readonly ModelOwner[], isAcknowledged: boolean): Claims {
  const ended = whose.map((owner) => [owner, isAcknowledged ? none : unsure(claims[owner])]);
  return { ...claims, someone: unsure(claims.someone), ...Object.fromEntries(ended) };
}

/** The last end that anybody's claim may have. */
export function latestOf(claims: Claims): number {
  return Math.max(...owners.map((owner) => claims[owner].latest));
}

/** Until when it must be dropped at least. */
export function earliestOf(claims: Claims): number {
  return Math.max(...owners.map((owner) => claims[owner].earliest));
}

/** The ledger may have been begun anew from what the maps hold. */
export function rebuilt(claims: Claims): Claims {
  const [earliest, latest] = [earliestOf(claims), latestOf(claims)];
  const may: Range = { earliest: 0, latest };
  return { hand: may, policy: may, feed: unsure(claims.feed), adopted: may, someone: { earliest, latest } };
}

/**
 * The ledger may be what it was at any time since `past` was the last end: what ended since may have come back. Where something
 * was withdrawn in that time even what was blocked after it may go, for the ledger may say that it is to.
 */
export function rolledBack(claims: Claims, past: number, wasWithdrawn: boolean): Claims {
  const { someone } = rebuilt(claims);
  const latest = Math.max(past, someone.latest);
  const may: Range = { earliest: 0, latest };
  return { hand: may, policy: may, feed: may, adopted: may, someone: wasWithdrawn ? may : { ...someone, latest } };
}

/** Every end comes later by between `least` and `most` ms, which may be less than nothing; never and for ever stay. */
export function moved(claims: Claims, least: number, most: number): Claims {
  const by = (end: number, ms: number): number => (end === 0 ? 0 : Math.max(1, end + ms));
  const ends = owners.map((owner) => {
    const { earliest, latest } = claims[owner];
    return [owner, { earliest: by(earliest, least), latest: by(latest, most) }] as const;
  });
  return Object.fromEntries(ends) as Claims;
}

/** What the ledger holds, once it was seen to be within what may be: nothing is open any more. Rounding is a second. */
export function observed(ends: Readonly<Partial<Record<ModelOwner, number>>>): Claims {
  const seen = Object.entries(ends).map(([owner, end]) => [owner, { earliest: end - 1_000, latest: end + 1_000 }]);
  return { ...noClaims, ...Object.fromEntries(seen) };
}

export function mustDrop(claims: Claims, nowMs: number): boolean {
  return owners.some((owner) => claims[owner].earliest > nowMs + marginMs);
}

export function mustPass(claims: Claims, nowMs: number): boolean {
  return owners.every((owner) => claims[owner].latest < nowMs - marginMs);
}

/** A small generator with a seed (mulberry32): a run can be had again, as far as the scheduler lets it. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
