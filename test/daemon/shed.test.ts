import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { watchShed } from '../../src/daemon/shed.ts';
import { Intake } from '../../src/sources/intake.ts';
import { logDouble } from './double.ts';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }));
afterEach(() => void vi.useRealTimers());

test('what was shed is said once a period and source, with how often; nothing shed, nothing said', async () => {
  const log = logDouble();
  const intake = new Intake(() => undefined, { alerts: 1, characters: 1_000 });
  const watch = watchShed(intake, log.logger);
  const push = (source: string): unknown => intake.push('{"rule":"r"}', source, 'network', 0n);
  push('http');
  vi.advanceTimersByTime(60_000);
  expect(log.lines).toEqual([]);
  for (const source of ['http', 'http', 'grpc']) expect(push(source)).toBe('shed');
  vi.advanceTimersByTime(60_000);
  const line = { level: 'warn', msg: 'more alerts than can be judged: some were shed', waiting: 1 };
  expect(log.lines).toEqual([
    expect.objectContaining({ ...line, source: 'http', times: 2 }),
    expect.objectContaining({ ...line, source: 'grpc', times: 1 }),
  ]);
  expect(push('grpc')).toBe('shed');
  watch.say();
  watch.stop();
  push('grpc');
  vi.advanceTimersByTime(60_000);
  expect(log.lines.slice(2)).toEqual([expect.objectContaining({ ...line, source: 'grpc', times: 1 })]);
  await intake.idle();
});
