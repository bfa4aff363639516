import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { backoffMs, jittered, Pause } from '../../src/sources/backoff.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const pace = { firstDelayMs: 250, longestDelayMs: 5_000 };

test.each([
  [0, 250],
  [1, 500],
  [4, 4_000],
  [5, 5_000],
  [1_000_000, 5_000],
])('after %d failures', (failures, ms) => {
  expect(backoffMs(failures, pace)).toBe(ms);
});

test('at random between half and all of it', () => {
  const drawn = Array.from({ length: 1_000 }, () => jittered(1_000));
  expect(Math.min(...drawn)).toBeGreaterThan(500);
  expect(Math.max(...drawn)).toBeLessThanOrEqual(1_000);
  expect(new Set(drawn).size).toBeGreaterThan(900);
});

test('a pause lasts as long as it is to, or until it is ended', async () => {
  const pause = new Pause();
  pause.end();
  const timed = pause.wait(1_000);
  await vi.advanceTimersByTimeAsync(1_000);
  await timed;
  for (const ms of [1_000, null]) {
    const ended = pause.wait(ms);
    pause.end();
    await ended;
  }
  expect(vi.getTimerCount()).toBe(0);
});
