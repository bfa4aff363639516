import { afterEach, expect, test } from 'vitest';
import { Rate } from '../../../src/sources/http/rate.ts';
import { post } from '../wire.ts';
import { alertOf, type Served, serve } from './serve.ts';

const opened: Served[] = [];
afterEach(async () => {
  for (const each of opened.splice(0)) await each.close();
});

test('a burst at once, then so many a second; what a body took too much is owed', () => {
  const rate = new Rate(10, 20);
  expect(rate.wait('a', 0)).toBe(0);
  rate.spend('a', 19, 0);
  expect(rate.wait('a', 0)).toBe(0);
  rate.spend('a', 31, 0);
  expect(rate.wait('a', 0)).toBe(4);
  expect(rate.wait('a', 2_000)).toBe(2);
  expect(rate.wait('a', 3_100)).toBe(0);
  expect(rate.wait('b', 0)).toBe(0);
  // A clock that went back gives nothing away.
  rate.spend('a', 1, 3_100);
  expect(rate.wait('a', 0)).toBe(1);
  expect(rate.wait('a', 1_000_000)).toBe(0);
  rate.spend('a', 20, 1_000_000);
  expect(rate.wait('a', 1_000_000)).toBe(1);
});

test('0 is no limit, and any number of senders is forgotten again', () => {
  const none = new Rate(0, 1);
  none.spend('a', 1_000_000, 0);
  expect(none.wait('a', 0)).toBe(0);
  const rate = new Rate(1, 1);
  rate.spend('a', 100, 0);
  for (let n = 0; n < 1_023; n++) rate.spend(`${n}`, 1, 0);
  expect(rate.wait('a', 0)).toBe(100);
  for (let n = 0; n < 1_024; n++) rate.spend(`${n}`, 1, 0);
  expect(rate.wait('a', 0)).toBe(0);
});

test('over its rate a sender is told to wait, and is said and counted; alerts in a list count each', async () => {
  const served = await serve({ limits: { alertsPerSecond: 1, burst: 3 } });
  opened.push(served);
  const { source, intake, said } = served;
  const sender = await served.wire();
  const statuses: number[] = [];
  for (const body of [
    alertOf('a'),
    `[${alertOf('b')},${alertOf('c')},${alertOf('d')},${alertOf('e')}]`,
    alertOf('f'),
  ]) {
    sender.send(post(body));
    const { status, head } = await sender.answer();
    statuses.push(status);
    if (status === 429) expect(head).toMatch(/^retry-after: [1-3]$/im);
  }
  expect(statuses).toEqual([202, 202, 429]);
  sender.send(post(alertOf('g')));
  expect((await sender.answer()).status).toBe(429);
  sender.send('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
  expect((await sender.answer()).status).toBe(200);
  await intake.idle();
  expect(source.counts().limited).toBe(2);
  expect(intake.counts().http).toMatchObject({ received: 5, decided: 5, bad: 0 });
  expect(said).toEqual([
    { message: 'a sender is over its rate', details: { source: 'http', from: '127.0.0.1', times: 1 } },
  ]);
});
