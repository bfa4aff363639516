/**
 * 2 000 offenders at once, through the real daemon: from the first byte of the first POST until the last of them is in the map
 * and a packet of each is dropped. With a ledger on a disk that works (A), and with one that can not be written, for a stranger
 * holds SQLite's lock (B). A B A B in one run: that the ledger costs the drop nothing is a ratio near 1.
 * Usage: offenders.ts [OFFENDERS] [PAIRS]
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import Database from 'better-sqlite3';
import { parsePrefix } from '../src/address/prefix.ts';
import { MAX_SLOTS } from '../src/kernel/layout.ts';
import { loadInstance } from '../src/kernel/object.ts';
import { PinnedSet } from '../src/kernel/set.ts';
import { frame, ipv4 } from '../test/kernel/packets.ts';
import { type Host, median, ms, onHost, root, say } from './host.ts';

const offenders = Number(process.argv[2] ?? 2_000);
const pairs = Number(process.argv[3] ?? 5);
const connections = 8;
const recordedAttacker = '203.0.113.66';

const recorded = readFileSync(join(root, 'test/fixtures/alerts/falco-0.43-append.jsonl'), 'utf8')
  .split('\n')
  .find((line) => line.includes('"rule":"Connection to Canary Port"') && line.includes(`${recordedAttacker}:`));

/** A real alert of Falco 0.43, but for its time and the attacker. */
function alertFrom(source: string): string {
  if (recorded === undefined) throw new Error('the recorded alert is missing');
  const text = recorded
    .replaceAll(`${recordedAttacker}:`, `${source}:`)
    .replaceAll(`"${recordedAttacker}"`, `"${source}"`);
  return JSON.stringify({ ...(JSON.parse(text) as object), time: new Date().toISOString() });
}

async function startDaemon({ lab, namespace, argv }: Host, state: string): Promise<[ChildProcess, port: string]> {
  const child = lab.spawn(namespace, argv(state, ['run']), { stdio: ['ignore', 'ignore', 'pipe'] });
  if (child.stderr === null) throw new Error('the daemon has no log');
  let port = '';
  const missing = new Set(['listening', 'ready', 'ledger']);
  for await (const line of createInterface({ input: child.stderr })) {
    const said = JSON.parse(line) as { msg?: string; port?: number };
    if (said.msg === 'listening') port = String(said.port);
    missing.delete(said.msg ?? '');
    if (missing.size === 0) break;
  }
  child.stderr.resume();
  // The reconcile of the start is a process of its own, which would have the other CPU.
  while (childrenOf(child.pid ?? 0) !== '') await new Promise((resolve) => setTimeout(resolve, 20));
  return [child, port];
}

function childrenOf(pid: number): string {
  return readdirSync(`/proc/${pid}/task`)
    .map((task) => readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8'))
    .join('')
    .trim();
}

interface Run {
  /** Until the last is in the map. */
  readonly mappedMs: number;
  /** Until the last POST was answered. */
  readonly answeredMs: number;
}

async function run(host: Host, nth: number, isLocked: boolean): Promise<Run> {
  const { lab, namespace } = host;
  const state = `state-${nth}`;
  const sources = Array.from({ length: offenders }, (_, n) => `${20 + nth}.7.${n >> 8}.${n & 255}`);
  const [daemon, port] = await startDaemon(host, state);
  let stranger: Database.Database | null = null;
  if (isLocked) {
    stranger = new Database(join(host.stateDir(state), 'ledger.db'), { timeout: 5_000, fileMustExist: true });
    stranger.exec('BEGIN EXCLUSIVE');
  }
  const set = new PinnedSet(lab.pinDir);
  const program = loadInstance((name) => set.map(name), MAX_SLOTS - 1);
  try {
    const poster = lab.spawn(
      namespace,
      [process.execPath, join(import.meta.dirname, 'post.ts'), '127.0.0.1', port, String(connections)],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    if (poster.stdin === null || poster.stdout === null) throw new Error('the poster has no pipes');
    const said = once(createInterface({ input: poster.stdout }), 'line') as Promise<[string]>;
    poster.stdin.end(sources.map((source) => `${alertFrom(source)}\n`).join(''));

    // Half a millisecond between two looks leaves the CPU to the daemon.
    const waiting = sources.map(parsePrefix);
    let lastAt = 0n;
    const giveUp = performance.now() + 60_000;
    while (waiting.length > 0) {
      const next = waiting.at(-1);
      if (next !== undefined && set.lookup(next) !== null) {
        waiting.pop();
        lastAt = process.hrtime.bigint();
      } else {
        if (performance.now() > giveUp) throw new Error(`${waiting.length} offenders are not blocked after a minute`);
        await new Promise((resolve) => setTimeout(resolve, 0.5));
      }
    }
    const [line] = await said;
    const { begun, ended, refused } = JSON.parse(line) as { begun: string; ended: string; refused: number };
    if (refused > 0) throw new Error(`${refused} alerts were refused`);
    const passing = sources.filter(
      (source) => program.testRun({ data: frame(4, ipv4({ source })) }).returnValue !== 1 /* XDP_DROP */,
    );
    if (passing.length > 0) throw new Error(`packets of ${passing.length} offenders pass`);
    const since = (at: bigint): number => Number(at - BigInt(begun)) / 1e6;
    const taken = { mappedMs: since(lastAt), answeredMs: since(BigInt(ended)) };

    stranger?.close();
    daemon.kill('SIGTERM');
    await once(daemon, 'exit');
    // What it could not write down until its end, the maps know.
    host.must(state, ['reconcile']);
    const claims = host.must(state, ['export']).trim().split('\n').length;
    if (claims !== offenders) throw new Error(`the ledger has ${claims} of ${offenders} claims`);
    host.must(state, ['unblock', '--all', '--yes']);
    return taken;
  } finally {
    stranger?.close();
    program.close();
    set.close();
  }
}

await onHost(65_536, async (host) => {
  const [healthy, locked]: [Run[], Run[]] = [[], []];
  let nth = 0;
  // The first warms caches up, and does not count.
  await run(host, nth++, false);
  for (let pair = 0; pair < pairs; pair++) {
    healthy.push(await run(host, nth++, false));
    locked.push(await run(host, nth++, true));
    const [a, b] = [healthy.at(-1), locked.at(-1)];
    say(`healthy ledger ${ms(a?.mappedMs ?? 0).padStart(10)}   locked ledger ${ms(b?.mappedMs ?? 0).padStart(10)}`);
  }
  const of = (runs: readonly Run[]): number => median(runs.map(({ mappedMs }) => mappedMs));
  say(`\n${offenders} offenders, from the first POST until the last is in the map, medians of ${pairs}:`);
  say(`healthy ledger           ${ms(of(healthy))} (answered in ${ms(median(healthy.map((r) => r.answeredMs)))})`);
  say(`ledger can not be written ${ms(of(locked))} (answered in ${ms(median(locked.map((r) => r.answeredMs)))})`);
  say(`healthy : locked         × ${(of(healthy) / of(locked)).toFixed(2)}`);
});
