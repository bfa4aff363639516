/**
 * Ledger time: integer milliseconds in which the ends of claims are written, and which no step of the wall clock moves.
 *
 * Within a boot it advances with CLOCK_BOOTTIME, through suspend too. From one boot to the next it goes on from the last
 * moment that was written, plus what the wall clock says has passed since; never less than nothing, for a host without a
 * clock of its own starts in the past. A new ledger starts at the wall clock, so that its numbers look familiar.
 */
import { readFileSync } from 'node:fs';
import { native } from '../../kernel/native.ts';

/** One look at the clocks. */
export interface Reading {
  /** /proc/sys/kernel/random/boot_id */
  readonly bootId: string;
  readonly boottimeMs: number;
  /** ms since 1970, as the wall clock has it, right or wrong. */
  readonly wallMs: number;
}

/** A moment in which ledger time was known; what the ledger keeps, refreshed by every write. */
export interface Anchor extends Reading {
  readonly ledgerMs: number;
}

export type ReadClocks = () => Reading;

/** 2024-01-01. A wall clock before it had not been set: how long the host was down cannot be told, and counts as nothing. */
const earliestWallMs = Date.UTC(2024, 0, 1);

/** The anchor moved to now. Pure; `last` null begins a new ledger's time. */
export function advance(last: Anchor | null, reading: Reading): Anchor {
  if (last === null) return { ...reading, ledgerMs: Math.max(1, reading.wallMs) };
  if (last.bootId !== reading.bootId) {
    const downMs = last.wallMs < earliestWallMs ? 0 : Math.max(0, reading.wallMs - last.wallMs);
    return { ...reading, ledgerMs: last.ledgerMs + downMs };
  }
  // Read before another process refreshed the anchor: the line stays where it is.
  if (reading.boottimeMs <= last.boottimeMs) return { ...last, wallMs: reading.wallMs };
  return { ...reading, ledgerMs: last.ledgerMs + (reading.boottimeMs - last.boottimeMs) };
}

/** What to add to this boot's CLOCK_BOOTTIME for ledger time; constant until the next boot. */
export function offsetOf(anchor: Anchor): number {
  return anchor.ledgerMs - anchor.boottimeMs;
}

/** For people: what the wall clock shows, as it goes now, at a moment of ledger time. `now` is an anchor of now. */
export function toWall(now: Anchor, ledgerMs: number): number {
  return now.wallMs + (ledgerMs - now.ledgerMs);
}

/** The inverse of {@link toWall}. */
export function fromWall(now: Anchor, wallMs: number): number {
  return now.ledgerMs + (wallMs - now.wallMs);
}

let bootId: string | undefined;

/** This host's clocks. Throws `addon_missing`. */
export const readClocks: ReadClocks = () => {
  bootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return { bootId, boottimeMs: Number(native().clocks().boottimeNs / 1_000_000n), wallMs: Date.now() };
};
