import { execFileSync } from 'node:child_process';
import { createReadStream, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Intake } from '../../../src/sources/intake.ts';
import { readFileOnce, readStream } from '../../../src/sources/lines/stream.ts';
import { type Bench, line, numbers, openBench } from './log.ts';

let bench: Bench;
beforeEach(() => {
  bench = openBench();
});
afterEach(() => bench.close());

describe('a stream', () => {
  test('to its end; the last line needs none', async () => {
    const stream = new PassThrough();
    const { ended } = readStream(stream, 'stdin', bench.feed);
    const text = `${line('a')}\n${line('b')}\r\n\n${line('c')}`;
    for (const byte of Buffer.from(text)) stream.write(Buffer.from([byte]));
    stream.end();
    await ended;
    await bench.intake.idle();
    expect(bench.rules).toEqual(['a', 'b', 'c']);
    expect(bench.intake.counts().file).toMatchObject({ received: 3, bad: 0, tooLong: 0, shed: 0, decided: 3 });
  });

  test('nothing at all', async () => {
    const stream = new PassThrough();
    stream.end();
    await readStream(stream, 'stdin', bench.feed).ended;
    expect(bench.intake.counts()).toMatchObject({});
  });

  test('stopped: what was read is judged, half a line is not', async () => {
    const stream = new PassThrough();
    const source = readStream(stream, 'stdin', bench.feed);
    stream.write(`${line('a')}\n{"rule":"b"}`);
    await bench.judged(1);
    await source.stop();
    await source.ended;
    expect([bench.rules, bench.bad]).toEqual([['a'], []]);
  });

  test('an error of reading is told, and what came before it is judged', async () => {
    const stream = new PassThrough();
    const { ended } = readStream(stream, 'stdin', bench.feed);
    stream.write(`${line('a')}\n`);
    await bench.judged(1);
    stream.destroy(Object.assign(new Error('EIO: i/o error'), { code: 'EIO' }));
    await expect(ended).rejects.toMatchObject({ code: 'file_unreadable', message: 'stdin: EIO: i/o error' });
    expect(bench.rules).toEqual(['a']);
  });
});

describe('a file that is read once', () => {
  test('whole', async () => {
    bench.append(...numbers(0, 1_000));
    const { ended } = await readFileOnce(bench.path, bench.feed);
    await ended;
    await bench.intake.idle();
    expect(bench.rules).toEqual(numbers(0, 1_000));
  });

  test.each<[string, (path: string) => string, string]>([
    ['none', (path) => `${path}.none`, 'there is no such file'],
    ['a directory', (path) => join(path, '..'), 'it is a directory'],
    [
      'a named pipe',
      (path) => {
        execFileSync('mkfifo', [`${path}.pipe`]);
        return `${path}.pipe`;
      },
      'it is no regular file',
    ],
    ['below a file', (path) => `${path}/x`, 'ENOTDIR'],
  ])('%s', async (_name, make, words) => {
    await expect(readFileOnce(make(bench.path), bench.feed)).rejects.toMatchObject({
      code: 'file_unreadable',
      message: expect.stringContaining(words),
    });
  });
});

describe('100 MB of backlog', () => {
  const rest = 'x'.repeat(900);
  const text = (n: number): string => `{"rule":"${n}","output":"${rest}"}\n`;
  const total = Math.ceil((100 << 20) / text(0).length);

  function write(path: string): void {
    const file = openSync(path, 'w');
    for (let n = 0; n < total; n += 1_000) {
      let piece = '';
      for (let i = n; i < Math.min(n + 1_000, total); i++) piece += text(i);
      writeSync(file, piece);
    }
  }

  test.each([
    ['followed', true],
    ['read once', false],
  ])(
    '%s: in bounded memory, in order, nothing shed, and HTTP has its place in the queue',
    async (_name, isFollowed) => {
      write(bench.path);
      let next = 0;
      let inOrder = true;
      let longest = 0;
      let largest = 0;
      let done: () => void = () => undefined;
      const all = new Promise<void>((resolve) => {
        done = resolve;
      });
      const intake: Intake = new Intake(({ alert: { rule }, source }) => {
        if (source.name !== 'file') return;
        inOrder &&= rule === String(next);
        next++;
        longest = Math.max(longest, intake.waiting);
        if (next % 1_000 === 0) {
          const { external, arrayBuffers } = process.memoryUsage();
          largest = Math.max(largest, external, arrayBuffers);
          // Somebody else's alert is queued, never shed.
          intake.push('{"rule":"http"}', 'http', 'local', 0n);
        }
        if (next === total) done();
      });
      const { external, arrayBuffers } = process.memoryUsage();
      const before = Math.max(external, arrayBuffers);
      if (isFollowed) bench.follow({ intake });
      else void readStream(createReadStream(bench.path), 'x', { ...bench.feed, intake });
      await all;
      await intake.idle();
      expect({ next, inOrder }).toEqual({ next: total, inOrder: true });
      expect(longest).toBeLessThan(200);
      expect(largest - before).toBeLessThan(48 << 20);
      expect(intake.counts()).toMatchObject({ file: { shed: 0, bad: 0, decided: total }, http: { shed: 0 } });
    },
  );
});

test('what is queued now was judged, whatever comes after it', async () => {
  const rules: string[] = [];
  const intake = new Intake(({ alert: { rule } }) => {
    rules.push(rule);
    // for ever
    if (rules.length < 10_000) intake.push('{"rule":"more"}', 'a', 'local', 0n);
  });
  intake.push('{"rule":"first"}', 'a', 'local', 0n);
  intake.push('{"rule":"second"}', 'a', 'local', 0n);
  await intake.decided();
  expect(rules.slice(0, 2)).toEqual(['first', 'second']);
  expect(intake.waiting).toBeGreaterThan(0);
  await intake.idle();
  await intake.decided();
});

test('an empty queue has room for anything; a source that can wait fills little of it', async () => {
  const intake = new Intake(() => undefined);
  expect(intake.hasRoom(1 << 30)).toBe(true);
  writeFileSync(bench.path, '');
  let pushed = 0;
  while (intake.hasRoom(20)) {
    intake.push('{"rule":"a"}', 'a', 'local', 0n);
    pushed++;
  }
  expect(pushed).toBe(128);
  expect(intake.push('{"rule":"b"}', 'b', 'local', 0n)).toBe('queued');
  await intake.room();
  await intake.idle();
  expect(intake.hasRoom(20)).toBe(true);
});
