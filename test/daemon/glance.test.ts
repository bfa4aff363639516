import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Alert, parseAlert } from '../../src/alert/alert.ts';
import { sourceOf } from '../../src/alert/source.ts';
import { openGlance } from '../../src/daemon/glance.ts';
import { defaultRules } from '../../src/judge/judge.ts';
import { Intake } from '../../src/sources/intake.ts';
import { canary } from './double.ts';
import { hostOf } from './host.ts';

const source = sourceOf('http');

function alertOf(text: string): Alert {
  const alert = parseAlert(text, 'local');
  if ('problem' in alert) throw new Error(alert.problem);
  return alert;
}

function open({ automatic = 'enforce' as 'enforce' | 'monitor', facts = () => hostOf('203.0.113.10') } = {}) {
  const asked: [number[], string][] = [];
  const glance = openGlance({
    facts,
    rules: defaultRules,
    state: { automatic },
    blocklist: {
      holds: ({ bytes }, mode) => {
        asked.push([[...bytes], mode]);
        return bytes[3] === 9;
      },
    },
  });
  const accuse = (text: string) => glance.accuse(alertOf(text), source);
  return { glance, accuse, asked };
}

describe('what the queue is told', () => {
  test('the same offender by the same name, and whether he is blocked', () => {
    const { accuse, asked } = open();
    const [seven, again, nine] = [
      accuse(canary('198.51.100.7')),
      accuse(canary('198.51.100.7')),
      accuse(canary('198.51.100.9')),
    ];
    expect(seven).toEqual(again);
    expect(seven).toMatchObject({ acts: true, isBlocked: false });
    expect(nine).toMatchObject({ acts: true, isBlocked: true });
    expect(nine?.offender).not.toBe(seven?.offender);
    expect(asked).toContainEqual([[198, 51, 100, 9], 'enforce']);
  });

  test('an IPv6 address has a name of its own', () => {
    const { accuse } = open();
    const names = ['2001:db8::1', '2001:db8::2'].map((client) => {
      const text = canary('198.51.100.7')
        .replaceAll('198.51.100.7', client)
        .replaceAll('203.0.113.10', '2001:db8:1::1');
      return accuse(text)?.offender;
    });
    expect(new Set(names).size).toBe(2);
    expect(names[0]).toHaveLength(16);
  });

  test('who only watches, asks whether he is watched; there monitor is all that a rule can do', () => {
    const { accuse, asked } = open({ automatic: 'monitor' });
    expect(accuse(canary('198.51.100.7', { rule: 'Inbound SSH Connection' }))).toMatchObject({ acts: true });
    expect(asked).toEqual([[[198, 51, 100, 7], 'monitor']]);
    expect(open().accuse(canary('198.51.100.7', { rule: 'Inbound SSH Connection' }))).toMatchObject({ acts: false });
    expect(accuse(canary('198.51.100.7', { rule: 'x' }))).toMatchObject({ acts: false });
  });

  test('nobody', () => {
    const { accuse } = open();
    for (const text of ['{"rule":"x"}', canary('203.0.113.10'), canary('198.51.100.7', { hostname: 'other' })]) {
      expect(accuse(text)).toBe(null);
    }
  });

  test('whose host', () => {
    const { glance } = open();
    const isOurs = (hostname: string, of = source) => glance.isOurs(alertOf(canary('198.51.100.7', { hostname })), of);
    expect([isOurs('edge'), isOurs('other')]).toEqual([true, false]);
    expect(isOurs('other', sourceOf('x', { remote: true, fleetHosts: ['other'] }))).toBe(true);
  });

  test('an error of ours is met when it is judged', () => {
    const { glance, accuse } = open({
      facts: () => {
        throw new Error('a bug');
      },
    });
    expect(accuse(canary('198.51.100.7'))).toBe(null);
    expect(glance.isOurs(alertOf(canary('198.51.100.7')), source)).toBe(true);
  });
});

describe('whatever a sender sends', () => {
  const value = fc.oneof(fc.jsonValue(), fc.string(), fc.constantFrom('<NA>', '(a,b)', '1->2', '::1:1->::2:2'));
  const key = fc.oneof(
    fc.constantFrom(
      'evt.type',
      'fd.name',
      'fd.cip',
      'fd.sip',
      'fd.cport',
      'fd.type',
      'fd.l4proto',
      '__proto__',
      'fd.x',
    ),
    fc.string(),
  );
  const alert = fc.record({
    rule: fc.oneof(fc.constantFrom('Connection to Canary Port', 'x'.repeat(5_000)), value),
    time: fc.oneof(fc.constantFrom('2026-11-21T20:15:57.7Z', '9999-12-31T23:59:59Z', '0000-01-01T00:00:00Z'), value),
    hostname: fc.oneof(fc.constantFrom('edge', 'other'), value),
    output_fields: fc.oneof(fc.dictionary(key, value), value),
  });

  test('is no error, and every one of it is counted', async () => {
    const { glance } = open();
    await fc.assert(
      fc.asyncProperty(fc.array(alert, { maxLength: 20 }), async (alerts) => {
        // With so few places everybody is asked about.
        const intake = new Intake(() => undefined, { alerts: 8, characters: 20_000 }, { glance });
        for (const each of alerts) {
          intake.push(JSON.stringify(each), 'text', 'network', 0n);
          intake.pushValue(each, 'x', 'value', 'network', 0n);
        }
        await intake.idle();
        for (const { received, bad, duplicate, shed, decided } of Object.values(intake.counts())) {
          expect(received).toBe(alerts.length);
          expect(bad + duplicate + shed + decided).toBe(alerts.length);
        }
      }),
    );
  });
});
