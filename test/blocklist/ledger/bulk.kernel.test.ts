/** Not of the kernel, but it measures: with the others that run alone. */
import { expect, test } from 'vitest';
import { forEver, type LedgerEvent } from '../../../src/blocklist/ledger/record.ts';
import { byFile, freshStateDir, openLedger } from './place.ts';

const slice = 2_000;

test('a million claims of one set, in slices', ({ annotate }) => {
  const ledger = openLedger(freshStateDir());
  const cause = ledger.addCause(byFile);
  const time = (work: () => void): number => {
    const begun = performance.now();
    work();
    return performance.now() - begun;
  };
  let longestMs = 0;
  const wholeMs = time(() => {
    for (let from = 0; from < 1_000_000; from += slice) {
      const events = Array.from({ length: slice }, (_, index): LedgerEvent => {
        const n = from + index;
        const address = { family: 4 as const, bytes: Uint8Array.of(10, n >> 16, n >> 8, n) };
        return { kind: 'wish', target: { address, length: 32 }, owner: 'feed:x', dropEnd: forEver, countEnd: 0, cause };
      });
      longestMs = Math.max(
        longestMs,
        time(() => void ledger.apply(events)),
      );
    }
  });
  let targets = 0;
  const slicesMs = time(() => {
    for (let after: Uint8Array | null = null; ; ) {
      const read = ledger.targets(after, slice);
      targets += read.targets.length;
      if (read.next === null) break;
      after = read.next;
    }
  });
  const file = `${ledger.stateDir}/../backup`;
  const backupMs = time(() => ledger.backup(file));
  const restoreMs = time(() => ledger.restore(file));
  const { claims, bytes } = ledger.size();
  expect([claims, targets, [...ledger.history({ action: 'made' })].map(({ count }) => count)]).toEqual([
    1_000_000,
    1_000_000,
    [1_000_000],
  ]);
  const figures = { wholeMs, longestMs, slicesMs, backupMs, restoreMs };
  const text = Object.entries(figures).map(([name, ms]) => `${name} ${ms.toFixed(0)}`);
  process.stdout.write(`a million claims: ${text.join(', ')}, ${(bytes / 1e6).toFixed(0)} MB\n`);
  void annotate(text.join(', '));
});
