import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Bench, openBench } from './log.ts';

let bench: Bench;
let mounted = '';
beforeEach(() => {
  bench = openBench();
  mounted = join(bench.stateDir, 'small');
  mkdirSync(mounted);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'falcodrop-test', mounted]);
});
afterEach(async () => {
  try {
    execFileSync('umount', ['-l', mounted]);
  } finally {
    await bench.close();
  }
});

test('a full disk is said once, following goes on, and the position is kept when there is room again', async () => {
  const filler = join(mounted, 'filler');
  expect(() => writeFileSync(filler, Buffer.alloc(1 << 20))).toThrowError(expect.objectContaining({ code: 'ENOSPC' }));
  bench.append('a');
  bench.follow({ stateDir: mounted });
  expect((await bench.saidOf('can not be kept')).details).toMatchObject({ problem: 'the disk is full' });
  for (const rule of ['b', 'c', 'd']) {
    bench.append(rule);
    await bench.until(() => bench.rules.includes(rule));
  }
  rmSync(filler);
  await bench.saidOf('keeping the position: right again');
  expect(bench.said.filter(({ level }) => level === 'warn')).toHaveLength(1);
});
