/** What the kernel's one entry of a target must hold, out of all claims on it (law 2). */
import { coversPorts, everyPort, isSamePorts, joinPorts, mostPorts, type Ports } from '../../address/port.ts';
import type { Owner } from '../claims.ts';
import { type Claim, type Ends, never } from './record.ts';

export interface Union extends Ends {
  readonly ports: Ports;
  /** Whose live claims are in it. */
  readonly owners: readonly Owner[];
}

/** Of a claim what decides about the entry. */
export type Stake = Pick<Claim, 'owner' | 'dropEnd' | 'countEnd' | 'ports' | 'withdrawnAt'>;

export function isLive(ends: Ends, now: number): boolean {
  return now < ends.dropEnd || now < ends.countEnd;
}

/**
 * Null when nothing lives. Enforce outranks monitor, each to its own end. The entry is limited to the ports of all that enforce
 * (where none does, of all that count), and lasts as long as together they wish exactly these: a longer but narrower claim is
 * not widened beyond the end of a wide one, it waits until that has ended. Where together they wish more ports than an entry can
 * hold, the shortest-lived wait.
 */
export function unionOf(claims: readonly Stake[], now: number): Union | null {
  const live = claims.filter((claim) => claim.withdrawnAt === null && isLive(claim, now));
  const enforcing = live.filter((claim) => now < claim.dropEnd);
  const leading = enforcing.length > 0 ? enforcing : live;
  const [first] = leading;
  if (first === undefined) return null;
  const lastEnd = enforcing.length > 0 ? (claim: Stake) => claim.dropEnd : (claim: Stake) => claim.countEnd;
  const { ports, end } = widest(leading, lastEnd);
  const chosen = live.filter((claim) => coversPorts(ports, claim.ports));
  const isWhole = (claim: Stake): boolean => isSamePorts(claim.ports, ports);
  const countEnds = chosen.filter(isWhole).map((claim) => claim.countEnd);
  const countEnd = enforcing.length > 0 ? Math.max(never, ...countEnds.filter((each) => now < each)) : end;
  return {
    dropEnd: enforcing.length > 0 ? end : never,
    countEnd,
    ports,
    owners: chosen.map((claim) => claim.owner),
  };
}

/** All ports together, and until when it is these together: the longest-lived first, as far as they fit. */
function widest(leading: readonly Stake[], lastEnd: (claim: Stake) => number): { ports: Ports; end: number } {
  if (leading.some((claim) => claim.ports.length === 0)) {
    const all = leading.filter((claim) => claim.ports.length === 0);
    return { ports: everyPort, end: Math.max(...all.map(lastEnd)) };
  }
  const [longest, ...others] = [...leading].sort((a, b) => lastEnd(b) - lastEnd(a));
  let ports = longest?.ports ?? everyPort;
  let end = longest === undefined ? never : lastEnd(longest);
  for (const claim of others) {
    const joined = joinPorts(ports, claim.ports);
    if (joined.length > mostPorts || isSamePorts(joined, ports)) continue;
    ports = joined;
    end = lastEnd(claim);
  }
  return { ports, end };
}
