/** The real logrotate, while a writer appends at speed and a follower reads. */
import { execFile, spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Bench, openBench, quick } from './log.ts';

const run = promisify(execFile);

/** More than the test makes: what logrotate deletes could be counted by nobody. */
const kept = 100;

let bench: Bench;
beforeEach(() => {
  bench = openBench({ remembers: true });
});
afterEach(async () => {
  await bench.close();
});

interface Writer {
  readonly pid: number;
  /** Resolves with how many lines it has written. */
  stop(): Promise<number>;
}

async function startWriter(): Promise<Writer> {
  const script = join(import.meta.dirname, 'fixtures/write.ts');
  const child = spawn(process.execPath, [script, bench.path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  await lines.next();
  return {
    pid: child.pid ?? 0,
    stop: async () => {
      child.kill('SIGTERM');
      const { value } = (await lines.next()) as { readonly value: string };
      return Number(value);
    },
  };
}

/** `settings` stand in the log's block of logrotate's configuration. */
function logrotate(settings: string): () => Promise<void> {
  const config = join(bench.stateDir, 'logrotate.conf');
  writeFileSync(config, `${bench.path} {\n  rotate ${kept}\n  ${settings}\n}\n`, { mode: 0o644 });
  const args = ['--force', '--state', join(bench.stateDir, 'logrotate.state'), config];
  return async () => {
    const { stderr } = await run('logrotate', args, { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` } });
    // It reports there what it could not do, and ends with 0.
    expect(stderr).not.toMatch(/error/);
  };
}

/** Numbers of the alerts that lie in the log and in whatever logrotate has made of it. */
function lyingAbout(): Set<number> {
  const names = readdirSync(bench.directory);
  const texts = names.map((name) => {
    const bytes = readFileSync(join(bench.directory, name));
    return (name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString();
  });
  const whole = /^\{"rule":"(\d+)","output":"x+","source":"syscall","time":"[^"]+"\}$/gm;
  return new Set([...texts.join('\n').matchAll(whole)].map(([, number]) => Number(number)));
}

const isWithin = (some: ReadonlySet<number>, all: ReadonlySet<number>): boolean => [...some].every((n) => all.has(n));

const rotations = 10;
/** Between two rotations. */
const alerts = 400;

async function rotateWhileFollowed(settings: (writer: Writer) => string): Promise<{ written: number }> {
  // A renamed file is given up after ten seconds without anything new in it, as in earnest.
  bench.follow({ pace: { ...quick, lingerPolls: 10_000 / quick.pollMs } });
  const writer = await startWriter();
  const rotate = logrotate(settings(writer));
  for (let n = 0; n < rotations; n++) {
    await bench.judged(bench.rules.length + alerts);
    await rotate();
  }
  await bench.judged(bench.rules.length + alerts);
  return { written: await writer.stop() };
}

const compressed = 'compress\n  delaycompress';
const asFalco = ({ pid }: Writer): string => `postrotate\n    kill -USR1 ${pid}\n  endscript`;

/** What docs/sources.md tells to write into /etc/logrotate.d, for this log and this writer. */
function recipe({ pid }: Writer): string {
  const guide = readFileSync(join(import.meta.dirname, '../../../docs/sources.md'), 'utf8');
  const [, settings = ''] = /```\n# \/etc\/logrotate\.d\/[^\n]*\n[^{]*\{\n([^}]*)\n\}\n```/.exec(guide) ?? [];
  expect(settings).toMatch(/pkill -USR1 -x falco/);
  const here = settings.replace('pkill -USR1 -x falco', `kill -USR1 ${pid}`).replace('root falcodrop', '');
  return here.replace(/^ *rotate .*/m, '');
}

test.each([
  ['the recipe of docs/sources.md', recipe],
  ['create', (writer: Writer) => `create 0640\n  ${asFalco(writer)}`],
  ['create, compress, delaycompress', (writer: Writer) => `create 0640\n  ${compressed}\n  ${asFalco(writer)}`],
  ['nocreate, delaycompress', (writer: Writer) => `nocreate\n  ${compressed}\n  ${asFalco(writer)}`],
  ['create, and the extension is kept', (writer: Writer) => `create 0640\n  extension .jsonl\n  ${asFalco(writer)}`],
])('%s: each alert comes, once, in order of each file', async (_name, settings) => {
  const { written } = await rotateWhileFollowed(settings);
  await bench.judged(written);
  expect(bench.rules.map(Number).toSorted((a, b) => a - b)).toEqual(Array.from({ length: written }, (_, n) => n));
  expect(bench.bad).toEqual([]);
  expect(bench.intake.counts().file).toMatchObject({ received: written, duplicate: 0 });
  expect(lyingAbout().size).toBe(written);
  expect(readdirSync(bench.directory)).toHaveLength(rotations + 1);
});

test.each([
  ['copytruncate', () => 'copytruncate'],
  ['copytruncate, compress, delaycompress', () => `copytruncate\n  ${compressed}`],
])('%s: what logrotate does not lose comes, once in effect', async (_name, settings) => {
  const { written } = await rotateWhileFollowed(settings);
  // What was written between its copy and its truncation lies nowhere; some of it may have been read in time.
  const lying = lyingAbout();
  const came = (): Set<number> => new Set(bench.rules.map(Number));
  await bench.until(() => isWithin(lying, came()));
  expect(bench.rules).toHaveLength(came().size);
  expect(isWithin(came(), new Set(Array.from({ length: written }, (_, n) => n)))).toBe(true);
  expect(written - lying.size).toBeLessThan(written / 2);
  // A write that was cut in two by the truncation leaves at most half a line on each side.
  expect(bench.bad.length).toBeLessThanOrEqual(2 * rotations);
});
