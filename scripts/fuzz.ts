/**
 * `make fuzz`: libFuzzer with ASan and UBSan on the packet parser, then the model of the laws against the program on random
 * states. What libFuzzer finds new lies in .make/fuzz; a failure prints how to repeat it.
 *
 * FUZZ_SECONDS: of libFuzzer, default 60. FUZZ_RUNS: states of the model, six packets each, default 200 000. FUZZ_SEED: of the
 * model. FUZZ_BODIES: connections to the HTTP source with changed requests, default 50 000. CHAOS_SECONDS (60), CHAOS_SEED (of the
 * time): senders and daemon killed at random.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './lint.ts';

const seconds = Number(process.env.FUZZ_SECONDS ?? 60);
const states = Number(process.env.FUZZ_RUNS ?? 200_000);
if (!(seconds > 0 && states > 0)) throw new Error('FUZZ_SECONDS and FUZZ_RUNS are positive numbers');

const place = join(root, '.make/fuzz');
const found = join(place, 'corpus');
mkdirSync(found, { recursive: true });

/** Ends the process when it fails, with what it printed. */
function step(name: string, command: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}): string {
  process.stdout.write(`  FUZZ  ${name}\n`);
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...process.env, ...environment },
  });
  if (status === 0) return stdout + stderr;
  process.stderr.write(`${stdout}${stderr}${error === undefined ? '' : `${error.message}\n`}`);
  process.stderr.write(`failed: ${command} ${args.join(' ')}\n`);
  process.exit(1);
}

const program = join(place, 'packet');
// -fno-sanitize=alignment: headers lie where the frame puts them, which BPF and the CPUs it runs on allow.
const sanitizers = [
  '-fsanitize=fuzzer,address,undefined',
  '-fno-sanitize=alignment',
  '-fno-sanitize-recover=undefined',
];
const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
const include = `-I/usr/include/${machine}-linux-gnu`;
step('build', 'clang', ['-g', '-O1', '-Wall', '-Werror', ...sanitizers, include, 'test/fuzz/packet.c', '-o', program]);
const told = step(`the parser, ${seconds} s`, program, [
  `-max_total_time=${seconds}`,
  '-max_len=256',
  `-artifact_prefix=${place}/`,
  found,
  'test/fuzz/corpus',
]);
const runs = /Done (\d+) runs/.exec(told)?.[1] ?? '0';
step(
  `the program and the model, ${states} states`,
  'node_modules/.bin/vitest',
  ['run', 'test/kernel/model.test.ts', '--testTimeout=3600000'],
  {
    FUZZ_RUNS: `${states}`,
  },
);
const bodies = Number(process.env.FUZZ_BODIES ?? 50_000);
if (!(bodies > 0)) throw new Error('FUZZ_BODIES is a positive number');
step(`the HTTP source, ${bodies} connections`, 'node_modules/.bin/vitest', ['run', 'test/sources/http/fuzz.test.ts'], {
  FUZZ_BODIES: `${bodies}`,
});
const { CHAOS_SECONDS = '60', CHAOS_SEED = `${Date.now() % 1_000_000}` } = process.env;
step(
  `senders and daemon killed at random, ${CHAOS_SECONDS} s, CHAOS_SEED=${CHAOS_SEED}`,
  'node_modules/.bin/vitest',
  ['run', 'test/e2e/chaos.test.ts'],
  { CHAOS_SECONDS, CHAOS_SEED },
);
process.stdout.write(`${runs} frames parsed, ${states * 6} packets judged as the model says\n`);
