/** A million alerts: which are lost, and what is held meanwhile. */
import { describe, expect, test } from 'vitest';
import { type Glance, Intake, intakeLimits } from '../../src/sources/intake.ts';

const flood = 1_000_000;

/** `OFFENDER RULE`; rule 0 acts. */
const told: Glance = {
  isOurs: () => true,
  accuse: ({ rule }) => {
    const space = rule.indexOf(' ');
    const offender = rule.slice(0, space);
    return offender === '' ? null : { offender, acts: rule.endsWith(' 0'), isBlocked: false };
  },
};

function open() {
  const judged = new Set<string>();
  let most = { alerts: 0, characters: 0, pairs: 0 };
  const intake = new Intake(({ alert: { rule } }) => judged.add(rule), intakeLimits, { glance: told });
  const push = (n: number, offender: string, rule: number, source = `source ${n % 3}`): void => {
    intake.pushValue({ rule: `${offender} ${rule}`, time: { seconds: '1', nanos: n } }, text, source, 'network', 0n);
    const { held } = intake;
    most = {
      alerts: Math.max(most.alerts, held.alerts),
      characters: Math.max(most.characters, held.characters),
      pairs: Math.max(most.pairs, held.pairs),
    };
  };
  return { intake, judged, push, most: () => most };
}

const text = 'x'.repeat(1_000);

/** Pseudo-random and the same each time (Knuth's multiplier). */
const scattered = (n: number, below: number): number => (Math.imul(n, 2_654_435_761) >>> 8) % below;

/** Not the offender's own: each of them is accused of all. */
const ruleOf = (n: number): number => scattered(n ^ 0x5bd1e995, 10);

describe('a flood of a million alerts', () => {
  test.each([
    ['all at once', Number.POSITIVE_INFINITY],
    ['the judge having his turns', 20_000],
  ])(
    'over half as many offenders as places, of ten rules, %s: no offender is lost, nor his alert that acts',
    async (_name, turnEvery) => {
      const { intake, judged, push, most } = open();
      const offenders = intakeLimits.alerts / 2;
      for (let n = 0; n < flood; n++) {
        // A third of it accuses nobody.
        push(n, n % 3 === 2 ? '' : `o${scattered(n, offenders)}`, ruleOf(n));
        if (n % turnEvery === turnEvery - 1) await new Promise(setImmediate);
      }
      await intake.idle();
      const expected = new Set<string>();
      const acting = new Set<string>();
      for (let n = 0; n < flood; n++) {
        if (n % 3 === 2) continue;
        expected.add(`o${scattered(n, offenders)}`);
        if (ruleOf(n) === 0) acting.add(`o${scattered(n, offenders)} 0`);
      }
      const named = new Set([...judged].map((rule) => rule.split(' ')[0]));
      expect([...expected].filter((offender) => !named.has(offender))).toEqual([]);
      expect([...acting].filter((rule) => !judged.has(rule))).toEqual([]);
      expect(expected.size).toBeGreaterThan(4_000);
      expect(most().alerts).toBeLessThanOrEqual(intakeLimits.alerts);
      expect(Object.values(intake.counts()).reduce((sum, { shed }) => sum + shed, 0)).toBeGreaterThan(100_000);
    },
  );

  test('of a million offenders: what is held has a limit, and another source is heard', async () => {
    const { intake, judged, push, most } = open();
    for (let n = 0; n < flood; n++) {
      push(n, `o${n}`, n % 10, 'flood');
      if (n % 100_000 === 50_000) push(n, `quiet${n}`, 1, 'quiet');
      if (n % 20_000 === 0) await new Promise(setImmediate);
    }
    await intake.idle();
    expect([...judged].filter((rule) => rule.startsWith('quiet'))).toHaveLength(10);
    expect(most().alerts).toBeLessThanOrEqual(intakeLimits.alerts);
    expect(most().characters).toBeLessThanOrEqual(intakeLimits.characters);
    // Of those that wait, and of two seconds of those that were judged.
    expect(most().pairs).toBeLessThanOrEqual(intakeLimits.alerts + 2 * 16_384);
    expect(intake.held).toMatchObject({ alerts: 0, characters: 0 });
    expect(intake.counts().quiet).toMatchObject({ received: 10, shed: 0, decided: 10 });
  });
});
