/**
 * How long an import holds the lock that an attacker's block may be waiting for, beside a floor: the same number of targets put
 * into a map of the same kind by one batch call under such a lock, and nothing else. Floor, import, floor, import in one run.
 * Usage: lock.ts [TARGETS]
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { native } from '../src/kernel/native.ts';
import { PinnedSet } from '../src/kernel/set.ts';
import { type Host, median, ms, onHost, quantile, say } from './host.ts';
import type { Hold } from './lock-probe.ts';

const targets = Number(process.argv[2] ?? 200_000);
const rounds = 3;

/** Never one of the host's own. */
const addressOf = (n: number, round: number): string => `${20 + round}.${n >>> 16}.${(n >>> 8) & 255}.${n & 255}`;

function importHolds({ lab, must }: Host, round: number): Hold[] {
  const file = join(lab.directory, 'targets');
  const probe = join(lab.directory, 'holds');
  writeFileSync(file, Array.from({ length: targets }, (_, n) => `${addressOf(n, round)}\n`).join(''));
  must('state', ['import', file, '--feed', `bench-${round}`, '--for', '1h'], {
    NODE_OPTIONS: `--import=${join(import.meta.dirname, 'lock-probe.ts')}`,
    LOCK_PROBE: probe,
  });
  const holds = JSON.parse(readFileSync(probe, 'utf8')) as Hold[];
  must('state', ['unblock', '--owner', `feed:bench-${round}`, '--yes']);
  return holds;
}

/** As many holds, of as many targets each. */
function floorHolds({ lab }: Host, count: number): number[] {
  const path = join(lab.directory, 'lock');
  mkdirSync(path, { recursive: true });
  const set = new PinnedSet(lab.pinDir);
  try {
    const map = set.blockMap('blocked_v4');
    const { keySize, valueSize } = map.info;
    const each = Math.ceil(targets / count);
    const keys = Buffer.alloc(each * keySize);
    const holds: number[] = [];
    for (let hold = 0; hold < count; hold++) {
      for (let n = 0; n < each; n++) keys.writeUInt32BE(0x50_00_00_00 + hold * each + n, n * keySize);
      const lock = native().tryLock(path, 'exclusive');
      const begun = performance.now();
      map.updateBatch(keys, Buffer.alloc(each * valueSize));
      lock?.release();
      holds.push(performance.now() - begun);
      map.deleteBatch(keys);
    }
    return holds;
  } finally {
    set.close();
  }
}

const told = (name: string, holds: readonly number[]): string =>
  `${name.padEnd(8)} ${String(holds.length).padStart(6)} holds   median ${ms(median(holds))}   p99 ${ms(quantile(holds, 0.99))}   max ${ms(Math.max(...holds))}`;

await onHost(targets * 2, (host) => {
  const all: { readonly floor: number[]; readonly import: number[]; readonly cpu: number[] }[] = [];
  let count = Math.ceil(targets / 256);
  for (let round = 0; round < rounds; round++) {
    const floor = floorHolds(host, count);
    const holds = importHolds(host, round);
    count = holds.length;
    all.push({ floor, import: holds.map((hold) => hold.ms), cpu: holds.map((hold) => hold.cpuMs) });
    say(told('floor', floor));
    say(told('import', all.at(-1)?.import ?? []));
  }
  const medians = (name: 'floor' | 'import' | 'cpu', share: number): number =>
    median(all.map((round) => quantile(round[name], share)));
  say(`\nan import of ${targets} targets, medians of ${rounds} rounds:`);
  for (const name of ['floor', 'import', 'cpu'] as const) {
    const label = name === 'cpu' ? 'import, CPU time alone' : name;
    const [half, p99, most] = [medians(name, 0.5), medians(name, 0.99), medians(name, 1)].map(ms);
    say(`${label.padEnd(24)} median ${half}   p99 ${p99}   max ${most}`);
  }
  say(`import : floor           median × ${(medians('import', 0.5) / medians('floor', 0.5)).toFixed(1)}`);
  const over = all.flatMap((round) => round.import).filter((hold) => hold > 30).length;
  say(`holds over 30 ms         ${over} of ${all.reduce((sum, round) => sum + round.import.length, 0)}`);
});
