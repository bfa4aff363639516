import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatPrefix } from '../../../src/address/prefix.ts';
import type { Owner } from '../../../src/blocklist/claims.ts';
import type { Ledger } from '../../../src/blocklist/ledger/ledger.ts';
import {
  type Claim,
  type ClaimFilter,
  type Ends,
  forEver,
  type HistoryFilter,
  type HistoryRow,
  type LedgerEvent,
  longestAlertBytes,
  longestTextBytes,
} from '../../../src/blocklist/ledger/record.ts';
import { at, byAlert, byFile, byHand, Clocks, freshStateDir, hour, noon, openLedger, second, wish } from './place.ts';

const day = 24 * hour;

function begin(): { ledger: Ledger; clocks: Clocks; now: number } {
  const clocks = new Clocks();
  const ledger = openLedger(freshStateDir(), { clocks: clocks.read });
  return { ledger, clocks, now: ledger.now() };
}

const claimText = ({ target, owner, dropEnd, countEnd, withdrawnAt }: Claim): string =>
  `${formatPrefix(target)} ${owner} ${dropEnd} ${countEnd}${withdrawnAt === null ? '' : ' withdrawn'}`;
const all = (ledger: Ledger): string[] => [...ledger.claims({ state: 'any' })].map(claimText);
const rowText = ({ action, target, owner, count }: HistoryRow): string =>
  `${action} ${target === null ? `×${count}` : formatPrefix(target)} ${owner ?? '-'}`;
const told = (ledger: Ledger, filter: HistoryFilter = {}): string[] =>
  [...ledger.history({ oldestFirst: true, ...filter })].map(rowText);

describe('an event', () => {
  const soon = noon + hour;
  const later = noon + 2 * hour;
  const cases: readonly (readonly [
    name: string,
    before: readonly LedgerEvent[],
    event: LedgerEvent,
    outcome: readonly [status: string, owners: readonly Owner[], remaining: readonly Owner[]],
    claims: readonly string[],
    history: readonly string[],
  ])[] = [
    [
      'makes a claim',
      [],
      wish('192.0.2.1', 'hand', soon),
      ['made', ['hand'], []],
      [`192.0.2.1 hand ${soon} 0`],
      ['made 192.0.2.1 hand'],
    ],
    [
      'extends it to the later end',
      [wish('192.0.2.1', 'hand', soon)],
      wish('192.0.2.1', 'hand', later),
      ['extended', ['hand'], []],
      [`192.0.2.1 hand ${later} 0`],
      ['extended 192.0.2.1 hand'],
    ],
    [
      'never shortens it',
      [wish('192.0.2.1', 'hand', later)],
      wish('192.0.2.1', 'hand', soon),
      ['unchanged', [], []],
      [`192.0.2.1 hand ${later} 0`],
      [],
    ],
    [
      'keeps both ends, each to its own',
      [wish('192.0.2.1', 'policy:a', 0, { countEnd: later })],
      wish('192.0.2.1', 'policy:a', soon),
      ['extended', ['policy:a'], []],
      [`192.0.2.1 policy:a ${soon} ${later}`],
      ['extended 192.0.2.1 policy:a'],
    ],
    [
      'replaces both ends exactly',
      [wish('192.0.2.1', 'hand', forEver, { countEnd: later })],
      wish('192.0.2.1', 'hand', soon, { replace: true }),
      ['replaced', ['hand'], []],
      [`192.0.2.1 hand ${soon} 0`],
      ['replaced 192.0.2.1 hand'],
    ],
    [
      'replaces nothing by the same',
      [wish('192.0.2.1', 'hand', soon)],
      wish('192.0.2.1', 'hand', soon, { replace: true }),
      ['unchanged', [], []],
      [`192.0.2.1 hand ${soon} 0`],
      [],
    ],
    [
      'extends its own owner’s claim only',
      [wish('192.0.2.1', 'hand', soon)],
      wish('192.0.2.1', 'feed:x', forEver),
      ['made', ['feed:x'], []],
      [`192.0.2.1 feed:x ${forEver} 0`, `192.0.2.1 hand ${soon} 0`],
      ['made 192.0.2.1 feed:x'],
    ],
    [
      'adopts what was found in the maps',
      [],
      wish('2001:db8::/32', 'hand', forEver, { adopted: true }),
      ['adopted', ['hand'], []],
      [`2001:db8::/32 hand ${forEver} 0`],
      ['adopted 2001:db8::/32 hand'],
    ],
    [
      'begins a claim anew that had ended, and says that it had',
      [wish('192.0.2.1', 'hand', noon - second)],
      wish('192.0.2.1', 'hand', soon),
      ['made', ['hand'], []],
      [`192.0.2.1 hand ${soon} 0`],
      ['ended 192.0.2.1 hand', 'made 192.0.2.1 hand'],
    ],
    [
      'begins a claim anew that was withdrawn, however long it was',
      [wish('192.0.2.1', 'hand', forEver), { kind: 'withdraw', target: at('192.0.2.1'), owners: 'all', cause: byHand }],
      wish('192.0.2.1', 'hand', soon),
      ['made', ['hand'], []],
      [`192.0.2.1 hand ${soon} 0`],
      ['made 192.0.2.1 hand'],
    ],
    [
      'withdraws all but feeds’ claims, and says what remains',
      [wish('192.0.2.1', 'hand', soon), wish('192.0.2.1', 'policy:a', soon), wish('192.0.2.1', 'feed:x', soon)],
      { kind: 'withdraw', target: at('192.0.2.1'), owners: 'all_but_feeds', cause: byHand },
      ['withdrawn', ['hand', 'policy:a'], ['feed:x']],
      [`192.0.2.1 feed:x ${soon} 0`, `192.0.2.1 hand ${soon} 0 withdrawn`, `192.0.2.1 policy:a ${soon} 0 withdrawn`],
      ['withdrawn 192.0.2.1 hand', 'withdrawn 192.0.2.1 policy:a'],
    ],
    [
      'withdraws nothing where only a feed’s lives',
      [wish('192.0.2.1', 'feed:x', soon)],
      { kind: 'withdraw', target: at('192.0.2.1'), owners: 'all_but_feeds', cause: byHand },
      ['unchanged', [], ['feed:x']],
      [`192.0.2.1 feed:x ${soon} 0`],
      [],
    ],
    [
      'withdraws the named owners’ alone, and undoes',
      [wish('192.0.2.1', 'hand', soon), wish('192.0.2.1', 'policy:a', soon)],
      { kind: 'withdraw', target: at('192.0.2.1'), owners: ['policy:a'], action: 'undone', cause: byHand },
      ['undone', ['policy:a'], ['hand']],
      [`192.0.2.1 hand ${soon} 0`, `192.0.2.1 policy:a ${soon} 0 withdrawn`],
      ['undone 192.0.2.1 policy:a'],
    ],
    [
      'lays a tombstone where the ledger knew of no claim',
      [],
      { kind: 'withdraw', target: at('192.0.2.1'), owners: 'all_but_feeds', cause: byHand },
      ['withdrawn', [], []],
      ['192.0.2.1 hand 0 0 withdrawn'],
      ['withdrawn 192.0.2.1 -'],
    ],
    [
      'lays a tombstone where only ended claims are',
      [wish('192.0.2.1', 'feed:x', noon - 1), wish('192.0.2.1', 'hand', noon - 1)],
      { kind: 'withdraw', target: at('192.0.2.1'), owners: 'all_but_feeds', cause: byHand },
      ['unchanged', [], []],
      [`192.0.2.1 feed:x ${noon - 1} 0`, `192.0.2.1 hand ${noon - 1} 0 withdrawn`],
      ['ended 192.0.2.1 hand'],
    ],
    [
      'withdraws once',
      [wish('192.0.2.1', 'hand', soon), { kind: 'withdraw', target: at('192.0.2.1'), owners: 'all', cause: byHand }],
      { kind: 'withdraw', target: at('192.0.2.1'), owners: 'all', cause: byHand },
      ['unchanged', [], []],
      [`192.0.2.1 hand ${soon} 0 withdrawn`],
      [],
    ],
    [
      'buries the tombstones of a target, and no claim',
      [
        wish('192.0.2.1', 'hand', soon),
        wish('192.0.2.1', 'feed:x', soon),
        { kind: 'withdraw', target: at('192.0.2.1'), owners: ['hand'], cause: byHand },
      ],
      { kind: 'bury', target: at('192.0.2.1') },
      ['buried', [], []],
      [`192.0.2.1 feed:x ${soon} 0`],
      [],
    ],
    ['buries nothing where nothing is', [], { kind: 'bury', target: at('192.0.2.1') }, ['unchanged', [], []], [], []],
    [
      'ends what has ended, and leaves the others',
      [
        wish('192.0.2.1', 'hand', noon),
        wish('192.0.2.1', 'policy:a', noon, { countEnd: soon }),
        wish('192.0.2.1', 'feed:x', soon),
      ],
      { kind: 'end', target: at('192.0.2.1') },
      ['ended', ['hand'], ['feed:x', 'policy:a']],
      [`192.0.2.1 feed:x ${soon} 0`, `192.0.2.1 policy:a ${noon} ${soon}`],
      ['ended 192.0.2.1 hand'],
    ],
    [
      'tells of a refusal',
      [],
      { kind: 'refuse', target: at('192.0.2.1'), owner: 'policy:a', detail: 'own_address', cause: byAlert() },
      ['refused', [], []],
      [],
      ['refused 192.0.2.1 policy:a'],
    ],
    [
      'keeps a refusal of several as one row',
      [],
      { kind: 'refuse', target: null, count: 4, owner: 'hand', detail: 'gateway: 192.0.2.1 …', cause: byHand },
      ['refused', [], []],
      [],
      ['refused ×4 hand'],
    ],
    [
      'tells of a reconciliation',
      [],
      { kind: 'note', action: 'reconciled', target: null, owner: null, count: 7, detail: 'removed' },
      ['reconciled', [], []],
      [],
      ['reconciled ×7 -'],
    ],
  ];

  test.each(cases)('%s', (_, before, event, [status, owners, remaining], claims, history) => {
    const { ledger } = begin();
    for (const earlier of before) ledger.apply([{ at: noon - hour, ...earlier }]);
    const seen = told(ledger).length;
    const outcomes = ledger.apply([event]);
    expect(outcomes).toMatchObject([{ status, owners, remaining }]);
    expect(all(ledger)).toEqual(claims);
    expect(told(ledger).slice(seen)).toEqual(history);
    // What it answers is what the history got.
    const rows = [...ledger.history({ oldestFirst: true })].slice(seen);
    expect(outcomes.flatMap((outcome) => outcome.rows ?? [])).toEqual(
      rows.map(({ id, wallMs, action, owner, rule, cause, count }) => {
        return { id, wallMs, action, isOfSet: false, owner, rule, cause, count };
      }),
    );
  });

  test.each([Number.NaN, -1, 1.5, Number.POSITIVE_INFINITY])(
    'with the end %d is refused, and nothing of its batch is kept',
    (end) => {
      const { ledger } = begin();
      expect(() => ledger.apply([wish('192.0.2.1', 'hand', forEver), wish('192.0.2.2', 'hand', end)])).toThrow(
        RangeError,
      );
      expect(all(ledger)).toEqual([]);
      expect(told(ledger)).toEqual([]);
    },
  );

  test('has its own time, else that of the commit; the wall clock’s too', () => {
    const { ledger, clocks, now } = begin();
    clocks.pass(5_000);
    ledger.apply([wish('192.0.2.1', 'hand', forEver, { at: now + 2_000 }), wish('192.0.2.2', 'hand', forEver)]);
    expect([...ledger.history({ oldestFirst: true })].map(({ at: when, wallMs }) => [when, wallMs])).toEqual([
      [now + 2_000, noon + 2_000],
      [now + 5_000, noon + 5_000],
    ]);
  });

  test('tells the ends before and after', () => {
    const { ledger } = begin();
    ledger.apply([wish('192.0.2.1', 'hand', noon + hour)]);
    ledger.apply([wish('192.0.2.1', 'hand', noon + day)]);
    ledger.apply([{ kind: 'withdraw', target: at('192.0.2.1'), owners: 'all', cause: byHand }]);
    const ends = (dropEnd: number): Ends => ({ dropEnd, countEnd: 0 });
    expect([...ledger.history({ oldestFirst: true })].map((row) => [row.before, row.ends])).toEqual([
      [null, ends(noon + hour)],
      [ends(noon + hour), ends(noon + day)],
      [ends(noon + day), null],
    ]);
  });
});

describe('a cause', () => {
  test.each([['hand', byHand] as const, ['alert', byAlert()] as const, ['set', byFile] as const])(
    '%s comes back as it was',
    (_, cause) => {
      const { ledger } = begin();
      ledger.apply([wish('192.0.2.1', 'hand', forEver, { cause })]);
      const [claim] = ledger.claims();
      expect(ledger.cause(claim?.cause ?? -1)).toEqual({ ...cause, causeId: claim?.cause, at: noon, wallMs: noon });
      expect(ledger.cause(999)).toBeNull();
    },
  );

  test('of an alert is cut, and never in the middle of a character', () => {
    const { ledger } = begin();
    const cause = { ...byAlert('r'.repeat(3_000)), alert: `x${'€'.repeat(5_000)}` };
    ledger.apply([wish('192.0.2.1', 'hand', forEver, { cause })]);
    const stored = ledger.cause(1);
    if (stored?.kind !== 'alert') throw new Error('not an alert');
    expect(stored.alert).toBe(`x${'€'.repeat(Math.floor((longestAlertBytes - 1) / 3))}`);
    expect(stored.rule).toHaveLength(longestTextBytes);
  });

  test('of a set has one row of history for each thing done to it, in however many slices', () => {
    const { ledger, clocks } = begin();
    const cause = ledger.addCause(byFile);
    const targets = Array.from({ length: 30 }, (_, n) => `198.51.100.${n}`);
    for (let from = 0; from < 30; from += 10) {
      ledger.apply(targets.slice(from, from + 10).map((target) => wish(target, 'feed:x', noon + hour, { cause })));
    }
    ledger.apply(targets.slice(0, 5).map((target) => wish(target, 'feed:x', noon + 2 * hour, { cause })));
    clocks.pass(hour);
    const ended = ledger.apply(targets.map((target): LedgerEvent => ({ kind: 'end', target: at(target) })));
    expect(told(ledger)).toEqual(['made ×30 feed:x', 'extended ×5 feed:x', 'ended ×25 feed:x']);
    const { id, wallMs } = [...ledger.history({ action: 'ended' })][0] ?? {};
    const row = { id, wallMs, action: 'ended', isOfSet: true, owner: 'feed:x', rule: null, cause, count: 25 };
    expect(ended.flatMap(({ rows = [] }) => rows)).toEqual([row]);
    expect(ledger.size().claims).toBe(5);
  });

  test('stays out where nothing was done', () => {
    const { ledger } = begin();
    ledger.apply([wish('192.0.2.1', 'hand', forEver)]);
    ledger.apply([wish('192.0.2.1', 'hand', forEver)]);
    expect(ledger.cause(1)).not.toBeNull();
    expect(ledger.cause(2)).toBeNull();
  });
});

describe('a filter', () => {
  const rule = 'Inbound SSH Connection';
  function filled(): Ledger {
    const { ledger, clocks } = begin();
    const put = (...events: LedgerEvent[]): void => {
      ledger.apply(events);
      clocks.pass(second);
    };
    put(wish('192.0.2.1', 'hand', noon + 3 * hour));
    put(wish('192.0.2.0/24', 'policy:ssh', noon + hour, { cause: byAlert(rule) }));
    put(wish('192.0.2.7', 'policy:web', 0, { countEnd: noon + 2 * hour, cause: byAlert('other') }));
    put(wish('192.0.0.0/16', 'feed:a', forEver));
    put(wish('2001:db8::1', 'feed:b', noon + 4 * hour));
    put(wish('192.0.2.9', 'hand', noon + 1));
    put({ kind: 'withdraw', target: at('192.0.2.1'), owners: 'all', cause: byHand });
    return ledger;
  }

  const claims: readonly (readonly [ClaimFilter, readonly string[]])[] = [
    [{}, ['192.0.0.0/16', '192.0.2.0/24', '192.0.2.7', '2001:db8::1']],
    [{ state: 'any', limit: 3 }, ['192.0.0.0/16', '192.0.2.0/24', '192.0.2.1']],
    [{ state: 'ended' }, ['192.0.2.9']],
    [{ state: 'withdrawn' }, ['192.0.2.1']],
    [{ within: at('192.0.2.0/24') }, ['192.0.2.0/24', '192.0.2.7']],
    [{ within: at('192.0.2.7') }, ['192.0.2.7']],
    [{ within: at('0.0.0.0/0') }, ['192.0.0.0/16', '192.0.2.0/24', '192.0.2.7']],
    [{ within: at('::/0') }, ['2001:db8::1']],
    [{ owner: 'policy' }, ['192.0.2.0/24', '192.0.2.7']],
    [{ owner: 'policy:web' }, ['192.0.2.7']],
    [{ owner: 'feed' }, ['192.0.0.0/16', '2001:db8::1']],
    [{ owner: 'hand', state: 'any' }, ['192.0.2.1', '192.0.2.9']],
    [{ rule }, ['192.0.2.0/24']],
    [{ mode: 'monitor' }, ['192.0.2.7']],
    [{ mode: 'enforce', owner: 'policy' }, ['192.0.2.0/24']],
    [{ since: noon + 3 * second }, ['192.0.0.0/16', '2001:db8::1']],
    [{ until: noon + 2 * second }, ['192.0.2.0/24']],
    [{ sort: 'end' }, ['192.0.2.0/24', '192.0.2.7', '2001:db8::1', '192.0.0.0/16']],
    [{ sort: 'begin', descending: true, limit: 2 }, ['2001:db8::1', '192.0.0.0/16']],
    [{ sort: 'address', descending: true, limit: 2 }, ['2001:db8::1', '192.0.2.7']],
  ];
  test.each(claims)('of claims %o', (filter, expected) => {
    expect([...filled().claims(filter)].map(({ target }) => formatPrefix(target))).toEqual(expected);
  });

  const history: readonly (readonly [HistoryFilter, readonly string[]])[] = [
    [{ limit: 2, oldestFirst: true }, ['made 192.0.2.9 hand', 'withdrawn 192.0.2.1 hand']],
    [{ limit: 2, oldestFirst: false }, ['withdrawn 192.0.2.1 hand', 'made 192.0.2.9 hand']],
    [{ within: at('192.0.2.1') }, ['made 192.0.2.1 hand', 'withdrawn 192.0.2.1 hand']],
    [{ owner: 'feed' }, ['made 192.0.0.0/16 feed:a', 'made 2001:db8::1 feed:b']],
    [{ rule }, ['made 192.0.2.0/24 policy:ssh']],
    [{ since: noon + 5 * second }, ['made 192.0.2.9 hand', 'withdrawn 192.0.2.1 hand']],
    [{ until: noon + second }, ['made 192.0.2.1 hand']],
    [{ mode: 'monitor' }, ['made 192.0.2.7 policy:web']],
    [{ action: 'withdrawn' }, ['withdrawn 192.0.2.1 hand']],
  ];
  test.each(history)('of history %o', (filter, expected) => {
    expect(told(filled(), filter)).toEqual(expected);
  });

  test('iterates while others are written', () => {
    const ledger = filled();
    let seen = 0;
    for (const { target } of ledger.claims()) {
      ledger.apply([{ kind: 'withdraw', target, owners: 'all', cause: byHand }]);
      seen++;
    }
    expect(seen).toBe(4);
    expect([...ledger.claims()]).toEqual([]);
    for (const _ of ledger.claims({ state: 'any' })) break;
    ledger.tick();
  });
});

describe('slices for reconciliation', () => {
  test.each([1, 2, 3, 100])('of %d targets hold each target whole, once, in order', (limit) => {
    const { ledger } = begin();
    for (let n = 0; n < 7; n++) {
      ledger.apply([
        wish(`192.0.2.${n}`, 'hand', noon + hour),
        wish(`192.0.2.${n}`, 'feed:x', 0, { countEnd: forEver }),
      ]);
    }
    ledger.apply([{ kind: 'withdraw', target: at('192.0.2.3'), owners: ['hand'], cause: byHand }]);
    const seen: string[] = [];
    let after: Uint8Array | null = null;
    do {
      const { targets, next } = ledger.targets(after, limit);
      for (const { target, claims, union, isWithdrawn } of targets) {
        seen.push(`${formatPrefix(target)} ${claims.length} ${union?.dropEnd} ${union?.countEnd} ${isWithdrawn}`);
      }
      after = next;
    } while (after !== null);
    expect(seen).toEqual(
      Array.from({ length: 7 }, (_, n) => `192.0.2.${n} 2 ${n === 3 ? 0 : noon + hour} ${forEver} ${n === 3}`),
    );
    expect([...ledger.tombstones()].map(formatPrefix)).toEqual(['192.0.2.3']);
  });
});

describe('retention', () => {
  const retention = { maxAgeMs: 10 * day, maxBytes: 1 << 30 };
  const pruneAll = (ledger: Ledger, limits = retention): void => {
    for (let n = 0; !ledger.prune(limits).isDone; n++) if (n > 1_000) throw new Error('it never ends');
  };

  test('by age removes history and the causes that nothing needs any more', () => {
    const { ledger, clocks } = begin();
    ledger.apply([wish('192.0.2.1', 'policy:a', noon + hour, { cause: byAlert('gone') })]);
    ledger.apply([wish('192.0.2.2', 'policy:a', forEver, { cause: byAlert('kept') })]);
    const [gone, kept] = [...ledger.history({ oldestFirst: true })].map(({ cause }) => cause ?? -1);
    const unusedSet = ledger.addCause(byFile);
    const usedSet = ledger.addCause(byFile);
    ledger.apply([wish('198.51.100.1', 'feed:x', forEver, { cause: usedSet })]);
    clocks.pass(2 * hour);
    ledger.apply([{ kind: 'end', target: at('192.0.2.1') }]);
    clocks.pass(10 * day - hour);
    pruneAll(ledger);
    // Its end is in the history still, and says why it had been.
    expect(told(ledger)).toEqual(['ended 192.0.2.1 policy:a']);
    expect(ledger.cause(gone ?? -1)).not.toBeNull();
    clocks.pass(2 * hour);
    pruneAll(ledger);
    expect(told(ledger)).toEqual([]);
    expect(ledger.cause(gone ?? -1)).toBeNull();
    expect(ledger.cause(kept ?? -1)).not.toBeNull();
    expect(ledger.cause(unusedSet)).toBeNull();
    expect(ledger.cause(usedSet)).not.toBeNull();
    expect([...ledger.claims()]).toHaveLength(2);
  });

  test('by size removes the oldest, and gives the space back', () => {
    const { ledger } = begin();
    for (let n = 0; n < 40; n++) {
      const cause = { ...byAlert(), alert: 'x'.repeat(4_000) };
      ledger.apply(
        Array.from(
          { length: 50 },
          (_, m): LedgerEvent => ({
            kind: 'refuse',
            target: at(`10.0.${n}.${m}`),
            owner: null,
            detail: 'stale',
            cause,
          }),
        ),
      );
    }
    const before = ledger.size();
    pruneAll(ledger, { maxAgeMs: day, maxBytes: before.bytes / 2 });
    const after = ledger.size();
    expect(after.bytes).toBeLessThanOrEqual(before.bytes / 2);
    expect(after.history).toBeGreaterThan(0);
    expect(told(ledger).at(-1)).toBe('refused 10.0.39.49 -');
    pruneAll(ledger, { maxAgeMs: day, maxBytes: 0 });
    expect(ledger.size().history).toBe(0);
  });
});

describe('any sequence of events', () => {
  interface Model {
    readonly dropEnd: number;
    readonly countEnd: number;
    readonly begun: number;
    readonly withdrawn: boolean;
  }
  const targets = ['192.0.2.1', '192.0.2.0/24', '2001:db8::1'];
  const owners: readonly Owner[] = ['hand', 'policy:a', 'feed:x'];
  const live = (claim: Model, now: number): boolean =>
    !claim.withdrawn && (now < claim.dropEnd || now < claim.countEnd);

  type Step =
    | { readonly kind: 'pass'; readonly ms: number }
    | {
        readonly kind: 'wish';
        readonly target: string;
        readonly owner: Owner;
        readonly drop: number;
        readonly count: number;
        readonly replace: boolean;
      }
    | {
        readonly kind: 'withdraw';
        readonly target: string;
        readonly owners: 'all' | 'all_but_feeds' | readonly Owner[];
      }
    | { readonly kind: 'bury'; readonly target: string }
    | { readonly kind: 'end'; readonly target: string };

  const target = fc.constantFrom(...targets);
  const lasts = fc.constantFrom(0, 1, 5, 20, forEver);
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({ kind: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 10 }) }),
    fc.record({
      kind: fc.constant('wish' as const),
      target,
      owner: fc.constantFrom(...owners),
      drop: lasts,
      count: lasts,
      replace: fc.boolean(),
    }),
    fc.record({
      kind: fc.constant('withdraw' as const),
      target,
      owners: fc.oneof(fc.constantFrom('all' as const, 'all_but_feeds' as const), fc.subarray([...owners])),
    }),
    fc.record({ kind: fc.constant('bury' as const), target }),
    fc.record({ kind: fc.constant('end' as const), target }),
  );

  function act(model: Map<string, Model>, event: Exclude<Step, { kind: 'pass' }>, now: number): void {
    const own = [...model].filter(([key]) => key.startsWith(`${event.target} `));
    if (event.kind === 'bury') {
      for (const [key, claim] of own) if (claim.withdrawn) model.delete(key);
    } else if (event.kind === 'end') {
      for (const [key, claim] of own) if (!claim.withdrawn && !live(claim, now)) model.delete(key);
    } else if (event.kind === 'withdraw') {
      const means = (owner: string): boolean =>
        event.owners === 'all' ||
        (event.owners === 'all_but_feeds' ? !owner.startsWith('feed:') : event.owners.includes(owner as Owner));
      for (const [key, claim] of own) if (means(key.split(' ')[1] ?? '')) model.set(key, { ...claim, withdrawn: true });
      const left = [...model].filter(([key]) => key.startsWith(`${event.target} `)).map(([, claim]) => claim);
      if (!left.some((claim) => claim.withdrawn || live(claim, now))) {
        const key = `${event.target} hand`;
        model.set(key, { ...(model.get(key) ?? { dropEnd: 0, countEnd: 0, begun: now }), withdrawn: true });
      }
    } else {
      const key = `${event.target} ${event.owner}`;
      const end = (ms: number): number => (ms === 0 || ms === forEver ? ms : now + ms);
      const ends = { dropEnd: end(event.drop), countEnd: end(event.count) };
      const before = model.get(key);
      if (before === undefined || !live(before, now)) model.set(key, { ...ends, begun: now, withdrawn: false });
      else if (event.replace) model.set(key, { ...before, ...ends });
      else {
        model.set(key, {
          ...before,
          dropEnd: Math.max(before.dropEnd, ends.dropEnd),
          countEnd: Math.max(before.countEnd, ends.countEnd),
        });
      }
    }
  }

  function eventOf(event: Exclude<Step, { kind: 'pass' }>, now: number, cause: number | typeof byHand): LedgerEvent {
    const whole = at(event.target);
    if (event.kind === 'bury' || event.kind === 'end') return { kind: event.kind, target: whole };
    if (event.kind === 'withdraw') return { kind: 'withdraw', target: whole, owners: event.owners, cause };
    const end = (ms: number): number => (ms === 0 || ms === forEver ? ms : now + ms);
    const { owner, replace, drop, count } = event;
    return { kind: 'wish', target: whole, owner, dropEnd: end(drop), countEnd: end(count), replace, cause };
  }

  test.each([false, true])('leaves the claims that a simple model has (as a set: %s)', (isSet) => {
    const { ledger, clocks } = begin();
    const setCause = ledger.addCause(byFile);
    fc.assert(
      fc.property(fc.array(fc.array(step, { maxLength: 4 }), { maxLength: 12 }), (batches) => {
        // emptied, as a new one would be
        for (const text of targets) {
          ledger.apply([
            { kind: 'withdraw', target: at(text), owners: 'all', cause: byHand },
            { kind: 'bury', target: at(text) },
          ]);
        }
        const model = new Map<string, Model>();
        for (const batch of batches) {
          const now = ledger.now();
          const events: LedgerEvent[] = [];
          let passing = 0;
          for (const each of batch) {
            if (each.kind === 'pass') {
              passing += each.ms;
            } else {
              events.push(eventOf(each, now, isSet ? setCause : byHand));
              act(model, each, now);
            }
          }
          ledger.apply(events);
          clocks.pass(passing);
        }
        const found = new Map(
          [...ledger.claims({ state: 'any' })].map((claim) => [
            `${formatPrefix(claim.target)} ${claim.owner}`,
            {
              dropEnd: claim.dropEnd,
              countEnd: claim.countEnd,
              begun: claim.begun,
              withdrawn: claim.withdrawnAt !== null,
            },
          ]),
        );
        expect(Object.fromEntries(found)).toEqual(Object.fromEntries(model));
        const now = ledger.now();
        const liveNow = [...model].filter(([, claim]) => live(claim, now)).map(([key]) => key);
        expect([...ledger.claims()].map((claim) => `${formatPrefix(claim.target)} ${claim.owner}`).sort()).toEqual(
          liveNow.sort(),
        );
      }),
      { numRuns: 60 },
    );
  });
});
