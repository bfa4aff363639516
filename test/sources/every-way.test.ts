/** What becomes of an alert does not depend on the way it came: every recorded one, over every way. */
import { afterAll, expect, test } from 'vitest';
import { formatAddress } from '../../src/address/address.ts';
import { parseAlert } from '../../src/alert/alert.ts';
import { identityOf } from '../../src/alert/identity.ts';
import { openGlance } from '../../src/daemon/glance.ts';
import type { HostFacts } from '../../src/judge/host-facts.ts';
import { defaultRules, judge } from '../../src/judge/judge.ts';
import { type Arrival, Intake, intakeLimits } from '../../src/sources/intake.ts';
import { ownAddresses } from '../alert/recordings.ts';
import { bareHost, setOf } from '../judge/host.ts';
import { until } from '../kernel/lab.ts';
import { bring, closeWays, recordedLines, ways } from './every-way.ts';

const host: HostFacts = { ...bareHost, own: setOf(...ownAddresses) };
const state = { automatic: 'monitor' } as const;
const lines = recordedLines();
afterAll(closeWays);

function verdictOf({ alert, source }: Pick<Arrival, 'alert' | 'source'>): Readonly<Record<string, unknown>> {
  const nowMs = Number((alert.timeNs ?? 0n) / 1_000_000n);
  const { offender, ...decision } = judge(alert, host, defaultRules, state, nowMs, source);
  return { ...decision, offender: offender === null ? null : formatAddress(offender), priority: alert.priority };
}

const expected = lines.map((line) => {
  const alert = parseAlert(line, 'local');
  if ('problem' in alert) throw new Error(alert.problem);
  return verdictOf({ alert, source: { name: '', remote: false, fleetHosts: new Set() } });
});

test('the recordings are many, and of every verdict', () => {
  expect(lines.length).toBeGreaterThan(850);
  for (const wanted of ['block', 'ignore', 'refuse']) {
    expect(expected.filter(({ verdict }) => verdict === wanted).length).toBeGreaterThan(50);
  }
});

test.each(Object.entries(ways))('%s', async (_name, way) => {
  const verdicts: Readonly<Record<string, unknown>>[] = [];
  const intake = new Intake((arrival) => verdicts.push(verdictOf(arrival)), intakeLimits, { remembers: false });
  await bring(way, lines, intake, () => until('all alerts', () => verdicts.length >= lines.length));
  const differences = verdicts.flatMap((verdict, n) => {
    const difference = { n, line: lines[n], verdict, expected: expected[n] };
    return JSON.stringify(verdict) === JSON.stringify(expected[n]) ? [] : [difference];
  });
  expect(differences).toEqual([]);
  expect(verdicts).toHaveLength(lines.length);
});

test('over all ways, one after the other, each alert that can be told from others is judged once', async () => {
  const judged: Arrival[] = [];
  const accusing = { facts: () => host, rules: defaultRules, state, blocklist: { holds: () => false } };
  const intake = new Intake((arrival) => judged.push(arrival), intakeLimits, { glance: openGlance(accusing) });
  let brought = 0;
  const taken = (): number =>
    Object.values(intake.counts()).reduce((sum, { duplicate, decided }) => sum + duplicate + decided, 0);
  const nameOf = ({ alert }: Arrival): string | null => {
    const identity = identityOf(alert, { a: 1, b: 2 });
    return identity === null ? null : `${identity.a} ${identity.b}`;
  };
  for (const way of Object.values(ways)) {
    brought += lines.length;
    await bring(way, lines, intake, () => until('all alerts', () => taken() >= brought));
  }
  expect(taken()).toBe(brought);
  expect(Object.values(intake.counts()).reduce((sum, { shed, bad }) => sum + shed + bad, 0)).toBe(0);
  const known = judged.map(nameOf).filter((name) => name !== null);
  expect(new Set(known).size).toBe(known.length);
  expect(known.length).toBeGreaterThan(400);
});
