import { afterEach, describe, expect, test } from 'vitest';
import { formatPrefix } from '../../src/address/prefix.ts';
import { parseAlert } from '../../src/alert/alert.ts';
import { sourceOf } from '../../src/alert/source.ts';
import { type Alerts, openAlerts } from '../../src/daemon/alerts.ts';
import { Repeats } from '../../src/daemon/repeats.ts';
import { cleanText } from '../../src/daemon/text.ts';
import { FalcodropError } from '../../src/errors.ts';
import { defaultRules } from '../../src/judge/judge.ts';
import type { Arrival } from '../../src/sources/intake.ts';
import { inUse } from '../sources/in-use.ts';
import { blocklistDouble, canary, logDouble } from './double.ts';
import { hostOf } from './host.ts';

const opened: Alerts[] = [];
afterEach(() => {
  for (const alerts of opened.splice(0)) alerts.endPeriod();
});

function open({
  automatic = 'enforce' as const,
  act = (): 'blocked' | 'extended' => 'blocked',
  facts = () => hostOf('203.0.113.10'),
}: {
  automatic?: 'enforce' | 'monitor';
  act?: Parameters<typeof blocklistDouble>[0];
  facts?: () => ReturnType<typeof hostOf>;
} = {}) {
  const log = logDouble();
  const blocklist = blocklistDouble(act);
  let written = 0;
  const alerts = openAlerts({
    facts,
    rules: { ...defaultRules, maxAlertAgeSeconds: 0 },
    state: { automatic },
    blocklist,
    logger: log.logger,
    clock: { now: () => Date.UTC(2026, 0, 1) },
    onWritten: () => written++,
  });
  opened.push(alerts);
  const take = (text: string): void => {
    const alert = parseAlert(text, 'local');
    if ('problem' in alert) throw new Error(alert.problem);
    const arrival: Arrival = { alert, text, source: sourceOf('test'), receivedNs: process.hrtime.bigint() };
    alerts.take(arrival);
  };
  return { log, blocklist, alerts, take, written: () => written };
}

test('an enforced rule is written at once and said with its end and its time', () => {
  const { log, blocklist, take, written } = open();
  take(canary('198.51.100.7'));
  expect(blocklist.wishes.map((wish) => ({ ...wish, target: formatPrefix(wish.target) }))).toEqual([
    {
      target: '198.51.100.7',
      owner: 'policy:canary-port',
      mode: 'enforce',
      seconds: 3600,
      cause: expect.objectContaining({ kind: 'alert', rule: 'Connection to Canary Port', policy: 'canary-port' }),
    },
  ]);
  expect(written()).toBe(1);
  expect(log.of('decision')).toEqual([
    expect.objectContaining({
      level: 'info',
      rule: 'Connection to Canary Port',
      offender: '198.51.100.7',
      verdict: 'block',
      action: 'enforce',
      applied: 'enforce',
      outcome: 'blocked',
      reason: 'offender',
      policy: 'canary-port',
      ends: '2026-01-01T01:00:00.000Z',
      source: 'test',
      usFromReceived: expect.any(Number),
    }),
  ]);
});

test('of a long alert no more is kept for the ledger than that writes down', () => {
  const { blocklist, take } = open();
  const long = 'x'.repeat(200_000);
  const before = inUse();
  for (let n = 0; n < 50; n++) {
    take(canary(`198.51.100.${n}`, { uuid: `${n}${long}`, hostname: 'edge', priority: `p${long}`, output: long }));
  }
  expect(blocklist.wishes).toHaveLength(50);
  for (const { cause } of blocklist.wishes) expect(JSON.stringify(cause).length).toBeLessThan(12_000);
  // Of 30 MB of text.
  expect(inUse() - before).toBeLessThan(4 << 20);
});

test('it ships watching: automatic monitor caps the action', () => {
  const { log, blocklist, take } = open({ automatic: 'monitor' });
  take(canary('198.51.100.7'));
  expect(blocklist.wishes.map(({ mode }) => mode)).toEqual(['monitor']);
  expect(log.of('decision')[0]).toMatchObject({ action: 'enforce', applied: 'monitor' });
});

describe('what sets nothing', () => {
  test.each([
    ['own address', canary('203.0.113.10'), { verdict: 'refuse', reason: 'own_address', outcome: null }],
    ['private', canary('10.0.0.7'), { verdict: 'refuse', reason: 'private', outcome: null }],
    [
      'observed',
      canary('198.51.100.7', { rule: 'Some rule' }),
      { verdict: 'block', applied: 'observe', outcome: 'observed' },
    ],
    ['another host', canary('198.51.100.7', { hostname: 'other' }), { verdict: 'refuse', reason: 'other_host' }],
    ['no network', '{"rule":"Shell"}', { verdict: 'ignore', offender: null }],
  ])('%s', (_name, text, line) => {
    const { log, blocklist, take } = open();
    take(text);
    expect(blocklist.wishes).toEqual([]);
    expect(log.of('decision')[0]).toMatchObject({ ...line, ends: null });
  });
});

test('the same refusal is said once a period, with a count; a block is said every time', () => {
  const { log, alerts, take } = open();
  for (let n = 0; n < 5; n++) {
    take(canary('203.0.113.10'));
    take(canary('198.51.100.7'));
  }
  take(canary('10.0.0.7'));
  expect(log.of('decision').map(({ offender }) => offender)).toEqual([
    '203.0.113.10',
    ...Array.from({ length: 5 }, () => '198.51.100.7'),
    '10.0.0.7',
  ]);
  alerts.endPeriod();
  expect(log.of('repeated')).toEqual([
    expect.objectContaining({
      cause: expect.stringContaining('refuse own_address: Connection to Canary Port'),
      times: 4,
    }),
  ]);
  take(canary('203.0.113.10'));
  expect(log.of('decision')).toHaveLength(8);
  expect(alerts.counts()).toEqual({ judged: 12, blocked: 5, refused: 7, ignored: 0, failed: 0, errors: 0 });
});

test('a flood of offenders hides neither a block nor an error', () => {
  let isFull = false;
  const { log, take } = open({
    act: () => {
      if (isFull) throw new FalcodropError('map_full', 'blocked_v4 is full');
      return 'blocked';
    },
  });
  const flood = (rule: string, network: string) => {
    for (let n = 0; n < 2_000; n++) take(canary(`${network}.${n >> 8}.${n & 255}`, { rule }));
  };
  flood('Some rule', '198.51');
  expect(log.of('decision')).toHaveLength(1_024);
  flood('Connection to Canary Port', '198.52');
  expect(log.of('decision')).toHaveLength(1_024 + 2_000);
  isFull = true;
  flood('Connection to Canary Port', '198.53');
  expect(log.of('block failed')).toHaveLength(1);
});

test('a map that refuses is an error line a period, and the next alert goes on', () => {
  const { log, alerts, take } = open({
    act: () => {
      throw new FalcodropError('map_full', 'blocked_v4 is full', 'make room');
    },
  });
  take(canary('198.51.100.7'));
  take(canary('198.51.100.8'));
  expect(log.of('block failed')).toEqual([
    expect.objectContaining({ level: 'error', code: 'map_full', error: 'blocked_v4 is full', hint: 'make room' }),
  ]);
  expect(log.of('decision').map(({ outcome, ends }) => [outcome, ends])).toEqual([
    ['failed', null],
    ['failed', null],
  ]);
  expect(alerts.counts()).toMatchObject({ failed: 2, blocked: 0 });
  alerts.endPeriod();
  expect(log.of('repeated')).toEqual([
    expect.objectContaining({ level: 'error', cause: 'block failed: map_full', times: 1 }),
  ]);
});

test('an error of ours is caught, counted and said with the alert’s hash', () => {
  const { log, alerts, take } = open({
    facts: () => {
      throw new Error('a bug\u009b31m');
    },
  });
  take(canary('198.51.100.7'));
  expect(log.of('alert not judged')).toEqual([
    expect.objectContaining({
      level: 'error',
      alert: expect.stringMatching(/^[0-9a-f]{64}$/),
      error: 'a bug\\u009b31m',
    }),
  ]);
  expect(alerts.counts()).toMatchObject({ judged: 1, errors: 1 });
});

test('hostile text reaches the log harmless and short', () => {
  const { log, take } = open();
  const rule = `Connection\u001b[31m\r\n{"msg":"fake"}\u009b2J\u202e\u0000${'x'.repeat(5_000)}`;
  take(canary('198.51.100.7', { rule, hostname: null }));
  const [text = ''] = log.texts;
  expect(log.texts).toHaveLength(1);
  expect(text.length).toBeLessThan(1_500);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that they are absent is what is tested
  expect(text.trimEnd()).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
  const [line] = log.of('decision');
  expect(String(line?.rule).startsWith('Connection\u001b[31m\r\n{"msg":"fake"}\\u009b2J\\u202e')).toBe(true);
});

test('the same goes for what a repeated cause is called', () => {
  const { log, alerts, take } = open();
  for (let n = 0; n < 2; n++) take(canary('10.0.0.7', { rule: `r\u009b${'x'.repeat(5_000)}` }));
  alerts.endPeriod();
  expect(String(log.of('repeated')[0]?.cause)).toMatch(/^refuse private: r\\u009bx{1,200}… \(10\.0\.0\.7\)$/);
});

test.each([
  ['short', 10, 'short'],
  ['0123456789', 4, '0123…'],
  ['a\u{1f600}', 2, 'a…'],
  ['\u007f\u0085\u009b\u2028\u202e\u2066\ufeff', 100, '\\u007f\\u0085\\u009b\\u2028\\u202e\\u2066\\ufeff'],
  ['grüße \u{1f600}', 100, 'grüße \u{1f600}'],
])('cleanText(%j, %j)', (text, longest, clean) => {
  expect(cleanText(text, longest)).toBe(clean);
});

test('causes without number are counted together', () => {
  const repeats = new Repeats();
  let said = 0;
  for (let n = 0; n < 5_000; n++) if (repeats.isNews(`cause ${n}`, 1)) said++;
  expect(said).toBe(1_024);
  expect(repeats.isNews('cause 0', 2)).toBe(false);
  const left = repeats.endPeriod();
  expect(left).toEqual([
    { cause: 'cause 0', times: 1 },
    { cause: 'others', times: 5_000 - 1_024 },
  ]);
  expect(repeats.endPeriod()).toEqual([]);
});
