/** Some seconds of chaos; CHAOS_SECONDS for more, CHAOS_SEED for another one. */
import { expect, test } from 'vitest';
import { chaos } from './chaos.ts';

const seconds = Number(process.env.CHAOS_SECONDS ?? 12);
const seed = Number(process.env.CHAOS_SEED ?? 11);

test('senders and daemon killed at random: what each way promises is decided, once in effect', async () => {
  const { failures, counts, events } = await chaos(seconds, seed);
  process.stdout.write(`CHAOS_SEED=${seed}: ${JSON.stringify({ counts, events })}\n`);
  expect({ seed, failures: failures.slice(0, 20), more: Math.max(0, failures.length - 20) }).toEqual({
    seed,
    failures: [],
    more: 0,
  });
  // It has done what it is there for.
  expect(events['daemon SIGKILL']).toBeGreaterThan(0);
  expect(events['daemon SIGTERM']).toBeGreaterThan(0);
  for (const way of ['http', 'http:unix', 'file', 'grpc', 'journal']) {
    expect({ way, promised: counts[way]?.promised ?? 0 }).toMatchObject({
      promised: expect.toSatisfy((promised: number) => promised > 20),
    });
  }
}, 600_000);
