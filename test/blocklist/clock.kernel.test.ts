/** Ends under clocks that jump: a suspend moves one word, a step of the wall clock moves nothing. */
import { describe, expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import { Blocklist } from '../../src/blocklist/blocklist.ts';
import { reconcile } from '../../src/blocklist/reconcile.ts';
import { bookOf } from '../../src/cli/hand.ts';
import { followSuspend } from '../../src/kernel/clock.ts';
import { layout } from '../../src/kernel/layout.ts';
import { native } from '../../src/kernel/native.ts';
import { Clocks, freshStateDir, hour, openLedger, year } from './ledger/place.ts';
import { sharedPinned, wish } from './pinned.ts';

const ms = 1_000_000n;
const [skewAt] = layout.hints.members.skew_ns;
const target = parsePrefix('192.0.2.1');

describe('a suspend', () => {
  const withSet = sharedPinned();

  test.each([
    ['an hour in suspend', 3_600_000n * ms],
    ['a false word, an hour ahead', -3_600_000n * ms],
    ['11 ms', 11n * ms],
  ])('%s moves the word by that, once', (_, missingNs) =>
    withSet(({ list }) => {
      const { hints } = list.set;
      const { boottimeNs, monotonicNs } = native().clocks();
      hints.store64(skewAt, BigInt.asUintN(64, boottimeNs - monotonicNs - missingNs));
      const movedNs = followSuspend(hints) ?? 0n;
      expect(Number(movedNs - missingNs) / 1e6).toBeCloseTo(0, 0);
      expect(followSuspend(hints)).toBeNull();
    }),
  );

  test('of less than 10 ms is the time between two readings', () =>
    withSet(({ list }) => {
      const { boottimeNs, monotonicNs } = native().clocks();
      const word = BigInt.asUintN(64, boottimeNs - monotonicNs + 9n * ms);
      list.set.hints.store64(skewAt, word);
      expect(followSuspend(list.set.hints)).toBeNull();
      expect(list.set.hints.load64(skewAt)).toBe(word);
      list.set.hints.store64(skewAt, boottimeNs - monotonicNs);
    }));

  test('is seen before a block is written: it ends when it was meant to', () =>
    withSet(async ({ list }) => {
      const { boottimeNs, monotonicNs } = native().clocks();
      const moved: bigint[] = [];
      const own = Blocklist.open(list.pinDir, { onClock: (movedNs) => moved.push(movedNs) });
      const suspend = () =>
        own.set.hints.store64(skewAt, BigInt.asUintN(64, boottimeNs - monotonicNs - 1800n * 1000n * ms));
      try {
        for (const block of [() => own.block(wish(target, 3600)), () => own.blockAtOnce(wish('192.0.2.2', 3600))]) {
          suspend();
          await block();
        }
        suspend();
        await own.reap();
        expect(moved.map((movedNs) => Math.round(Number(movedNs) / 1e9))).toEqual([1800, 1800, 1800]);
        for (const entry of own.entries()) expect(entry.dropSeconds).toBeCloseTo(3600, -1);
        await own.settle();
      } finally {
        own.close();
      }
    }));

  test('reconciling prolongs nothing for it', () =>
    withSet(async ({ list }) => {
      const clocks = new Clocks();
      const ledger = openLedger(freshStateDir(), { clocks: clocks.read });
      const own = Blocklist.open(list.pinDir, { book: bookOf(ledger) });
      try {
        await own.block(wish(target, 3600));
        const { boottimeNs, monotonicNs } = native().clocks();
        own.set.hints.store64(skewAt, BigInt.asUintN(64, boottimeNs - monotonicNs - 1800n * 1000n * ms));
        expect(await reconcile(own, ledger, { foreign: 'adopt' })).toMatchObject({ adopted: 0, set: 0 });
        const [claim] = ledger.claims();
        expect((claim?.dropEnd ?? 0) - ledger.now()).toBe(3_600_000);
      } finally {
        own.close();
      }
    }));
});

describe('the wall clock', () => {
  const withSet = sharedPinned();

  test.each([10 * year, -10 * year])('a step by %d ms changes no end, in the ledger or in the maps', (step) =>
    withSet(async ({ list }) => {
      const clocks = new Clocks();
      const ledger = openLedger(freshStateDir(), { clocks: clocks.read });
      const own = Blocklist.open(list.pinDir, { book: bookOf(ledger) });
      try {
        await own.block(wish(target, 3600));
        await own.block(wish('192.0.2.0/24', 60, { mode: 'monitor' }));
        await own.block(wish('2001:db8::1', null));
        const ends = () => [...own.set.entries('blocked_v4')].map(({ value }) => [value.dropUntil, value.countUntil]);
        const before = { ends: ends(), claims: [...ledger.claims()] };
        clocks.wallMs += step;
        ledger.tick();
        const summary = await reconcile(own, ledger, { foreign: 'remove' });
        expect(summary).toEqual({ set: 0, removed: 0, adopted: 0, ended: 0, refused: 0, stays_refused: 0 });
        expect({ ends: ends(), claims: [...ledger.claims()] }).toEqual(before);
        clocks.pass(hour);
        expect([...ledger.claims()].map((claim) => claim.dropEnd)).toHaveLength(1);
      } finally {
        own.close();
      }
    }),
  );
});
