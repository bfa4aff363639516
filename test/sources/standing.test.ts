import { expect, test } from 'vitest';
import { Recent } from '../../src/sources/recent.ts';
import { Standing } from '../../src/sources/standing.ts';

test('since when is of the state, and the last problem stays', () => {
  let now = 1_000;
  const standing = new Standing(() => now);
  expect([standing.state, standing.sinceMs, standing.place, standing.problem]).toEqual(['starting', 1_000, null, null]);
  now = 2_000;
  standing.is('connected');
  now = 3_000;
  standing.is('connected');
  expect([standing.state, standing.sinceMs]).toEqual(['connected', 2_000]);
  const said: unknown[] = [];
  const say = standing.hears((...words) => said.push(words));
  say('info', 'fine', {});
  expect(standing.problem).toBeNull();
  say('warn', 'not read', { problem: 'x'.repeat(1_000) });
  expect(standing.problem).toEqual({ message: `not read: ${'x'.repeat(290)}`, atMs: 3_000 });
  say('warn', 'without a reason', { problem: 7 });
  expect(standing.problem?.message).toBe('without a reason');
  expect(said).toHaveLength(3);
});

test('a lag that can not be asked is none', async () => {
  const standing = new Standing();
  expect(await standing.lag()).toBeNull();
  standing.lagsBy(async () => ({ amount: 5, unit: 'alerts' }));
  expect(await standing.lag()).toEqual({ amount: 5, unit: 'alerts' });
  standing.lagsBy(() => Promise.reject(new Error('closed')));
  expect(await standing.lag()).toBeNull();
});

test('what came within the last minute, however often somebody asks', () => {
  const recent = new Recent();
  recent.look(100, 0);
  expect(recent.within(100)).toBe(0);
  for (let s = 1; s <= 300; s++) {
    recent.look(100 + s, s * 1_000);
    const seen = recent.within(100 + s);
    // A look in four seconds: the minute is one of 60 to 64 s.
    expect(seen).toBeGreaterThanOrEqual(Math.min(s, 60));
    expect(seen).toBeLessThanOrEqual(64);
  }
  recent.look(400, 1_000_000);
  recent.look(400, 1_060_000);
  expect(recent.within(400)).toBe(0);
});
