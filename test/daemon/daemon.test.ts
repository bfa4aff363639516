import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { runDaemon } from '../../src/daemon/daemon.ts';
import { until } from '../kernel/lab.ts';
import { openWire, post } from '../sources/wire.ts';
import { blocklistDouble, canary, logDouble } from './double.ts';

const directory = mkdtempSync(join(tmpdir(), 'fd-daemon-'));
afterAll(() => rmSync(directory, { recursive: true }));

const config = parseConfig('http: { port: 0 }\nautomatic: enforce\n', 'test');

describe('the daemon', () => {
  test('takes alerts, acts, and at the end finishes what it took', async () => {
    const log = logDouble();
    const blocklist = blocklistDouble(() => 'blocked');
    const stop = new AbortController();
    const running = runDaemon({
      config,
      pinDir: directory,
      stateDir: directory,
      signal: stop.signal,
      open: () => blocklist,
      log,
    });
    const { port } = await log.waitFor('listening');
    await log.waitFor('ready');
    // what it warmed up with has left no trace
    expect(blocklist.wishes).toEqual([]);
    expect(log.of('decision')).toEqual([]);

    const wire = await openWire(Number(port));
    wire.send(post(canary('198.51.100.7')));
    expect((await wire.answer()).status).toBe(202);
    wire.send(post('{'));
    expect((await wire.answer()).status).toBe(400);
    // taken, and judged only after the signal
    for (let n = 0; n < 20; n++) wire.send(post(canary(`198.51.100.${100 + n}`)));
    for (let n = 0; n < 20; n++) expect((await wire.answer()).status).toBe(202);
    stop.abort();
    await running;
    wire.close();
    expect(blocklist.wishes).toHaveLength(21);
    expect(blocklist.calls.slice(-2)).toEqual(['settle', 'close']);
    expect(log.of('stopped')[0]).toMatchObject({
      sources: { http: { received: 22, bad: 1, tooLong: 0, shed: 0, decided: 21 } },
      alerts: { judged: 21, blocked: 21 },
    });
    expect(process.listenerCount('SIGTERM') + process.listenerCount('SIGHUP')).toBe(0);
  });

  test.each(['SIGTERM', 'SIGINT'] as const)('%s ends it in order; SIGHUP does not', async (name) => {
    const log = logDouble();
    const before = process.listenerCount(name);
    const running = runDaemon({
      config,
      pinDir: directory,
      stateDir: directory,
      open: () => blocklistDouble(() => 'blocked'),
      log,
    });
    await log.waitFor('ready');
    process.emit('SIGHUP', 'SIGHUP');
    expect(log.lines.at(-1)).toMatchObject({ level: 'warn', msg: expect.stringContaining('SIGHUP') });
    process.emit(name, name);
    await running;
    expect(log.of('stopping')[0]).toMatchObject({ why: name });
    expect(process.listenerCount(name)).toBe(before);
  });

  test.each([
    ['limited to ports, reconciles at once: a narrower claim may have waited', true],
    ['none limited, leaves it to the timer', false],
  ])('after it reaped, with entries %s', async (_, limitsPorts) => {
    const log = logDouble();
    const stop = new AbortController();
    let reaped = 0;
    let reconciled = 0;
    const running = runDaemon({
      config,
      pinDir: directory,
      stateDir: directory,
      signal: stop.signal,
      reapEveryMs: 1,
      reconcile: async () => {
        reconciled++;
      },
      open: () => ({
        ...blocklistDouble(() => 'blocked'),
        // Something has ended the second time.
        reap: async () => (++reaped === 2 ? 1 : 0),
        limitsPorts: () => limitsPorts,
      }),
      log,
    });
    await log.waitFor('reaped');
    await until('a reaping after that', () => reaped > 3);
    stop.abort();
    await running;
    expect(reconciled).toBe(limitsPorts ? 1 : 0);
  });

  test('errors of verifying are said, and do not end it', async () => {
    const log = logDouble();
    const blocklist = blocklistDouble(() => 'blocked');
    const stop = new AbortController();
    const failing = { ...blocklist, settle: () => Promise.reject(new Error('no lock')) };
    const running = runDaemon({
      config,
      pinDir: directory,
      stateDir: directory,
      signal: stop.signal,
      open: () => failing,
      log,
    });
    const wire = await openWire(Number((await log.waitFor('listening')).port));
    wire.send(post(canary('198.51.100.7')));
    expect((await wire.answer()).status).toBe(202);
    expect(await log.waitFor('blocks not verified yet')).toMatchObject({ level: 'error', error: 'no lock' });
    wire.close();
    stop.abort();
    await running;
  });

  test('two on one port: the second says so and leaves nothing open', async () => {
    const log = logDouble();
    const stop = new AbortController();
    const running = runDaemon({
      config,
      pinDir: directory,
      stateDir: directory,
      signal: stop.signal,
      open: () => blocklistDouble(() => 'blocked'),
      log,
    });
    const { port } = await log.waitFor('listening');
    const second = blocklistDouble(() => 'blocked');
    const same = parseConfig(`http: { port: ${port} }`, 'test');
    await expect(
      runDaemon({ config: same, pinDir: directory, stateDir: directory, open: () => second, log: logDouble() }),
    ).rejects.toMatchObject({ code: 'listen_failed' });
    expect(second.calls).toEqual(['close']);
    stop.abort();
    await running;
  });

  test('nothing attached', async () => {
    await expect(
      runDaemon({ config, pinDir: join(directory, 'none'), stateDir: directory, log: logDouble() }),
    ).rejects.toMatchObject({ code: 'pin_dir_missing', hint: expect.stringContaining('falcodrop attach') });
  });
});
