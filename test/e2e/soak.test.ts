/** Some seconds of `make soak`, and that it sees what it is there to see. */
import { describe, expect, test } from 'vitest';
import * as model from '../../scripts/soak/model.ts';
import { soak } from '../../scripts/soak/soak.ts';
import { parsePrefix } from '../../src/address/prefix.ts';
import { Blocklist } from '../../src/blocklist/blocklist.ts';

describe('the soak', () => {
  test('of 10 seconds: nothing is lost, leaks or returns', async () => {
    // Always the same, as far as the scheduler lets it: `make soak` is there to look further.
    const seed = 7;
    const { failures, counts, packetsPerSecond } = await soak(10, seed);
    process.stdout.write(`SOAK_SEED=${seed}: ${packetsPerSecond} packets/s, ${JSON.stringify(counts)}\n`);
    expect({ seed, failures }).toEqual({ seed, failures: [] });
    expect(counts['quiet point']).toBeGreaterThan(0);
    expect(packetsPerSecond).toBeGreaterThan(10_000);
  });

  test.each([
    [
      'an entry that somebody removes is lost',
      /^lost: /,
      (list: Blocklist) => {
        for (const { target } of [...list.entries()]) list.set.remove(target);
      },
    ],
    [
      'a program that looks at nothing leaks',
      /^leaked: /,
      (list: Blocklist) => {
        for (const { target } of [...list.entries()]) {
          const ends = { dropUntil: 0n, countUntil: 2n ** 64n - 1n, action: 0, owners: 1, scope: 0 };
          list.set.change('set', target, ends);
        }
      },
    ],
    [
      'an entry that nobody wanted has returned',
      /^returned: /,
      (list: Blocklist) => {
        const ends = { dropUntil: 2n ** 64n - 1n, countUntil: 0n, action: 0, owners: 1, scope: 0 };
        for (let i = 0; i < 60; i++) list.set.insert(parsePrefix(`10.99.0.${i}`), ends);
        list.set.insert(parsePrefix('10.98.0.1'), ends);
      },
    ],
  ])('%s', async (_, words, spoil) => {
    const betray = (pinDir: string): void => {
      const list = Blocklist.open(pinDir);
      spoil(list);
      list.close();
    };
    const { failures } = await soak(60, 7, { betray, isQuiet: true, isCalm: true, stepsBetween: 2 });
    expect(failures.length).toBeGreaterThan(0);
    expect(failures.some((failure) => words.test(failure))).toBe(true);
  });
});

describe('the model', () => {
  const at = 1_000_000;
  const hour = { earliest: at + 3_600_000, latest: at + 3_601_000 };
  const forEver = { earliest: Number.POSITIVE_INFINITY, latest: Number.POSITIVE_INFINITY };
  const byFeed = model.blocked(model.noClaims, 'feed', forEver, true);
  const byHand = model.blocked(model.noClaims, 'hand', hour, true);
  const unblocked = model.withdrawn(byHand, ['hand', 'policy'], true);
  const both = (claims: model.Claims) => [model.mustDrop(claims, at), model.mustPass(claims, at)];

  test.each<[string, model.Claims, [drop: boolean, pass: boolean]]>([
    ['nothing', model.noClaims, [false, true]],
    ['an acknowledged block', model.blocked(model.noClaims, 'hand', hour, true), [true, false]],
    ['one that was killed', model.blocked(model.noClaims, 'hand', hour, false), [false, false]],
    [
      'an unblock',
      model.withdrawn(model.blocked(model.noClaims, 'hand', hour, true), ['hand', 'policy'], true),
      [false, true],
    ],
    [
      'an unblock that was killed',
      model.withdrawn(model.blocked(model.noClaims, 'hand', hour, true), ['hand', 'policy'], false),
      [false, false],
    ],
    [
      "a hand's unblock beside a feed",
      model.withdrawn(model.blocked(model.noClaims, 'feed', hour, true), ['hand', 'policy'], true),
      [true, false],
    ],
    [
      'a shorter end',
      model.replaced(
        model.blocked(model.noClaims, 'hand', hour, true),
        'hand',
        { earliest: at - 9_000, latest: at - 9_000 },
        true,
      ),
      [false, true],
    ],
    [
      'an end within the margin',
      model.blocked(model.noClaims, 'hand', { earliest: at, latest: at }, true),
      [false, false],
    ],
    ['a block whose ledger was begun anew', model.rebuilt(byHand), [true, false]],
    ['nothing, in a ledger begun anew', model.rebuilt(unblocked), [false, true]],
    [
      "a hand's unblock when nobody knows whose the block was",
      model.withdrawn(model.rebuilt(byFeed), ['hand', 'policy'], true),
      [false, false],
    ],
    [
      "a feed's block that an unblock paused, when the ledger was begun anew before it was told",
      model.rebuilt(model.unsureOf(model.withdrawn(byFeed, ['hand', 'policy'], false))),
      [false, false],
    ],
    [
      'an unblock of all when nobody knows whose the block was',
      model.withdrawn(model.rebuilt(byFeed), model.owners, true),
      [false, true],
    ],
    ['what was unblocked before the log was lost', model.rolledBack(unblocked, hour.latest, true), [false, false]],
    ['what was never blocked when the log was lost', model.rolledBack(unblocked, 0, false), [false, true]],
    ['a block before the log was lost', model.rolledBack(byHand, hour.latest, false), [true, false]],
    ['a block after an unblock when the log was lost', model.rolledBack(byHand, hour.latest, true), [false, false]],
    ['an end that the clock has passed over a boot', model.moved(byHand, -7_200_000, -7_200_000), [false, true]],
    ['for ever, whatever the clock did over a boot', model.moved(byFeed, -7_200_000, -7_200_000), [true, false]],
    ['what was seen in the ledger', model.observed({ policy: hour.earliest }), [true, false]],
    ['what was seen not to be there', model.observed({}), [false, true]],
  ])('%s', (_, claims, expected) => {
    expect(both(claims)).toEqual(expected);
  });
});
