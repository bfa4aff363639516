/**
 * The drop clock: what the ends of blocks are measured in, by the XDP program and here alike.
 *
 * CLOCK_MONOTONIC ns plus `hints.skew_ns`. Why this one: no step of the wall clock moves it; XDP reads its coarse form, on a
 * hit only, for some 20 ns where ktime_get_ns takes 36 and an lfence; user space reads the very same number without asking
 * the kernel for HZ and a base, as jiffies would need. It stops in suspend, which the skew word makes up for.
 */
import { forEver, layout, never } from './layout.ts';
import { type MappedArray, native } from './native.ts';

/** CLOCK_MONOTONIC; `process.hrtime` is that clock on Linux. */
export const monotonicNs = (): bigint => process.hrtime.bigint();

export function dropNow(hints: MappedArray): bigint {
  return monotonicNs() + hints.load64(layout.hints.members.skew_ns[0]);
}

/** CLOCK_BOOTTIME and CLOCK_MONOTONIC are two readings: this much between them is no suspend. */
const readingsApartNs = 10_000_000n;

/**
 * Moves the skew word to the time that this boot has spent in suspend, CLOCK_BOOTTIME − CLOCK_MONOTONIC, where it differs by
 * more than 10 ms: every end is then where it was meant, and no entry is touched. Needs no lock: whoever does it stores the
 * same. Returns by how many ns it was moved; null: it was right.
 */
export function followSuspend(hints: MappedArray, clocks = native().clocks()): bigint | null {
  const [offset] = layout.hints.members.skew_ns;
  const suspendedNs = clocks.boottimeNs - clocks.monotonicNs;
  const movedNs = BigInt.asIntN(64, suspendedNs - hints.load64(offset));
  if (movedNs <= readingsApartNs && movedNs >= -readingsApartNs) return null;
  hints.store64(offset, BigInt.asUintN(64, suspendedNs));
  return movedNs;
}

/** The end of something that lasts `seconds` from `now` on; null = for ever. */
export function endAfter(now: bigint, seconds: number | null): bigint {
  return seconds === null ? forEver : now + BigInt(Math.round(seconds * 1e9));
}

/** Seconds until `end`: null = for ever, 0 = ended or never begun. */
export function secondsLeft(end: bigint, now: bigint): number | null {
  if (end === forEver) return null;
  return end === never || end <= now ? 0 : Number(end - now) / 1e9;
}
