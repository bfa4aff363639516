/** Much work on the block list in slices, each one hold of the lock that an attacker's block may be waiting for. */
import { slice as mostAtOnce } from '../blocklist/blocklist.ts';
import type { Ledger } from '../blocklist/ledger/ledger.ts';
import { FalcodropError } from '../errors.ts';
import type { Hand } from './hand.ts';

/** How long a slice should hold the lock: never over 30 ms, so that most is left for what comes in between (a busy CPU, GC). */
const aimMs = 3;
const leastAtOnce = 32;
const firstAtOnce = 64;

/** What can be counted and asked for piece by piece; an array is such. */
export interface Items<T> {
  readonly length: number;
  slice(first: number, end: number): readonly T[];
}

/** Yields slices, smaller where the lock was held for long. In between signals are heard. */
export async function* slicesOf<T>(
  items: Items<T>,
  { blocklist, ledger }: Pick<Hand, 'blocklist' | 'ledger'>,
): AsyncGenerator<readonly T[]> {
  // A log's first commit waits for the disk: here, where nobody waits for us.
  if (items.length > firstAtOnce && ledger !== null) tick(ledger);
  let atOnce = firstAtOnce;
  for (let first = 0; first < items.length; ) {
    const some = items.slice(first, Math.min(first + atOnce, items.length));
    yield some;
    first += some.length;
    const grown = atOnce * Math.min(aimMs / Math.max(blocklist.heldMs, 0.1), 2);
    atOnce = Math.round(Math.min(Math.max(grown, leastAtOnce), mostAtOnce));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function tick(ledger: Ledger): void {
  try {
    ledger.tick();
  } catch (error) {
    // The first slice fails by it, and whoever works it knows what that means.
    if (!(error instanceof FalcodropError)) throw error;
  }
}
