/** Much work on the block list in slices, each one hold of the lock that an attacker's block may be waiting for. */
import { slice as mostAtOnce } from '../blocklist/blocklist.ts';
import type { Ledger } from '../blocklist/ledger/ledger.ts';

/** What a slice should take; the disk's sync and the wait for the lock are in it. The lock is never to be held over 30 ms. */
const aimMs = 10;
const leastAtOnce = 32;
const firstAtOnce = 128;

/** Between two checkpoints of the ledger. */
const checkpointEvery = 4096;

/**
 * Yields slices, smaller where they take long. In between signals are heard, and the ledger's log is written back: SQLite would do
 * that inside a commit, with the lock held. `ledger` null: there is none.
 */
export async function* slicesOf<T>(items: readonly T[], ledger: Ledger | null): AsyncGenerator<readonly T[]> {
  if (items.length > firstAtOnce) ledger?.deferCheckpoints();
  let atOnce = firstAtOnce;
  let sinceCheckpoint = 0;
  for (let first = 0; first < items.length; ) {
    const some = items.slice(first, first + atOnce);
    const begun = performance.now();
    yield some;
    const took = performance.now() - begun;
    first += some.length;
    sinceCheckpoint += some.length;
    atOnce = Math.round(Math.min(Math.max(atOnce * Math.min(aimMs / took, 2), leastAtOnce), mostAtOnce));
    if (sinceCheckpoint >= checkpointEvery) {
      sinceCheckpoint = 0;
      ledger?.checkpoint();
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}
