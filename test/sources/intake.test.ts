import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Accusation, type Arrival, type Glance, Intake, type IntakeLimits } from '../../src/sources/intake.ts';
import { inUse } from './in-use.ts';

const alert = (rule: string): string => JSON.stringify({ rule });

test('alerts of one source come out in the order they came in, with their source and time', async () => {
  const out: [string, string, bigint][] = [];
  const intake = new Intake(({ alert: { rule }, source, receivedNs }) => out.push([rule, source.name, receivedNs]));
  for (let n = 0; n < 1_000; n++)
    expect(intake.push(alert(`${n}`), n % 2 ? 'a' : 'b', 'local', BigInt(n))).toBe('queued');
  expect(out).toEqual([]);
  expect(intake.waiting).toBe(1_000);
  await intake.idle();
  expect(out).toEqual(Array.from({ length: 1_000 }, (_, n) => [`${n}`, n % 2 ? 'a' : 'b', BigInt(n)]));
  const none = { bad: 0, tooLong: 0, duplicate: 0, shed: 0, stale: 0, otherHost: 0 };
  expect(intake.counts()).toEqual({
    a: { ...none, received: 500, decided: 500 },
    b: { ...none, received: 500, decided: 500 },
  });
});

test('judging is done in slices: others get their turn', async () => {
  const spin = (ms: number): void => {
    const until = performance.now() + ms;
    while (performance.now() < until);
  };
  let judged = 0;
  const intake = new Intake(() => {
    judged++;
    spin(1);
  });
  for (let n = 0; n < 50; n++) intake.push(alert('r'), 'a', 'local', 0n);
  const turns: number[] = [];
  const turn = (): void => {
    turns.push(judged);
    if (judged < 50) setImmediate(turn);
  };
  setImmediate(turn);
  await intake.idle();
  expect(new Set(turns).size).toBeGreaterThan(5);
  expect(judged).toBe(50);
});

test('the queue is bounded by alerts and by characters', async () => {
  const text = alert('r');
  const byCount = new Intake(() => undefined, { alerts: 2, characters: 1_000 });
  expect([1, 2, 3].map(() => byCount.push(text, 'a', 'local', 0n))).toEqual(['queued', 'queued', 'shed']);
  const bySize = new Intake(() => undefined, { alerts: 100, characters: text.length * 2 });
  expect([1, 2, 3].map(() => bySize.push(text, 'a', 'local', 0n))).toEqual(['queued', 'queued', 'shed']);
  for (const intake of [byCount, bySize]) {
    await intake.idle();
    expect(intake.push(text, 'a', 'local', 0n)).toBe('queued');
    expect(intake.counts().a).toMatchObject({ received: 4, shed: 1 });
    await intake.idle();
  }
});

describe('memory', () => {
  const filled = (item: string): string => `{"rule":"r","output_fields":{"a":[${item.repeat(4_000).slice(0, -1)}]}}`;

  test.each<[string, string, number]>([
    ['objects without number', filled('{},'), 2_500],
    ['lists without number', filled('[],'), 2_500],
    ['keys without number', `{"rule":"r","output_fields":${keys(80_000)}}`, 30],
  ])('a full queue takes as much as its texts, whatever is in them: %s', async (_name, text, count) => {
    const intake = new Intake(() => undefined);
    const before = inUse();
    for (let n = 0; n < count; n++) expect(intake.push(text.replace('"r"', `"${n}"`), 'a', 'local', 0n)).toBe('queued');
    expect(inUse() - before).toBeLessThan(48 << 20);
    await intake.idle();
  });

  test('of what was judged nothing long is remembered', async () => {
    let n = 0;
    const glance = { isOurs: () => true, accuse: () => ({ offender: `${n}`, acts: true, isBlocked: false }) };
    const intake = new Intake(() => undefined, undefined, { glance, nowMs: () => 0 });
    const before = inUse();
    for (let round = 0; round < 5; round++) {
      for (let m = 0; m < 40; m++, n++) intake.push(alert(`${n}${'r'.repeat(1_000_000)}`), 'a', 'local', 0n);
      await intake.idle();
    }
    expect(inUse() - before).toBeLessThan(16 << 20);
  });
});

function keys(count: number): string {
  return JSON.stringify(Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, 1])));
}

test('what is pushed while judging is judged too', async () => {
  const rules: string[] = [];
  const intake: Intake = new Intake(({ alert: { rule } }) => {
    rules.push(rule);
    if (rule === 'first') intake.push(alert('second'), 'a', 'local', 0n);
  });
  intake.push(alert('first'), 'a', 'local', 0n);
  await intake.idle();
  expect(rules).toEqual(['first', 'second']);
});

test('what is no alert is not queued, and the reason is told', async () => {
  const intake = new Intake(() => expect.unreachable());
  expect(intake.push('{', 'a', 'local', 0n)).toMatchObject({ problem: 'the text is not JSON' });
  intake.countBad('a');
  await intake.idle();
  expect(intake.counts()).toMatchObject({ a: { received: 2, bad: 2, tooLong: 0, shed: 0, decided: 0 } });
});

test('an alert that is decoded already', async () => {
  const out: Arrival[] = [];
  const intake = new Intake((arrival) => out.push(arrival));
  const message = { rule: 'r', time: { seconds: '1', nanos: 2 }, output_fields: { 'fd.cport': '3' } };
  expect(intake.pushValue(message, 'as text', 'grpc', 'local', 5n)).toBe('queued');
  expect(intake.pushValue(7, 'x', 'grpc', 'local', 5n)).toMatchObject({ problem: expect.any(String) });
  expect(intake.pushValue(message, 'x'.repeat(2 << 20), 'grpc', 'local', 5n)).toMatchObject({
    problem: expect.stringContaining('1 MiB'),
  });
  const line = JSON.stringify({
    time: '1970-01-01T00:00:01.000000002Z',
    rule: 'r',
    output_fields: { 'fd.cport': 3 },
  });
  expect(intake.push(line, 'file', 'local', 6n)).toBe('queued');
  await intake.idle();
  expect(out.map(({ text, receivedNs, alert: { timeNs } }) => [text, receivedNs, timeNs])).toEqual([
    ['as text', 5n, 1_000_000_002n],
  ]);
  expect(intake.counts()).toMatchObject({
    grpc: { received: 3, bad: 2, decided: 1 },
    file: { received: 1, duplicate: 1, decided: 0 },
  });
});

test('who is registered speaks for whom it says, whatever the letters’ case; who is not, for this host', async () => {
  const out: Arrival[] = [];
  const intake = new Intake((arrival) => out.push(arrival));
  intake.push(alert('r'), 'fleet', 'local', 0n);
  const ref = intake.register({ name: 'fleet', remote: true, fleetHosts: ['Web-2'] });
  expect(ref).toEqual({ name: 'fleet', remote: true, fleetHosts: new Set(['web-2']) });
  intake.push(alert('r'), 'fleet', 'local', 0n);
  await intake.idle();
  expect(out.map(({ source }) => source)).toEqual([{ name: 'fleet', remote: false, fleetHosts: new Set() }, ref]);
  expect(intake.counts()).toMatchObject({ fleet: { received: 2, decided: 2 } });
});

test('what came of it is counted', async () => {
  const intake = new Intake(({ alert: { rule } }) => rule);
  for (const rule of ['stale', 'other_host', 'offender', 'stale']) intake.push(alert(rule), 'a', 'local', 0n);
  await intake.idle();
  expect(intake.counts()).toMatchObject({ a: { decided: 4, stale: 2, otherHost: 1 } });
});

/** Alerts whose rule says all: `HOST/OFFENDER/RULE`, with `!` behind what acts, `=` behind who is blocked. */
const told: Glance = {
  isOurs: ({ rule }) => !rule.startsWith('other/'),
  accuse: ({ rule }): Accusation | null => {
    const [, offender = ''] = rule.split('/');
    if (offender === '') return null;
    return { offender: offender.replace('=', ''), acts: rule.endsWith('!'), isBlocked: offender.endsWith('=') };
  },
};

const about = (rule: string, timeNs?: number): string =>
  JSON.stringify({ rule, ...(timeNs === undefined ? {} : { time: { seconds: 1, nanos: timeNs } }) });

function open(limits: Partial<IntakeLimits> = {}) {
  const rules: string[] = [];
  const clock = { ms: 0 };
  const intake = new Intake(
    ({ alert: { rule } }) => rules.push(rule),
    { alerts: 4, characters: 1 << 20, ...limits },
    { glance: told, nowMs: () => clock.ms },
  );
  const push = (rule: string, source = 'a') => intake.push(about(rule), source, 'local', 0n);
  return { rules, clock, intake, push };
}

describe('the same alert', () => {
  test('counts once, over one source or two, waiting or judged', async () => {
    const { intake, rules } = open();
    for (const source of ['a', 'a', 'b']) expect(intake.push(about('h/x/r', 1), source, 'local', 0n)).toBe('queued');
    await intake.idle();
    expect(intake.push(about('h/x/r', 1), 'c', 'local', 0n)).toBe('queued');
    intake.push(about('h/x/r', 2), 'c', 'local', 0n);
    await intake.idle();
    expect(rules).toEqual(['h/x/r', 'h/x/r']);
    expect(intake.counts()).toMatchObject({
      a: { received: 2, duplicate: 1, decided: 1 },
      b: { received: 1, duplicate: 1, decided: 0 },
      c: { received: 2, duplicate: 1, decided: 1 },
    });
  });

  test('without a time it counts every time', async () => {
    const { intake, rules, push } = open();
    push('h/x/r');
    push('h/x/r');
    await intake.idle();
    expect(rules).toEqual(['h/x/r', 'h/x/r']);
  });

  test('of a host that one source may not speak for, it is not known when another brings it', async () => {
    const { intake, rules } = open();
    intake.push(about('other/x/r', 1), 'a', 'local', 0n);
    intake.push(about('other/x/r', 1), 'b', 'local', 0n);
    await intake.idle();
    expect(rules).toEqual(['other/x/r', 'other/x/r']);
  });

  test('shed, it is new when it comes again', async () => {
    const { intake, rules, push } = open({ alerts: 1 });
    push('h/x/r');
    expect(intake.push(about('h/x/r', 1), 'a', 'local', 0n)).toBe('shed');
    // Taken, and given up for another.
    await intake.idle();
    intake.push(about('h/x=/r', 2), 'a', 'local', 0n);
    push('h/new/r');
    await intake.idle();
    expect(intake.push(about('h/x/r', 1), 'a', 'local', 0n)).toBe('queued');
    await intake.idle();
    expect(intake.push(about('h/x=/r', 2), 'a', 'local', 0n)).toBe('queued');
    await intake.idle();
    expect(rules).toEqual(['h/x/r', 'h/new/r', 'h/x/r', 'h/x=/r']);
    expect(intake.counts()).toMatchObject({ a: { received: 6, shed: 2, decided: 4, duplicate: 0 } });
  });
});

describe('a full queue gives up', () => {
  test.each<[string, waiting: string[], comes: string, left: string[] | 'shed']>([
    [
      'who is blocked for a new one',
      ['h/a/r', 'h/b=/r', 'h//r', 'h/c/r'],
      'h/d/r',
      ['h/a/r', 'h//r', 'h/c/r', 'h/d/r'],
    ],
    ['a repeat for a new one', ['h/a/r', 'h/a/r', 'h//r', 'h/c/r'], 'h/d/r', ['h/a/r', 'h//r', 'h/c/r', 'h/d/r']],
    ['a repeat for nobody', ['h/a/r', 'h/a/r', 'h//r', 'h/c/r'], 'h//s', ['h/a/r', 'h//r', 'h/c/r', 'h//s']],
    ['nobody for a known one', ['h/a/r', 'h/b/r', 'h//r', 'h/c/r'], 'h/a/s', ['h/a/r', 'h/b/r', 'h/c/r', 'h/a/s']],
    ['a known one for a new one', ['h/a/r', 'h/b/r', 'h/a/s', 'h/c/r'], 'h/d/r', ['h/a/r', 'h/b/r', 'h/c/r', 'h/d/r']],
    [
      'a known one for the first that acts',
      ['h/a/r', 'h/b/r', 'h/a/s', 'h/c/r'],
      'h/a/t!',
      ['h/a/r', 'h/b/r', 'h/c/r', 'h/a/t!'],
    ],
    ['nothing for a repeat', ['h/a/r', 'h/b/r', 'h//r', 'h/c/r'], 'h/a/r', 'shed'],
    ['nothing for who is blocked', ['h/a/r', 'h//r', 'h//r', 'h/c/r'], 'h/d=/r', 'shed'],
    ['nothing for one more that acts', ['h/a/r!', 'h/b/r', 'h/c/r', 'h/d/r'], 'h/a/s!', 'shed'],
    ['no new one for a new one', ['h/a/r', 'h/b/r', 'h/c/r', 'h/d/r'], 'h/e/r', 'shed'],
  ])('%s', async (_name, waiting, comes, left) => {
    const { intake, rules, push } = open();
    for (const rule of waiting) expect(push(rule)).toBe('queued');
    expect(push(comes)).toBe(left === 'shed' ? 'shed' : 'queued');
    await intake.idle();
    expect(rules).toEqual(left === 'shed' ? waiting : left);
    expect(intake.counts()).toMatchObject({ a: { received: 5, shed: 1, decided: 4 } });
  });

  test('a repeat within the second of the judgement, and no later', async () => {
    const { intake, clock, rules, push } = open({ alerts: 2 });
    push('h/a/r');
    await intake.idle();
    const tryAgain = async (): Promise<string[]> => {
      rules.length = 0;
      push('h/a/r');
      push('h/b/r');
      push('h/c/r');
      await intake.idle();
      return [...rules];
    };
    clock.ms = 999;
    expect(await tryAgain()).toEqual(['h/b/r', 'h/c/r']);
    clock.ms = 4_000;
    expect(await tryAgain()).toEqual(['h/a/r', 'h/b/r']);
  });

  test('who was judged within the second by another rule, for a new one', async () => {
    const { intake, rules, push } = open({ alerts: 2 });
    push('h/a/r');
    await intake.idle();
    push('h/a/s');
    push('h/b/r');
    push('h/c/r');
    expect(push('h/a/t')).toBe('shed');
    await intake.idle();
    expect(rules).toEqual(['h/a/r', 'h/b/r', 'h/c/r']);
  });

  test('as many as it takes for a long one, by characters', async () => {
    const short = about('h/a=/r').length;
    const { intake, rules, push } = open({ alerts: 100, characters: short * 10 });
    for (let n = 0; n < 10; n++) expect(push('h/a=/r')).toBe('queued');
    expect(intake.held.characters).toBe(short * 10);
    expect(push(`h/b/${'x'.repeat(short * 4)}`)).toBe('queued');
    expect(intake.held.characters).toBeLessThanOrEqual(short * 10);
    expect(push(`h/c/${'x'.repeat(short * 10)}`)).toBe('shed');
    await intake.idle();
    expect(rules.length).toBeGreaterThan(4);
    expect(intake.held).toMatchObject({ alerts: 0, characters: 0 });
  });

  test('of the source that has more of the same rank', async () => {
    const { intake, rules, push } = open();
    for (const name of ['a', 'b', 'c', 'd']) push(`h/${name}/r`, 'loud');
    expect(push('h/e/r', 'quiet')).toBe('queued');
    expect(push('h/f/r', 'quiet')).toBe('queued');
    expect(push('h/g/r', 'quiet')).toBe('shed');
    await intake.idle();
    expect(rules.toSorted()).toEqual(['h/a/r', 'h/b/r', 'h/e/r', 'h/f/r']);
    expect(intake.counts()).toMatchObject({ loud: { shed: 2, decided: 2 }, quiet: { shed: 1, decided: 2 } });
  });
});

describe('sources that can wait', () => {
  test('have room of their own in a full queue, and shed nothing', async () => {
    const { intake, rules, push } = open();
    intake.register({ name: 'file', canWait: true });
    for (const name of ['a', 'b', 'c', 'd']) push(`h/${name}/r`);
    expect(push('h/e/r')).toBe('shed');
    expect(intake.hasRoom(100, 'file')).toBe(true);
    for (let n = 0; n < 4; n++) expect(push('h//r', 'file')).toBe('queued');
    expect(intake.hasRoom(100, 'file')).toBe(false);
    expect(push('h/new/r')).toBe('shed');
    await intake.room();
    expect(intake.hasRoom(100, 'file')).toBe(true);
    await intake.idle();
    expect(intake.counts()).toMatchObject({ file: { received: 4, decided: 4, shed: 0 }, a: { shed: 2 } });
    expect(rules.filter((rule) => rule === 'h//r')).toHaveLength(4);
  });

  test('one may not become one that can not, while its alerts wait', async () => {
    const { intake, push } = open();
    intake.register({ name: 'file', canWait: true });
    push('h//r', 'file');
    expect(() => intake.register({ name: 'file' })).toThrow('are queued already');
    await intake.idle();
    intake.register({ name: 'file' });
    expect(intake.counts()).toMatchObject({ file: { received: 1 } });
  });
});

describe('whom an alert accuses', () => {
  function counted(limits: IntakeLimits | undefined) {
    const asked: string[] = [];
    const glance: Glance = {
      isOurs: told.isOurs,
      accuse: (of, source) => {
        asked.push(of.rule);
        return told.accuse(of, source);
      },
    };
    return { asked, intake: new Intake(() => undefined, limits, { glance }) };
  }

  test('is not asked while few wait, nor of what is never shed; then of each once, in the order they came', async () => {
    const { asked, intake } = counted(undefined);
    intake.register({ name: 'file', canWait: true });
    for (let n = 0; n < 128; n++) intake.push(about('h/file/r'), 'file', 'local', 0n);
    const rules = Array.from({ length: 200 }, (_, n) => `h/o${n}/r`);
    for (const [n, rule] of rules.entries()) {
      intake.push(about(rule), n % 2 ? 'a' : 'b', 'local', 0n);
      expect(asked).toHaveLength(n < 64 ? 0 : n + 1);
    }
    expect(asked).toEqual(rules);
    await intake.idle();
    intake.push(about('h/x/r'), 'a', 'local', 0n);
    await intake.idle();
    expect(asked).toHaveLength(200);
  });

  test('is known of those that came while it was calm, too', async () => {
    const { rules, intake, push } = open({ alerts: 32 });
    push('h/o0/r');
    push('h/o0/r');
    for (let n = 1; n < 32; n++) expect(push(`h/o${n}/r`)).toBe('queued');
    expect(push('h/o32/r')).toBe('shed');
    await intake.idle();
    expect(rules).toEqual(Array.from({ length: 32 }, (_, n) => `h/o${n}/r`));
  });
});

test('no source’s alert waits behind more than one of each other source for each of its own', async () => {
  const source = fc.constantFrom('a', 'b', 'c', 'd');
  await fc.assert(
    fc.asyncProperty(fc.array(source, { maxLength: 200 }), async (pushes) => {
      const out: string[] = [];
      const intake = new Intake(({ source: { name }, alert: { rule } }) => out.push(`${name} ${rule}`));
      const nth: Record<string, number> = {};
      for (const name of pushes) {
        nth[name] = (nth[name] ?? 0) + 1;
        intake.push(alert(String(nth[name])), name, 'local', 0n);
      }
      await intake.idle();
      expect(out).toHaveLength(pushes.length);
      const sources = Object.keys(nth).length;
      for (const [at, each] of out.entries()) expect(at).toBeLessThan(Number(each.split(' ')[1]) * sources);
    }),
    { numRuns: 50 },
  );
});

test('a flood of one source does not hold another’s alert up', async () => {
  const out: string[] = [];
  const intake: Intake = new Intake(({ source: { name } }) => {
    out.push(name);
    // as fast as it is judged
    if (out.length < 1_000) intake.push(alert('r'), 'flood', 'local', 0n);
  });
  for (let n = 0; n < 5_000; n++) intake.push(alert('r'), 'flood', 'local', 0n);
  intake.push(alert('r'), 'quiet', 'local', 0n);
  await intake.idle();
  expect(out.indexOf('quiet')).toBeLessThan(2);
  expect(out).toHaveLength(6_000);
});

test('what waits now was judged, in whatever turn', async () => {
  const out: string[] = [];
  const intake: Intake = new Intake(({ source: { name } }) => {
    out.push(name);
    if (out.length < 5_000) intake.push(alert('r'), 'flood', 'local', 0n);
  });
  for (let n = 0; n < 100; n++) intake.push(alert('r'), 'flood', 'local', 0n);
  for (let n = 0; n < 10; n++) intake.push(alert('r'), 'file', 'local', 0n);
  await intake.decided();
  expect(out.filter((name) => name === 'file')).toHaveLength(10);
  expect(out.length).toBeGreaterThanOrEqual(110);
  expect(intake.waiting).toBeGreaterThan(0);
  await intake.idle();
});

describe('whatever comes', () => {
  const limit = 48;
  const offender = fc.nat({ max: limit / 2 - 1 }).map((n) => `o${n}`);
  const push = fc.record({
    source: fc.constantFrom('a', 'b', 'c'),
    offender: fc.oneof({ weight: 5, arbitrary: offender }, { weight: 1, arbitrary: fc.constant('') }),
    rule: fc.constantFrom('r', 's', 't', 'u', 'v!', 'w!'),
    timeNs: fc.option(fc.nat({ max: 50 }), { nil: undefined }),
    ms: fc.nat({ max: 300 }),
    /** Whether the judge gets a turn after it. */
    isJudged: fc.nat({ max: 40 }).map((n) => n === 0),
  });

  test('over at most half as many offenders as places: no new one is lost, nor the first alert that acts', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(push, { minLength: 100, maxLength: 600, size: 'max' }), async (pushes) => {
        const { intake, rules, clock } = open({ alerts: limit });
        const all = new Set<string>();
        const name = (rule: string): string => `${rule.split('/')[1]} ${rule.endsWith('!')}`;
        for (const { source, offender: who, rule, timeNs, ms, isJudged } of pushes) {
          clock.ms += ms;
          const text = `h/${who}/${rule}`;
          if (who !== '') all.add(name(text));
          intake.push(about(text, timeNs), source, 'local', 0n);
          expect(intake.held.alerts).toBeLessThanOrEqual(limit);
          if (isJudged) await intake.idle();
        }
        await intake.idle();
        const judged = new Set(rules.map(name));
        // Where an offender's alert that acts was judged, one that does not may be shed.
        const lost = [...all].filter((each) => !judged.has(each) && !judged.has(each.replace('false', 'true')));
        expect(lost).toEqual([]);
      }),
      // To make a failure small takes a minute.
      { numRuns: 200, endOnFailure: true },
    );
  });

  test('what was received is bad, duplicate, shed or decided, and nothing is held at the end', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(push, { maxLength: 150 }), async (pushes) => {
        const { intake, rules } = open({ alerts: 8, characters: 400 });
        for (const { source, offender: who, rule, timeNs } of pushes) {
          const text = about(`h/${who}/${rule}`, timeNs);
          intake.push(timeNs === 0 ? '{' : text, source, 'local', 0n);
          expect(intake.held.alerts).toBeLessThanOrEqual(8);
          expect(intake.held.characters).toBeLessThanOrEqual(400);
        }
        await intake.idle();
        const counts = Object.values(intake.counts());
        const sum = (key: 'received' | 'bad' | 'duplicate' | 'shed' | 'decided'): number =>
          counts.reduce((total, each) => total + each[key], 0);
        expect(sum('received')).toBe(pushes.length);
        expect(sum('bad') + sum('duplicate') + sum('shed') + sum('decided')).toBe(pushes.length);
        expect(sum('decided')).toBe(rules.length);
        expect(intake.held).toMatchObject({ alerts: 0, characters: 0 });
      }),
      { numRuns: 100 },
    );
  });
});
