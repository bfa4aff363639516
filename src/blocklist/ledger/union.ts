/** What the kernel's one entry of a target must hold, out of all claims on it (law 2). */
import type { Owner } from '../claims.ts';
import { type Claim, type Ends, never } from './record.ts';

export interface Union extends Ends {
  readonly scope: number;
  /** Whose live claims are in it. */
  readonly owners: readonly Owner[];
}

export function isLive(ends: Ends, now: number): boolean {
  return now < ends.dropEnd || now < ends.countEnd;
}

/**
 * Null when nothing lives. Enforce outranks monitor, each to its own end. The scope is the widest (0, all ports) of those that
 * enforce, else of those that count; a claim of another scope waits until the wide ones have ended, so that it is not widened
 * beyond their end. Among narrow scopes the one that lasts longest goes first.
 */
export function unionOf(claims: readonly Claim[], now: number): Union | null {
  const live = claims.filter((claim) => claim.withdrawnAt === null && isLive(claim, now));
  const enforcing = live.filter((claim) => now < claim.dropEnd);
  const leading = enforcing.length > 0 ? enforcing : live;
  const [first] = leading;
  if (first === undefined) return null;
  const lastEnd = enforcing.length > 0 ? (claim: Claim) => claim.dropEnd : (claim: Claim) => claim.countEnd;
  const widest =
    leading.find((claim) => claim.scope === 0) ?? leading.reduce((a, b) => (lastEnd(b) > lastEnd(a) ? b : a));
  const chosen = live.filter((claim) => claim.scope === widest.scope);
  const laterOf = (end: (claim: Claim) => number): number =>
    chosen.map(end).reduce((later, each) => (now < each && each > later ? each : later), never);
  return {
    dropEnd: laterOf((claim) => claim.dropEnd),
    countEnd: laterOf((claim) => claim.countEnd),
    scope: widest.scope,
    owners: chosen.map((claim) => claim.owner),
  };
}
