import { describe, expect, test } from 'vitest';
import {
  type Anchor,
  advance,
  fromWall,
  offsetOf,
  type Reading,
  readClocks,
  toWall,
} from '../../../src/blocklist/ledger/clock.ts';
import { forEver } from '../../../src/blocklist/ledger/record.ts';
import { byHand, Clocks, freshStateDir, hour, noon, openLedger, wish, year } from './place.ts';

const anchor: Anchor = { bootId: 'a', boottimeMs: 50_000, wallMs: noon, ledgerMs: 7_000_000 };
const reading = (rest: Partial<Reading>): Reading => ({ bootId: 'a', boottimeMs: 50_000, wallMs: noon, ...rest });

describe('ledger time', () => {
  const cases: readonly (readonly [name: string, last: Anchor | null, now: Reading, ledgerMs: number])[] = [
    ['begins at the wall clock', null, reading({}), noon],
    ['begins after zero where the wall clock was never set', null, reading({ wallMs: 0 }), 1],
    ['advances with CLOCK_BOOTTIME', anchor, reading({ boottimeMs: 51_000, wallMs: noon + 1_000 }), 7_001_000],
    [
      'does not mind a wall clock ten years on',
      anchor,
      reading({ boottimeMs: 51_000, wallMs: noon + 10 * year }),
      7_001_000,
    ],
    ['does not mind one ten years back', anchor, reading({ boottimeMs: 51_000, wallMs: noon - 10 * year }), 7_001_000],
    ['stands where another process has read it later', anchor, reading({ boottimeMs: 49_990 }), 7_000_000],
    [
      'counts the time the host was down',
      anchor,
      reading({ bootId: 'b', boottimeMs: 9, wallMs: noon + hour }),
      7_000_000 + hour,
    ],
    ['never goes back over a boot', anchor, reading({ bootId: 'b', boottimeMs: 9, wallMs: noon - hour }), 7_000_000],
    [
      'counts nothing on a host whose clock was never set',
      anchor,
      reading({ bootId: 'b', boottimeMs: 9, wallMs: 5_000 }),
      7_000_000,
    ],
    [
      'counts nothing where the clock was not set when it was last seen',
      { ...anchor, wallMs: 60_000 },
      reading({ bootId: 'b', boottimeMs: 9 }),
      7_000_000,
    ],
  ];
  test.each(cases)('%s', (_, last, now, ledgerMs) => {
    expect(advance(last, now).ledgerMs).toBe(ledgerMs);
  });

  test('has the same offset for the whole boot, whoever refreshes the anchor when', () => {
    let moving = anchor;
    for (const boottimeMs of [50_010, 50_005, 50_020, 50_000, 61_000])
      moving = advance(moving, reading({ boottimeMs }));
    expect(offsetOf(moving)).toBe(offsetOf(anchor));
  });

  test('is the wall clock of now for people, both ways', () => {
    const now = advance(anchor, reading({ boottimeMs: 51_000, wallMs: noon + 10 * year }));
    expect(toWall(now, now.ledgerMs + hour)).toBe(noon + 10 * year + hour);
    expect(fromWall(now, toWall(now, 123_456))).toBe(123_456);
  });

  test('is read from this host', () => {
    const first = readClocks();
    const again = readClocks();
    expect(first.bootId).toMatch(/^[0-9a-f-]{36}$/);
    expect(again.bootId).toBe(first.bootId);
    expect(again.boottimeMs).toBeGreaterThanOrEqual(first.boottimeMs);
    expect(Math.abs(Date.now() - again.wallMs)).toBeLessThan(10_000);
  });
});

describe('claims under clocks that are stepped', () => {
  test.each([10 * year, -10 * year])('a step by %d ms ends nothing and prolongs nothing', (step) => {
    const clocks = new Clocks();
    const ledger = openLedger(freshStateDir(), { clocks: clocks.read });
    ledger.apply([wish('192.0.2.1', 'hand', ledger.now() + hour)]);
    clocks.wallMs += step;
    clocks.pass(hour - 1);
    expect([...ledger.claims()]).toHaveLength(1);
    const [claim] = ledger.claims();
    expect(ledger.toWall(claim?.dropEnd ?? 0)).toBe(clocks.wallMs + 1);
    clocks.pass(1);
    expect([...ledger.claims()]).toHaveLength(0);
    expect([...ledger.claims({ state: 'ended' })]).toHaveLength(1);
  });

  test('a step is not taken for down time at the next boot, once it was written down', () => {
    const clocks = new Clocks();
    const stateDir = freshStateDir();
    const ledger = openLedger(stateDir, { clocks: clocks.read });
    ledger.apply([wish('192.0.2.1', 'hand', ledger.now() + hour)]);
    clocks.wallMs += 10 * year;
    ledger.tick();
    ledger.close();
    clocks.reboot(clocks.wallMs + 60_000);
    const after = openLedger(stateDir, { clocks: clocks.read });
    const [claim] = after.claims();
    expect((claim?.dropEnd ?? 0) - after.now()).toBe(hour - 60_000);
  });

  test('after a reboot what is left is what is left', () => {
    const clocks = new Clocks();
    const stateDir = freshStateDir();
    const before = openLedger(stateDir, { clocks: clocks.read });
    const begun = before.now();
    before.apply([wish('192.0.2.1', 'hand', begun + hour, { cause: byHand })]);
    before.close();

    clocks.reboot(clocks.wallMs + hour / 2);
    const later = openLedger(stateDir, { clocks: clocks.read });
    expect(later.now()).toBe(begun + hour / 2);
    const stamp = later.now();
    later.close();

    // a host without a clock of its own
    clocks.reboot(0);
    const lost = openLedger(stateDir, { clocks: clocks.read });
    expect(lost.now()).toBe(stamp);
    expect([...lost.claims()]).toHaveLength(1);
    // and somebody sets it: within the boot that moves nothing
    clocks.wallMs = noon + 10 * year;
    expect(lost.now()).toBe(stamp);
    clocks.pass(hour / 2);
    expect([...lost.claims()]).toHaveLength(0);
  });

  test('a boot with a clock ten years ahead ends what had an end; set right, it ends and prolongs nothing more', () => {
    const clocks = new Clocks();
    const stateDir = freshStateDir();
    const before = openLedger(stateDir, { clocks: clocks.read });
    before.apply([wish('192.0.2.1', 'hand', before.now() + hour), wish('192.0.2.2', 'hand', forEver)]);
    before.close();

    const right = clocks.wallMs + 60_000;
    clocks.reboot(right + 10 * year);
    const ahead = openLedger(stateDir, { clocks: clocks.read });
    expect([...ahead.claims()].map(({ dropEnd }) => dropEnd)).toEqual([forEver]);
    ahead.apply([wish('192.0.2.3', 'hand', ahead.now() + hour)]);
    clocks.wallMs = right;
    expect([...ahead.claims()]).toHaveLength(2);
    clocks.pass(hour / 2);
    expect([...ahead.claims()]).toHaveLength(2);
    ahead.tick();
    ahead.close();

    clocks.reboot(clocks.wallMs + 60_000);
    const after = openLedger(stateDir, { clocks: clocks.read });
    const left = [...after.claims()].map(({ dropEnd }) => (dropEnd === forEver ? forEver : dropEnd - after.now()));
    expect(left).toEqual([forEver, hour / 2 - 60_000]);
  });

  test('a boot with a clock ten years behind, set right later: only the time it was down is not counted', () => {
    const clocks = new Clocks();
    const stateDir = freshStateDir();
    const before = openLedger(stateDir, { clocks: clocks.read });
    before.apply([wish('192.0.2.1', 'hand', before.now() + hour)]);
    before.close();

    const right = clocks.wallMs + 600_000;
    clocks.reboot(right - 10 * year);
    const behind = openLedger(stateDir, { clocks: clocks.read });
    const left = () => [...behind.claims()].map(({ dropEnd }) => dropEnd - behind.now());
    expect(left()).toEqual([hour]);
    clocks.pass(60_000);
    clocks.wallMs = right + 60_000;
    expect(left()).toEqual([hour - 60_000]);
    behind.close();

    // It goes down before anybody has written down that the clock was set: the next start counts nothing either.
    clocks.reboot(clocks.wallMs + 60_000);
    const after = openLedger(stateDir, { clocks: clocks.read });
    expect([...after.claims()].map(({ dropEnd }) => dropEnd - after.now())).toEqual([hour]);
  });

  test('those who open it in the same boot have the same time', () => {
    const clocks = new Clocks();
    const stateDir = freshStateDir();
    const one = openLedger(stateDir, { clocks: clocks.read });
    one.tick();
    clocks.reboot(clocks.wallMs + hour);
    const two = openLedger(stateDir, { clocks: clocks.read });
    clocks.wallMs -= 10 * year;
    const three = openLedger(stateDir, { clocks: clocks.read });
    expect(three.now()).toBe(two.now());
    expect(one.now()).toBe(two.now());
  });
});
