import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { isNativeError, native } from '../../src/kernel/native.ts';
import { ending, firstLine, type Lab, openLab, refusal, startScript } from './lab.ts';

let lab: Lab;
let count = 0;
beforeAll(() => {
  lab = openLab();
});
afterAll(() => lab.close());

function place(): string {
  const path = `${lab.directory}/lock${count++}`;
  mkdirSync(path);
  return path;
}

test('exclusive keeps everybody out, shared only the exclusive', () => {
  const path = place();
  const first = native().tryLock(path, 'shared');
  const second = native().tryLock(path, 'shared');
  expect(first).not.toBeNull();
  expect(second).not.toBeNull();
  expect(native().tryLock(path, 'exclusive')).toBeNull();
  first?.release();
  expect(native().tryLock(path, 'exclusive')).toBeNull();
  second?.release();
  const alone = native().tryLock(path, 'exclusive');
  expect(alone).not.toBeNull();
  expect(native().tryLock(path, 'shared')).toBeNull();
  alone?.release();
});

test('a file will do, a FIFO does not hang, what is not there is ENOENT', async () => {
  const file = `${lab.directory}/file`;
  writeFileSync(file, '');
  native().tryLock(file, 'exclusive')?.release();
  const fifo = `${lab.directory}/fifo`;
  execFileSync('mkfifo', [fifo]);
  native().tryLock(fifo, 'exclusive')?.release();
  expect(refusal(() => native().tryLock(`${file}/x`, 'shared'))).toMatchObject({
    operation: 'tryLock',
    code: 'ENOTDIR',
  });
  expect(refusal(() => native().tryLock('/absent', 'shared')).code).toBe('ENOENT');
  const rejected = native().lock('/absent', 'shared', 10);
  await expect(rejected).rejects.toSatisfy((error) => isNativeError(error) && error.code === 'ENOENT');
});

test('another process holds it until it is killed', async () => {
  const path = place();
  const child = startScript('hold.ts', [path]);
  expect(await firstLine(child)).toBe('held');
  expect(native().tryLock(path, 'exclusive')).toBeNull();
  expect(native().tryLock(path, 'shared')).toBeNull();
  const waiting = native().lock(path, 'exclusive', 60_000);
  let there = false;
  void waiting.then(() => {
    there = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(there).toBe(false);
  child.kill('SIGKILL');
  const lock = await waiting;
  expect(lock).not.toBeNull();
  expect(native().tryLock(path, 'shared')).toBeNull();
  lock?.release();
});

test('lock() takes a free lock at once, waits for a busy one, and is null when the time is over', async () => {
  const path = place();
  const first = await native().lock(path, 'exclusive', 0);
  expect(first).not.toBeNull();
  expect(await native().lock(path, 'shared', 0)).toBeNull();
  const began = performance.now();
  expect(await native().lock(path, 'shared', 60)).toBeNull();
  expect(performance.now() - began).toBeGreaterThanOrEqual(59);
  const waiting = native().lock(path, 'shared', 60_000);
  first?.release();
  const second = await waiting;
  expect(second).not.toBeNull();
  second?.release();
});

test('many waiters each get their turn, one at a time', async () => {
  const path = place();
  let inside = 0;
  let most = 0;
  let turns = 0;
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      const lock = await native().lock(path, 'exclusive', 60_000);
      inside++;
      most = Math.max(most, inside);
      turns++;
      await new Promise((resolve) => setImmediate(resolve));
      inside--;
      lock?.release();
    }),
  );
  expect({ most, turns }).toEqual({ most: 1, turns: 20 });
});

test('waiting does not hold up process.exit()', async () => {
  const path = place();
  const lock = native().tryLock(path, 'exclusive');
  const began = performance.now();
  const result = await ending(startScript('hold.ts', [path, 'wait']));
  expect(result).toMatchObject({ code: 3, signal: null });
  expect(performance.now() - began).toBeLessThan(30_000); // it waits for ten minutes
  lock?.release();
});
