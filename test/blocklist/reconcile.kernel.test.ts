import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { formatPrefix, parsePrefix } from '../../src/address/prefix.ts';
import { Blocklist, type Book } from '../../src/blocklist/blocklist.ts';
import { Ledger } from '../../src/blocklist/ledger/ledger.ts';
import { forEver, type LedgerEvent, never } from '../../src/blocklist/ledger/record.ts';
import { type Mended, type ReconcileOptions, reconcile, type Summary } from '../../src/blocklist/reconcile.ts';
import { endAfter } from '../../src/kernel/clock.ts';
import { never as dropNever, encodeBlock, keyOf, ownerBits } from '../../src/kernel/layout.ts';
import { byTest } from './cause.ts';
import { type Pinned, sharedPinned, wish, withPinned } from './pinned.ts';

const service = { uid: 0, gid: 0 };
let states = 0;

interface Scene extends Pinned {
  readonly ledger: Ledger;
  /** On the same maps and ledger. */
  readonly booked: Blocklist;
  readonly mended: Mended[];
  run(options?: Partial<ReconcileOptions>): Promise<Summary>;
  tell(...events: LedgerEvent[]): void;
  seconds(target: string): readonly [drop: number | null, count: number | null] | null;
}

const bookOf = (ledger: Ledger): Book => ({
  now: () => ledger.now(),
  record: (events) => ledger.apply(events),
  trouble: null,
  claimsOf: (target) => ledger.claimsOf(target),
});

async function withLedger(pinned: Pinned, work: (scene: Scene) => Promise<void>): Promise<void> {
  const stateDir = join(pinned.lab.directory, `state${states++}`);
  mkdirSync(stateDir);
  const ledger = Ledger.open(stateDir, { service });
  const booked = Blocklist.open(pinned.lab.pinDir, { book: bookOf(ledger) });
  const mended: Mended[] = [];
  try {
    await work({
      ...pinned,
      ledger,
      booked,
      mended,
      run: (options = {}) =>
        reconcile(booked, ledger, { foreign: 'adopt', settleMs: 100, onMended: (one) => mended.push(one), ...options }),
      tell: (...events) => void ledger.apply(events),
      seconds: (target) => {
        const found = booked.covering(parsePrefix(target)).find((entry) => formatPrefix(entry.target) === target);
        return found === undefined ? null : [found.dropSeconds, found.countSeconds];
      },
    });
  } finally {
    booked.close();
    ledger.close();
  }
}

const nothing = { set: 0, removed: 0, adopted: 0, ended: 0, refused: 0, stays_refused: 0 };
const hour = 3600;

/** Ends in seconds from now: 0 = never, null = for ever. */
type Ends = readonly [drop: number | null, count: number | null];

const endsAt = (now: number, [drop, count]: Ends) => {
  const end = (seconds: number | null) => (seconds === null ? forEver : seconds === 0 ? never : now + seconds * 1000);
  return { dropEnd: end(drop), countEnd: end(count) };
};

const inLedger = (
  ledger: Ledger,
  target: string,
  [drop, count]: Ends,
  owner: 'hand' | 'policy:p' = 'hand',
): LedgerEvent => {
  const ends = endsAt(ledger.now(), [drop, count]);
  return { kind: 'wish', target: parsePrefix(target), owner, ...ends, cause: byTest };
};

function inMaps(list: Blocklist, target: string, [drop, count]: Ends, owners = ownerBits.hand): void {
  const end = (seconds: number | null) => (seconds === 0 ? dropNever : endAfter(list.set.now(), seconds));
  list.set.insert(parsePrefix(target), { dropUntil: end(drop), countUntil: end(count), action: 0, owners, scope: 0 });
}

interface Row {
  readonly name: string;
  readonly claim: Ends | null;
  /** A second owner's, which goes on. */
  readonly other?: Ends;
  readonly isWithdrawn?: boolean;
  readonly entry: Ends | null;
  readonly foreign?: 'remove';
  readonly refuses?: true;
  /** By root's own list. */
  readonly forced?: Ends;
  /** What the next one does; nothing, or what is refused stays so. */
  readonly leaves?: Partial<Summary>;
  readonly does: Partial<Summary>;
  readonly after: Ends | null;
}

const rows: readonly Row[] = [
  { name: 'equal', claim: [hour, 0], entry: [hour, 0], does: {}, after: [hour, 0] },
  { name: 'equal for ever', claim: [null, 0], entry: [null, 0], does: {}, after: [null, 0] },
  { name: 'no entry', claim: [hour, 0], entry: null, does: { set: 1 }, after: [hour, 0] },
  { name: 'no entry, watched', claim: [0, hour], entry: null, does: { set: 1 }, after: [0, hour] },
  { name: 'ends too early', claim: [hour, 0], entry: [60, 0], does: { set: 1 }, after: [hour, 0] },
  { name: 'counts too short', claim: [60, hour], entry: [60, 0], does: { set: 1 }, after: [60, hour] },
  { name: 'an entry that has ended', claim: [hour, 0], entry: [-10, 0], does: { set: 1 }, after: [hour, 0] },
  { name: 'ends later', claim: [60, 0], entry: [hour, 0], does: { adopted: 1 }, after: [hour, 0] },
  { name: 'for ever, later than a claim', claim: [60, 0], entry: [null, 0], does: { adopted: 1 }, after: [null, 0] },
  { name: 'withdrawn', claim: [hour, 0], isWithdrawn: true, entry: [hour, 0], does: { removed: 1 }, after: null },
  { name: 'withdrawn and gone', claim: [hour, 0], isWithdrawn: true, entry: null, does: {}, after: null },
  {
    name: "withdrawn, another's goes on",
    claim: [hour, 0],
    other: [60, 0],
    isWithdrawn: true,
    entry: [hour, 0],
    does: { set: 1 },
    after: [60, 0],
  },
  { name: 'unknown', claim: null, entry: [hour, 0], does: { adopted: 1 }, after: [hour, 0] },
  { name: 'ended', claim: [-10, 0], entry: [-10, 0], does: { removed: 1 }, after: null },
  { name: 'ended, the entry lives', claim: [-10, 0], entry: [hour, 0], does: { adopted: 1 }, after: [hour, 0] },
  {
    name: 'ended, the entry lives, to be removed if unknown',
    claim: [-10, 0],
    entry: [hour, 0],
    foreign: 'remove',
    does: { adopted: 1 },
    after: [hour, 0],
  },
  {
    name: 'unknown, to be removed',
    claim: null,
    entry: [hour, 0],
    foreign: 'remove',
    does: { removed: 1 },
    after: null,
  },
  { name: 'unknown and ended', claim: null, entry: [-10, 0], does: {}, after: [0, 0] },
  { name: 'refused', claim: [hour, 0], entry: null, refuses: true, does: { refused: 1 }, after: null },
  {
    name: 'refused, and in force for a shorter time',
    claim: [hour, 0],
    entry: [60, 0],
    refuses: true,
    does: { refused: 1 },
    after: [60, 0],
  },
  { name: 'refused now, and in force', claim: [hour, 0], entry: [hour, 0], refuses: true, does: {}, after: [hour, 0] },
  {
    name: 'refused, and forced by root',
    claim: [hour, 0],
    entry: null,
    refuses: true,
    forced: [hour, 0],
    does: { set: 1 },
    after: [hour, 0],
  },
  {
    name: 'refused, and forced for a shorter time than the ledger says',
    claim: [null, 0],
    entry: null,
    refuses: true,
    forced: [hour, 0],
    does: { set: 1, refused: 1 },
    after: [hour, 0],
    leaves: {},
  },
  {
    name: 'in force as it is forced, and the ledger says longer',
    claim: [10 * hour, 0],
    entry: [hour, 0],
    refuses: true,
    forced: [hour, 0],
    does: { refused: 1 },
    after: [hour, 0],
    leaves: {},
  },
  {
    name: 'forced to be watched, and the ledger says dropped',
    claim: [hour, 0],
    entry: null,
    refuses: true,
    forced: [0, hour],
    does: { refused: 1 },
    after: null,
  },
  {
    name: 'forced, and somebody else wants it longer',
    claim: [hour, 0],
    other: [null, 0],
    entry: null,
    refuses: true,
    forced: [hour, 0],
    does: { set: 1, refused: 1 },
    after: [hour, 0],
    leaves: { stays_refused: 1 },
  },
  {
    name: 'refused, and only somebody else wants what root forces',
    claim: null,
    other: [hour, 0],
    entry: null,
    refuses: true,
    forced: [hour, 0],
    does: { refused: 1 },
    after: null,
  },
  {
    name: 'unblocked, and what is left is refused',
    claim: [2 * hour, 0],
    isWithdrawn: true,
    other: [hour, 0],
    entry: [2 * hour, 0],
    refuses: true,
    does: { refused: 1, removed: 1 },
    after: null,
  },
];

describe.each(['192.0.2.1', '2001:db8::1', '198.51.100.0/24', '2001:db8:1::/48'])('%s', (target) => {
  const pinned = sharedPinned();

  test.each(rows)('$name', (row) =>
    pinned((shared) =>
      withLedger(shared, async (scene) => {
        const { ledger, booked, seconds } = scene;
        if (row.claim !== null) scene.tell(inLedger(ledger, target, row.claim));
        if (row.other !== undefined) scene.tell(inLedger(ledger, target, row.other, 'policy:p'));
        if (row.isWithdrawn === true) {
          scene.tell({ kind: 'withdraw', target: parsePrefix(target), owners: ['hand'], cause: byTest });
        }
        if (row.entry !== null) inMaps(booked, target, row.entry);
        const before = seconds(target);
        const options: Partial<ReconcileOptions> = {
          foreign: row.foreign ?? 'adopt',
          ...(row.refuses === true ? { refuses: () => 'because' } : {}),
          ...(row.forced === undefined ? {} : { forced: (_, now) => endsAt(now, row.forced ?? [0, 0]) }),
        };

        const claims = [...ledger.claims({ state: 'any' })];
        expect(await scene.run({ ...options, dryRun: true })).toEqual({ ...nothing, ...row.does });
        expect([...ledger.claims({ state: 'any' })], 'a dry run writes nothing').toEqual(claims);
        expect(seconds(target)?.map((each) => each && Math.round(each))).toEqual(
          before?.map((each) => each && expect.closeTo(Math.round(each), -1)),
        );

        expect(await scene.run(options)).toEqual({ ...nothing, ...row.does });
        const after = seconds(target);
        if (row.after === null || after === null) expect(after).toEqual(row.after);
        else {
          for (const [index, end] of row.after.entries()) {
            const is = after[index];
            if (end === null || end === 0) expect(is).toBe(end);
            else expect(Math.abs((is ?? 0) - end)).toBeLessThan(15);
          }
        }
        for (const mended of scene.mended)
          expect(mended.why).toBe(mended.mending === 'refused' ? 'because' : undefined);
        // Once is enough: what stays refused is not written down again.
        const written = [...ledger.history()].length;
        const again = row.leaves ?? (row.does.refused === undefined ? {} : { stays_refused: row.does.refused });
        expect(await scene.run(options)).toEqual({ ...nothing, ...again });
        expect([...ledger.history()]).toHaveLength(written);
      }),
    ),
  );
});

describe('reconcile', () => {
  const pinned = sharedPinned();
  const scene = (work: (scene: Scene) => Promise<void>) => pinned((shared) => withLedger(shared, work));

  test('what bpftool wrote is adopted as a claim, and dropped from then on although it came without a hint', () =>
    scene(async ({ lab, ledger, booked, run }) => {
      const target = parsePrefix('203.0.113.0/24');
      const value = encodeBlock({
        ...{ dropUntil: endAfter(booked.set.now(), hour), countUntil: dropNever, action: 0, owners: 0, scope: 0 },
        ...{ prefixLength: 24, packets: 0n, bytes: 0n, lastSeen: 0n },
      });
      const hex = (bytes: Uint8Array): string[] => [
        'hex',
        ...Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')),
      ];
      const map = `${lab.pinDir}/current/blocked_cidr_v4`;
      lab.exec(null, 'bpftool', 'map', 'update', 'pinned', map, 'key', ...hex(keyOf(target)), 'value', ...hex(value));
      expect(booked.set.hintsPrefixes(4)).toBe(false);
      expect(await run()).toEqual({ ...nothing, adopted: 1 });
      expect(booked.set.hintsPrefixes(4)).toBe(true);
      expect(ledger.claimsOf(target)).toMatchObject([{ owner: 'hand', withdrawnAt: null }]);
      await booked.unblock(target, { cause: byTest });
      expect(booked.set.hintsPrefixes(4)).toBe(false);
      expect(await run()).toEqual(nothing);
    }));

  test.each([
    [0, 'hand'],
    [ownerBits.hand | ownerBits.policy, 'hand'],
    [ownerBits.policy, 'policy:adopted'],
    [ownerBits.policy | ownerBits.feed, 'policy:adopted'],
    [ownerBits.feed, 'feed:adopted'],
  ] as const)('owner bits %i are adopted as %s', (bits, owner) =>
    scene(async ({ ledger, booked, run }) => {
      inMaps(booked, '192.0.2.9', [hour, 0], bits);
      await run();
      expect(ledger.claimsOf(parsePrefix('192.0.2.9'))).toMatchObject([{ owner }]);
    }),
  );

  test('ended claims alone go from the ledger', () =>
    scene(async ({ ledger, tell, run }) => {
      const target = parsePrefix('192.0.2.5');
      tell({ kind: 'wish', target, owner: 'hand', dropEnd: ledger.now() - 1, countEnd: never, cause: byTest });
      expect(await run()).toEqual({ ...nothing, ended: 1 });
      expect(ledger.claimsOf(target)).toEqual([]);
      expect(await run()).toEqual(nothing);
    }));

  test('what somebody only watches for longer is not blocked by him when it is adopted', () =>
    scene(async ({ ledger, booked, tell, run }) => {
      const target = parsePrefix('192.0.2.7');
      tell({ kind: 'wish', target, owner: 'feed:f', dropEnd: ledger.now() + 60_000, countEnd: never, cause: byTest });
      // As a hand's --monitor leaves it that could not be written down.
      inMaps(booked, '192.0.2.7', [60, hour], ownerBits.feed | ownerBits.hand);
      expect(await run()).toEqual({ ...nothing, adopted: 1 });
      const [, hand] = ledger.claimsOf(target);
      expect(hand).toMatchObject({ owner: 'hand', dropEnd: never });
      expect(hand?.countEnd).toBeGreaterThan(ledger.now());
    }));

  test('an end that no clock reaches is for ever', () =>
    scene(async ({ tell, run, seconds }) => {
      const target = parsePrefix('192.0.2.8');
      tell({ kind: 'wish', target, owner: 'hand', dropEnd: forEver - 1, countEnd: never, cause: byTest });
      expect(await run()).toMatchObject({ set: 1 });
      expect(seconds('192.0.2.8')).toEqual([null, 0]);
    }));

  test('more than one slice, two reconciles at once', () =>
    scene(async ({ lab, ledger, booked, tell, run, seconds }) => {
      const targets = Array.from({ length: 700 }, (_, i) => `198.18.${i >> 8}.${i & 255}`);
      tell(...targets.map((target) => inLedger(ledger, target, [hour, 0])));
      const other = Blocklist.open(lab.pinDir, { book: bookOf(ledger) });
      const both = await Promise.all([run(), reconcile(other, ledger, { foreign: 'adopt', settleMs: 100 })]);
      other.close();
      expect(both.reduce((sum, { set }) => sum + set, 0)).toBe(700);
      expect(both.every(({ adopted, removed }) => adopted === 0 && removed === 0)).toBe(true);
      for (const target of targets) expect(seconds(target)?.[0]).toBeGreaterThan(hour - 20);
      expect([...booked.entries()]).toHaveLength(700);
    }));

  test('a ledger that is lost in the middle of it costs no drop', () =>
    scene(async ({ ledger, booked, tell, seconds }) => {
      const targets = Array.from({ length: 600 }, (_, i) => `198.18.${i >> 8}.${i & 255}`);
      tell(...targets.map((target) => inLedger(ledger, target, [hour, 0])));
      for (const target of targets.slice(1)) inMaps(booked, target, [hour, 0]);
      // The first is missing in the maps, and mended in the first slice.
      const onMended = ({ mending }: Mended): void => {
        if (mending !== 'set') return;
        for (const suffix of ['', '-wal', '-shm']) rmSync(`${ledger.path}${suffix}`);
      };
      await reconcile(booked, ledger, { foreign: 'adopt', settleMs: 100, onMended });
      for (const target of targets) expect(seconds(target)?.[0], target).toBeGreaterThan(hour - 20);
      expect(await reconcile(booked, ledger, { foreign: 'adopt', settleMs: 100 })).toEqual(nothing);
      expect([...ledger.claims()]).toHaveLength(600);
    }));

  test('a block that is being made meanwhile is no foreign one', () =>
    scene(async ({ ledger, booked, tell, run }) => {
      inMaps(booked, '192.0.2.50', [hour, 0], ownerBits.policy);
      const running = run();
      // Its claim comes within the time that an automatic block takes from the map to the ledger.
      await new Promise((resolve) => setImmediate(resolve));
      tell(inLedger(ledger, '192.0.2.50', [hour, 0], 'policy:p'));
      expect(await running).toEqual(nothing);
      expect(ledger.claimsOf(parsePrefix('192.0.2.50'))).toMatchObject([{ owner: 'policy:p' }]);
    }));

  test('an unblock that overtakes an automatic block is not undone by it', () =>
    scene(async ({ lab, ledger, booked, run }) => {
      const target = parsePrefix('192.0.2.60');
      const automatic = Blocklist.open(lab.pinDir, { book: bookOf(ledger) });
      expect(automatic.blockAtOnce(wish(target, hour, { owner: 'policy:p' }))).toBe('blocked');
      // Before the daemon has verified it, and before its claim is written down.
      await booked.unblock(target, { cause: byTest });
      await automatic.settle();
      automatic.close();
      expect(booked.set.lookup(target)).toBeNull();
      expect([...ledger.claims()]).toEqual([]);
      expect(await run()).toEqual(nothing);
      expect(booked.set.lookup(target)).toBeNull();
    }));
});

test('a purge between an automatic block and its verification loses nothing', () =>
  withPinned((pinned) =>
    withLedger(pinned, async ({ lab, ledger, booked, interfaceName, run }) => {
      const target = parsePrefix('192.0.2.70');
      booked.blockAtOnce(wish(target, hour, { owner: 'policy:p' }));
      lab.detach(null, null, { purge: true });
      lab.attach(null, [interfaceName], { sizes: { addresses: 64, prefixes: 64 } });
      await booked.settle();
      expect(booked.set.lookup(target)).not.toBeNull();
      expect([...ledger.claims()]).toMatchObject([{ owner: 'policy:p' }]);
      expect(await run()).toEqual(nothing);
    }),
  ));

describe('a refusal', () => {
  const pinned = sharedPinned();
  const target = '192.0.2.66';
  const refuses = (): string => 'because';
  const refusals = (ledger: Ledger) =>
    [...ledger.history({ action: 'refused' })].map(({ detail, ends }) => [detail, ends?.dropEnd]);

  test('is written down again when its claim, its end or its reason is another', () =>
    pinned((shared) =>
      withLedger(shared, async ({ ledger, run, tell }) => {
        const first = inLedger(ledger, target, [hour, 0]);
        tell(first);
        expect(await run({ refuses })).toMatchObject({ refused: 1 });
        expect(await run({ refuses })).toMatchObject({ refused: 0, stays_refused: 1 });
        expect(await run({ refuses: () => 'of something else' })).toMatchObject({ refused: 1 });
        expect(await run({ refuses })).toMatchObject({ refused: 1 });
        tell(inLedger(ledger, target, [2 * hour, 0]));
        expect(await run({ refuses })).toMatchObject({ refused: 1 });
        expect(await run({ refuses })).toMatchObject({ refused: 0, stays_refused: 1 });
        expect(refusals(ledger).map(([detail]) => detail)).toEqual([
          'because',
          'because',
          'of something else',
          'because',
        ]);
        // One note a reconcile that did something, none of those that did not.
        expect([...ledger.history({ action: 'reconciled' })]).toHaveLength(4);
      }),
    ));
});
