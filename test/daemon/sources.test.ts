import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { testRule } from '../../src/alert/test-rule.ts';
import { openSources, readSourceReport, type Sources } from '../../src/daemon/sources.ts';
import { Intake } from '../../src/sources/intake.ts';
import { pastsOf } from '../../src/sources/past.ts';
import { canary, logDouble } from './double.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fd-sources-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const day = 86_400_000;

/** A daemon's sources under a clock of the test's own. */
async function open() {
  const log = logDouble();
  const intake = new Intake(() => undefined);
  const clock = { nowMs: 0 };
  const sources = await openSources({
    intake,
    stateDir: directory,
    logger: log.logger,
    clock: { now: () => 1_800_000_000_000 + clock.nowMs },
    nowMs: () => clock.nowMs,
    // By hand: report() looks.
    pace: { lookMs: 3_600_000 },
  });
  const push = (rule = 'A rule', name = 'http') =>
    intake.push(canary('203.0.113.7', { rule }), name, 'local', process.hrtime.bigint());
  const report = async (of: Sources = sources) => {
    const [report] = await of.report();
    if (report === undefined) throw new Error('no source');
    return report;
  };
  return { log, intake, clock, sources, push, report };
}

describe('sources of a daemon', () => {
  test('a source that falls silent, over restarts; test alerts are no sign of life', async () => {
    const first = await open();
    first.sources.add({ name: 'http', kind: 'http' }).is('listening');
    for (let n = 0; n < 4 * 24; n++) {
      first.clock.nowMs += 3_600_000;
      first.push(`Rule ${n}`);
      await first.report();
    }
    expect(await first.report()).toMatchObject({
      state: 'listening',
      isSilent: false,
      silentMs: 0,
      usualSilenceMs: 3_600_000,
      counts: { received: 96 },
      lastAlert: { rule: 'Rule 95', delaySeconds: expect.any(Number) as number },
    });
    first.clock.nowMs += 1.5 * 3_600_000;
    expect((await first.report()).isSilent).toBe(false);
    await first.sources.close();

    const second = await open();
    second.sources.add({ name: 'http', kind: 'http' });
    // It was down for who knows how long: only the time since counts.
    expect(await second.report()).toMatchObject({
      isSilent: false,
      silentMs: 1.5 * 3_600_000,
      lastAlert: { rule: 'Rule 95' },
    });
    second.clock.nowMs += 3_600_000;
    second.push(testRule);
    expect(await second.report()).toMatchObject({
      isSilent: true,
      counts: { received: 1 },
      lastAlert: { rule: 'Rule 95' },
    });
    second.push('It lives');
    expect(await second.report()).toMatchObject({ isSilent: false, silentMs: 0, lastAlert: { rule: 'It lives' } });
    second.sources.abandon();
    // Killed: what was kept is from before.
    const third = await open();
    third.sources.add({ name: 'http', kind: 'http' });
    expect((await third.report()).lastAlert?.rule).toBe('Rule 95');
  });

  test('the time in which a source had failed is not its silence', async () => {
    const { sources, clock, push, report } = await open();
    const standing = sources.add({ name: 'http', kind: 'http' });
    for (let n = 0; n < 4 * 24; n++) {
      standing.is('listening');
      clock.nowMs += 3_600_000;
      push(`Rule ${n}`);
      await report();
    }
    standing.is('failed');
    clock.nowMs += 30 * day;
    expect(await report()).toMatchObject({ isSilent: false, silentMs: 0 });
    standing.is('listening');
    clock.nowMs += 2.1 * 3_600_000;
    expect(await report()).toMatchObject({ isSilent: true, usualSilenceMs: 3_600_000 });
  });

  test('is written soon after the first alert, then seldom; others’ sources stay', async () => {
    const kept = () => pastsOf(readFileSync(join(directory, 'sources.json'), 'utf8'));
    const one = await open();
    one.sources.add({ name: 'http', kind: 'http' });
    one.push('First');
    await one.report();
    one.clock.nowMs += 10_000;
    await one.report();
    await expect.poll(() => kept()?.get('http')?.lastAlert?.rule, { timeout: 10_000 }).toBe('First');
    one.push('Second');
    one.clock.nowMs += 60_000;
    await one.report();
    one.sources.abandon();
    expect(kept()?.get('http')?.lastAlert?.rule).toBe('First');
    const two = await open();
    two.sources.add({ name: 'stdin', kind: 'stdin' });
    await two.sources.close();
    expect([...(kept()?.keys() ?? [])]).toEqual(['stdin', 'http']);
  });

  test('a file that can not be written, or is none: said once, and nothing stops', async () => {
    writeFileSync(join(directory, 'sources.json'), 'x'.repeat(10));
    const one = await open();
    expect(one.log.of('what was kept of sources can not be read: it begins anew')).toHaveLength(1);
    one.sources.add({ name: 'http', kind: 'http' });
    rmSync(join(directory, 'sources.json'));
    mkdirSync(join(directory, 'sources.json/full'), { recursive: true });
    one.push();
    await one.report();
    for (let n = 0; n < 3; n++) {
      one.clock.nowMs += day;
      await one.report();
    }
    await one.sources.close();
    expect(one.log.of('the last alerts of sources can not be kept')).toHaveLength(1);
  });

  test('a report read back is the report; anything else is none or harmless', async () => {
    const one = await open();
    one.sources.add({ name: 'http', kind: 'http' }).trouble('it hurts');
    one.push();
    const report = await one.report();
    expect(readSourceReport(JSON.parse(JSON.stringify(report)))).toEqual(report);
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(readSourceReport(value)).toBeNull();
      }),
    );
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...Object.keys(report)), fc.jsonValue()), (some) => {
        const read = readSourceReport({ ...report, ...some });
        if (read === null) return;
        expect([typeof read.name, typeof read.state, typeof read.lastMinute, typeof read.counts.bad]).toEqual([
          ...['string', 'string', 'number', 'number'],
        ]);
      }),
    );
    one.sources.abandon();
  });
});
