import { expect, test } from 'vitest';
import { Intake } from '../../src/sources/intake.ts';

const alert = (rule: string): string => JSON.stringify({ rule });

test('alerts come out in the order they came in, with their source and time', async () => {
  const out: [string, string, bigint][] = [];
  const intake = new Intake(({ alert: { rule }, source, receivedNs }) => out.push([rule, source.name, receivedNs]));
  for (let n = 0; n < 1_000; n++)
    expect(intake.push(alert(`${n}`), n % 2 ? 'a' : 'b', 'local', BigInt(n))).toBe('queued');
  expect(out).toEqual([]);
  expect(intake.waiting).toBe(1_000);
  await intake.idle();
  expect(out).toEqual(Array.from({ length: 1_000 }, (_, n) => [`${n}`, n % 2 ? 'a' : 'b', BigInt(n)]));
  expect(intake.counts()).toMatchObject({
    a: { received: 500, bad: 0, tooLong: 0, shed: 0, decided: 500 },
    b: { received: 500, bad: 0, tooLong: 0, shed: 0, decided: 500 },
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
