import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Aside, asideBytes, asideName, formerAsideName } from '../../../src/sources/kafka/aside.ts';

let stateDir = '';
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'fd-aside-'));
});
afterEach(() => rmSync(stateDir, { recursive: true }));

const about = { source: 'kafka:test', topic: 'falco', partition: 0, offset: 7, problem: 'why', bytes: 3 };

test('each is a line of plain ASCII that says what it was', async () => {
  await fc.assert(
    fc.asyncProperty(fc.string({ unit: 'binary' }), async (text) => {
      const aside = new Aside(stateDir);
      await aside.keep({ ...about, text }, 0);
      const lines = readFileSync(aside.path, 'latin1').split('\n');
      const last = lines.at(-2) ?? '';
      expect(last).toMatch(/^[\x20-\x7e]*$/);
      expect(JSON.parse(last)).toEqual({ at: '1970-01-01T00:00:00.000Z', ...about, text });
    }),
    { numRuns: 100 },
  );
  expect(statSync(join(stateDir, asideName)).mode & 0o777).toBe(0o640);
});

test('there are two files, each no larger than it may be, and never more', async () => {
  const aside = new Aside(stateDir);
  // Six bytes of the file each.
  const text = '\u0001'.repeat(10_000);
  await Promise.all(Array.from({ length: 120 }, (_, offset) => aside.keep({ ...about, offset, text }, 0)));
  const [former, present] = [formerAsideName, asideName].map((name) => readFileSync(join(stateDir, name), 'utf8'));
  expect(former?.length).toBeLessThanOrEqual(asideBytes);
  expect(present?.length).toBeLessThanOrEqual(asideBytes);
  const last = JSON.parse(present?.trimEnd().split('\n').at(-1) ?? '') as { offset: number; text: string };
  expect(last.offset).toBe(119);
  expect(last.text).toHaveLength(4_096);
});

test('a link in its place is not followed', async () => {
  symlinkSync('/etc/hostname', join(stateDir, asideName));
  await expect(new Aside(stateDir).keep({ ...about, text: 'x' }, 0)).rejects.toThrowError(/ELOOP/);
});
