import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { PositionFile } from '../../../src/sources/lines/position.ts';
import { isRotatedName } from '../../../src/sources/lines/rotated.ts';
import { type Bench, line, numbers, openBench, quick } from './log.ts';

let bench: Bench;
beforeEach(() => {
  bench = openBench();
});
afterEach(() => bench.close());

const rotated = (n = 1): string => `${bench.path}.${n}`;

/** copytruncate, as logrotate does it. */
function copyTruncate(): void {
  copyFileSync(bench.path, rotated());
  truncateSync(bench.path);
}

const words = (): string[] => bench.said.map(({ message }) => message);

describe('reading on', () => {
  test('what is there, then what is appended, in order', async () => {
    bench.append(...numbers(0, 100));
    bench.follow();
    await bench.judged(100);
    for (let n = 100; n < 130; n++) {
      bench.append(n);
      await bench.judged(n + 1);
    }
    expect(bench.rules).toEqual(numbers(0, 130));
    expect(bench.intake.counts()).toMatchObject({ file: { received: 130, bad: 0, tooLong: 0, shed: 0, decided: 130 } });
  });

  test('inotify wakes it: no poll is waited for', async () => {
    bench.follow({ pace: { ...quick, pollMs: 3_600_000 } });
    await bench.saidOf('following');
    bench.append('a');
    await bench.judged(1);
    renameSync(bench.path, rotated());
    bench.append('b');
    await bench.judged(2);
    expect(bench.rules).toEqual(['a', 'b']);
  });

  test('a line is taken when its end has come, not before', async () => {
    const text = line('a');
    bench.follow();
    for (const part of [text.slice(0, 10), text.slice(10, 200), text.slice(200)]) {
      appendFileSync(bench.path, part);
      await bench.until(() => bench.said.length > 0);
    }
    expect(bench.rules).toEqual([]);
    appendFileSync(bench.path, `\n${line('b')}\r\n`);
    await bench.judged(2);
    expect([bench.rules, bench.bad]).toEqual([['a', 'b'], []]);
  });

  test('bad lines are counted and do not hold up others', async () => {
    await bench.close();
    bench = openBench({ longest: 2_000 });
    writeFileSync(
      bench.path,
      Buffer.concat([
        Buffer.from(`not JSON\n${line('a')}\n{"output":"no rule"}\n`),
        Buffer.from(`${'x'.repeat(10_000)}\n`),
        Buffer.alloc(100_000),
        Buffer.from(`${line('b')}\n`),
        Buffer.from('{"rule":"c\xff"}\n', 'latin1'),
      ]),
    );
    bench.follow({ longest: 2_000 });
    await bench.judged(3);
    expect(bench.rules).toEqual(['a', 'b', 'c\ufffd']);
    expect(bench.bad).toEqual([
      expect.stringContaining('not JSON'),
      expect.stringContaining('names its rule'),
      'an alert has at most 2000 bytes',
    ]);
    expect(bench.intake.counts().file).toMatchObject({ received: 6, bad: 3, tooLong: 1, shed: 0, decided: 3 });
  });

  test('a symbolic link is followed, to another file too', async () => {
    const link = join(bench.directory, 'link.jsonl');
    symlinkSync(bench.path, link);
    bench.append('a');
    bench.follow({ path: link });
    await bench.judged(1);
    bench.append('b');
    await bench.judged(2);
    const other = join(bench.directory, 'other');
    writeFileSync(other, `${line('c')}\n`);
    unlinkSync(link);
    symlinkSync(other, link);
    await bench.judged(3);
    expect(bench.rules).toEqual(['a', 'b', 'c']);
  });
});

describe('not there', () => {
  test('a file that comes later, in a directory that comes later', async () => {
    const folder = join(bench.directory, 'later');
    const path = join(folder, 'a.jsonl');
    bench.follow({ path });
    expect(await bench.saidOf('waiting for the file')).toMatchObject({ details: { problem: 'it is not there yet' } });
    mkdirSync(folder);
    writeFileSync(path, `${line('a')}\n`);
    await bench.judged(1);
    expect(words().filter((message) => message.includes('waiting'))).toHaveLength(1);
  });

  test('replaced by a directory: said once; when it is a file again it is read', async () => {
    bench.append('a');
    bench.follow();
    await bench.judged(1);
    renameSync(bench.path, rotated());
    mkdirSync(bench.path);
    expect(await bench.saidOf('waiting for the file')).toMatchObject({ details: { problem: 'it is a directory' } });
    // Its writer has it open: it is read on meanwhile.
    appendFileSync(rotated(), `${line('b')}\n`);
    await bench.judged(2);
    rmSync(bench.path, { recursive: true });
    bench.append('c');
    await bench.judged(3);
    await bench.saidOf('right again');
    expect(bench.rules).toEqual(['a', 'b', 'c']);
    expect(bench.said.filter(({ level }) => level === 'warn')).toHaveLength(1);
  });

  test('a named pipe hangs nobody', async () => {
    unlinkSync(bench.path);
    execFileSync('mkfifo', [bench.path]);
    bench.follow();
    expect(await bench.saidOf('waiting for the file')).toMatchObject({ details: { problem: 'it is no regular file' } });
    unlinkSync(bench.path);
    bench.append('a');
    await bench.judged(1);
  });
});

describe('rotation', () => {
  test('rename and create: the writer goes on with the old file for a while, and nothing is lost', async () => {
    bench.append(...numbers(0, 50));
    bench.follow();
    const old = openSync(bench.path, 'a');
    await bench.judged(10);
    renameSync(bench.path, rotated());
    writeSync(old, `${line(50)}\n`);
    bench.append(51);
    await bench.judged(52);
    // Both are read while the old one is not given up.
    writeSync(old, `${line(52)}\n`);
    await bench.judged(53);
    bench.append(53);
    await bench.judged(54);
    closeSync(old);
    expect(bench.rules).toEqual(numbers(0, 54));
    expect(bench.said.filter(({ message }) => message === 'rotated')).toHaveLength(1);
  });

  test('the last line of a file that is given up needs no end', async () => {
    appendFileSync(bench.path, line('a'));
    bench.follow();
    await bench.saidOf('following');
    renameSync(bench.path, rotated());
    bench.append('b');
    await bench.judged(2);
    expect(bench.rules.toSorted()).toEqual(['a', 'b']);
    expect(bench.bad).toEqual([]);
  });

  test('twice and more while nobody looked', async () => {
    bench.append('a');
    bench.follow({ pace: { ...quick, lingerPolls: 1 } });
    await bench.judged(1);
    // In one turn of the event loop: inotify tells of it when all is done.
    for (let n = 0; n < 5; n++) {
      for (let old = n; old >= 1; old--) renameSync(rotated(old), rotated(old + 1));
      bench.append(`last ${n}`);
      renameSync(bench.path, rotated());
      bench.append(`first ${n}`);
    }
    await bench.judged(11);
    expect(new Set(bench.rules).size).toBe(11);
    expect(bench.rules.length).toBe(11);
  });

  test('rotated fast, many times, with a writer that never waits', async () => {
    bench.follow({ pace: { ...quick, pollMs: 5, lingerPolls: 2 } });
    await bench.saidOf('following');
    const total = 3_000;
    for (let n = 0; n < total; n++) {
      bench.append(n);
      if (n % 97 === 96) {
        rmSync(rotated(3), { force: true });
        for (const old of [2, 1]) if (existsSync(rotated(old))) renameSync(rotated(old), rotated(old + 1));
        renameSync(bench.path, rotated());
        await bench.judged(Math.max(0, n - 150));
      }
    }
    await bench.until(() => new Set(bench.rules).size === total);
    expect(new Set(bench.rules)).toEqual(new Set(numbers(0, total)));
  });

  test('copytruncate: what had not been read is read in the copy', async () => {
    bench.append(...numbers(0, 20));
    bench.follow();
    await bench.judged(20);
    bench.append(20, 21);
    copyTruncate();
    bench.append(22);
    await bench.judged(23);
    expect(bench.rules.toSorted((a, b) => Number(a) - Number(b))).toEqual(numbers(0, 23));
    expect(await bench.saidOf('truncated')).toMatchObject({ details: { copy: 'read to its end' } });
  });

  test('copytruncate: read past the copy before the truncation, it is not read again', async () => {
    bench.append(...numbers(0, 20));
    bench.follow();
    await bench.judged(20);
    copyFileSync(bench.path, rotated());
    bench.append(20, 21);
    await bench.judged(22);
    truncateSync(bench.path);
    bench.append(22);
    await bench.judged(23);
    expect(bench.rules).toEqual(numbers(0, 23));
    expect(await bench.saidOf('truncated')).toMatchObject({ details: { copy: 'read before' } });
  });

  test('truncated and grown past the old position at once: told by its content', async () => {
    bench.append(...numbers(0, 10));
    bench.follow();
    await bench.judged(10);
    truncateSync(bench.path);
    bench.append(...numbers(10, 60));
    await bench.judged(60);
    expect(bench.rules).toEqual(numbers(0, 60));
    expect(await bench.saidOf('truncated')).toMatchObject({ details: { copy: 'none found' } });
  });

  test('truncated in the middle of a line: the half is counted as bad, and the rest read', async () => {
    appendFileSync(bench.path, `${line('a')}\n${line('half').slice(0, 50)}`);
    bench.follow();
    await bench.judged(1);
    truncateSync(bench.path);
    bench.append('b');
    await bench.judged(2);
    expect([bench.rules, bench.bad.length]).toEqual([['a', 'b'], 1]);
  });

  test('a writer without O_APPEND leaves a hole of NULs where the file was truncated', async () => {
    const writer = openSync(bench.path, 'w');
    writeSync(writer, `${numbers(0, 200).map(line).join('\n')}\n`);
    bench.follow();
    await bench.judged(200);
    copyTruncate();
    writeSync(writer, `${line('after')}\n`);
    closeSync(writer);
    expect(readFileSync(bench.path)[0]).toBe(0);
    await bench.judged(201);
    expect([bench.rules.at(-1), bench.bad]).toEqual(['after', []]);
  });

  test.each([
    ['alerts.jsonl.1', true],
    ['alerts.jsonl-20261122', true],
    ['alerts.jsonl_old', true],
    ['alerts.1.jsonl', true],
    ['alerts-20261122.jsonl', true],
    ['alerts.jsonl', false],
    ['alerts.jsonl.1.gz', false],
    ['alerts.jsonl.2.zst', false],
    ['alerts.jsonlx', false],
    ['alerts-other.jsonl', false],
    ['other.jsonl.1', false],
  ])('%s is alerts.jsonl rotated: %s', (name, is) => {
    expect(isRotatedName(name, 'alerts.jsonl')).toBe(is);
  });
});

describe('the position', () => {
  const file = (): PositionFile => new PositionFile(bench.stateDir, bench.path);
  const kept = async () => {
    const positions = await file().read();
    if (typeof positions === 'string') throw new Error(positions);
    return positions.positions;
  };

  test('after an orderly end nothing comes twice', async () => {
    bench.append('a', 'b');
    const first = bench.follow();
    await bench.judged(2);
    await first.close();
    bench.append('c');
    bench.follow();
    await bench.judged(3);
    expect(bench.rules).toEqual(['a', 'b', 'c']);
    expect(statSync(file().path).mode & 0o777).toBe(0o640);
  });

  test('half a line is read again with its other half', async () => {
    const text = line('b');
    bench.append('a');
    appendFileSync(bench.path, text.slice(0, 40));
    const first = bench.follow();
    await bench.judged(1);
    await first.close();
    appendFileSync(bench.path, `${text.slice(40)}\n`);
    bench.follow();
    await bench.judged(2);
    expect([bench.rules, bench.bad]).toEqual([['a', 'b'], []]);
  });

  test('of a file that nobody has followed before is kept at once', async () => {
    bench.append('a');
    bench.follow({ pace: { ...quick, keepMs: 3_600_000 } });
    while (typeof (await file().read()) === 'string') await new Promise((resolve) => setImmediate(resolve));
    expect(await kept()).toHaveLength(1);
  });

  test('is not kept before what was read is durable', async () => {
    let durable: (isDurable: boolean) => void = () => undefined;
    let asked = 0;
    bench.append('a');
    bench.follow({
      durable: () => {
        asked++;
        return new Promise((resolve) => {
          durable = resolve;
        });
      },
    });
    await bench.judged(1);
    while (asked === 0) await new Promise((resolve) => setImmediate(resolve));
    // Following does not wait for it.
    bench.append('b');
    await bench.judged(2);
    expect(await file().read()).toBe('none');
    durable(false);
    while (asked === 1) await new Promise((resolve) => setImmediate(resolve));
    expect(await file().read()).toBe('none');
    durable(true);
    while (typeof (await file().read()) === 'string') await new Promise((resolve) => setImmediate(resolve));
    expect((await kept()).map(({ offset }) => offset)).toEqual([statSync(bench.path).size]);
  });

  test.each<[string, () => void, string[]]>([
    [
      'renamed',
      () => {
        bench.append('c');
        renameSync(bench.path, rotated());
        bench.append('d');
      },
      ['c', 'd'],
    ],
    [
      'renamed twice',
      () => {
        bench.append('c');
        renameSync(bench.path, rotated(2));
        bench.append('d');
        renameSync(bench.path, rotated());
        bench.append('e');
      },
      ['c', 'd', 'e'],
    ],
    [
      'truncated, with a copy',
      () => {
        bench.append('c');
        copyTruncate();
        bench.append('d');
      },
      ['c', 'd'],
    ],
    [
      'truncated, with a copy, and grown past the position',
      () => {
        bench.append('c');
        copyTruncate();
        bench.append(...numbers(0, 20));
      },
      ['c', ...numbers(0, 20)],
    ],
    [
      'truncated, with a copy, and then renamed',
      () => {
        bench.append('c');
        copyTruncate();
        bench.append('d');
        renameSync(bench.path, rotated(2));
        bench.append('e');
      },
      ['c', 'd', 'e'],
    ],
    [
      'truncated twice, each time with a copy, and then renamed',
      () => {
        bench.append('c');
        copyTruncate();
        bench.append('d');
        renameSync(rotated(), rotated(2));
        copyTruncate();
        bench.append('e');
        renameSync(bench.path, rotated(3));
        bench.append('f');
      },
      ['c', 'd', 'e', 'f'],
    ],
    [
      'renamed, and then truncated, with a copy',
      () => {
        bench.append('c');
        renameSync(bench.path, rotated(2));
        bench.append('d');
        copyTruncate();
        bench.append('e');
      },
      ['c', 'd', 'e'],
    ],
    [
      'copied to another file system and back',
      () => {
        copyFileSync(bench.path, `${bench.path}-new`);
        renameSync(`${bench.path}-new`, bench.path);
        bench.append('c');
      },
      ['c'],
    ],
    [
      'gone',
      () => {
        unlinkSync(bench.path);
        bench.append('c');
      },
      ['c'],
    ],
  ])('while nobody followed: %s', async (_name, happen, expected) => {
    bench.append('a', 'b');
    const first = bench.follow();
    await bench.judged(2);
    await first.close();
    happen();
    bench.follow();
    await bench.judged(2 + expected.length);
    expect(bench.rules.slice(2)).toEqual(expected);
  });

  test('of a renamed file is kept beside that of the new one', async () => {
    bench.append('a');
    const old = openSync(bench.path, 'a');
    const first = bench.follow({ pace: { ...quick, lingerPolls: 1_000_000 } });
    await bench.judged(1);
    renameSync(bench.path, rotated());
    bench.append('b');
    await bench.judged(2);
    await first.close();
    expect(await kept()).toHaveLength(2);
    writeSync(old, `${line('c')}\n`);
    closeSync(old);
    bench.append('d');
    bench.follow();
    await bench.judged(4);
    expect(bench.rules).toEqual(['a', 'b', 'c', 'd']);
  });

  test.each<[string, string | Buffer]>([
    ['empty', ''],
    ['half of it', '{"version":1,"path":"'],
    ['bytes', Buffer.from([0xff, 0, 0x80])],
    ['of another version', '{"version":2,"files":[]}'],
    ['another path’s', '{"version":1,"path":"/elsewhere","files":[]}'],
    [
      'a negative offset',
      JSON.stringify({ files: [{ dev: '1', ino: '1', offset: -1, tail_bytes: 0, tail_sha256: '' }] }),
    ],
    ['huge', '['.repeat(100_000)],
  ])('damaged (%s): read from the beginning, and said', async (_name, contents) => {
    bench.append('a', 'b');
    const whole = String(contents).startsWith('{"files"')
      ? JSON.stringify({ ...(JSON.parse(String(contents)) as object), version: 1, path: bench.path })
      : contents;
    writeFileSync(file().path, whole);
    bench.follow();
    await bench.judged(2);
    expect(await bench.saidOf('damaged')).toMatchObject({ level: 'warn' });
    expect(bench.rules).toEqual(['a', 'b']);
  });

  test('beyond the end, or of other contents: read from the beginning', async () => {
    bench.append('a', 'b');
    const first = bench.follow();
    await bench.judged(2);
    await first.close();
    const [position] = await kept();
    if (position === undefined) throw new Error('none');
    for (const wrong of [{ offset: position.offset + 10_000 }, { tailHash: '0'.repeat(64) }]) {
      await file().write([{ ...position, ...wrong }]);
      bench.rules.splice(0);
      const next = bench.follow();
      await bench.judged(2);
      await next.close();
      expect(bench.rules).toEqual(['a', 'b']);
    }
  });

  test('a link that somebody laid in its place is not followed', async () => {
    const victim = join(bench.directory, 'victim');
    writeFileSync(victim, 'precious');
    symlinkSync(victim, file().path);
    symlinkSync(victim, `${file().path}.new`);
    bench.append('a');
    const first = bench.follow();
    await bench.judged(1);
    await first.close();
    expect(readFileSync(victim, 'utf8')).toBe('precious');
    expect(await kept()).toHaveLength(1);
  });

  test('that can not be written is said once, and following goes on', async () => {
    const stateDir = join(bench.stateDir, 'gone');
    bench.append('a');
    bench.follow({ stateDir, pace: { ...quick, keepMs: 1 } });
    const said = await bench.saidOf('can not be kept');
    expect(said.details.problem).toBe('it is not there');
    for (const rule of ['b', 'c', 'd']) {
      bench.append(rule);
      await bench.until(() => bench.rules.includes(rule));
    }
    expect(words().filter((message) => message.includes('can not be kept'))).toHaveLength(1);
    mkdirSync(stateDir);
    await bench.saidOf('keeping the position: right again');
  });
});

test('a log that may not be read is said so, and read when it may', async () => {
  // root may read all: a loop of links is as unreadable
  unlinkSync(bench.path);
  symlinkSync(bench.path, bench.path);
  bench.follow();
  expect(await bench.saidOf('waiting for the file')).toMatchObject({
    details: { problem: expect.stringContaining('links') },
  });
  unlinkSync(bench.path);
  bench.append('a');
  await bench.judged(1);
  expect(bench.rules).toEqual(['a']);
});
