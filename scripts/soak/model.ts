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

/** `adopted` is what a feed's block becomes whose claim was not written down: only --all-claims ends it. */
export const owners = ['hand', 'policy', 'feed', 'adopted'] as const;
export type ModelOwner = (typeof owners)[number];

export type Claims = Readonly<Record<ModelOwner, Range>>;

const none: Range = { earliest: 0, latest: 0 };

export const noClaims: Claims = { hand: none, policy: none, feed: none, adopted: none };

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
  if (isAcknowledged) return { ...claims, [owner]: end };
  const { earliest, latest } = claims[owner];
  const range = { earliest: Math.min(earliest, end.earliest), latest: Math.max(latest, end.latest) };
  return adoptable({ ...claims, [owner]: range }, owner, end.latest);
}

function adoptable(claims: Claims, owner: ModelOwner, latest: number): Claims {
  const others: readonly ModelOwner[] = owner === 'feed' ? ['hand', 'policy', 'adopted'] : ['hand', 'policy'];
  const widened = others.map((other) => [other, { ...claims[other], latest: Math.max(claims[other].latest, latest) }]);
  return { ...claims, ...Object.fromEntries(widened) };
}

export function withdrawn(claims: Claims, whose: readonly ModelOwner[], isAcknowledged: boolean): Claims {
  const ended = whose.map((owner) => [owner, { earliest: 0, latest: isAcknowledged ? 0 : claims[owner].latest }]);
  return { ...claims, ...Object.fromEntries(ended) };
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
