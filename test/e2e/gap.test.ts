/**
 * No gap: a flood of more than 100 000 packets a second over all blocked sources, while their blocks are extended, neighbours
 * come and go, and the program is replaced under its link. Not one packet passes; with entries overwritten instead of
 * raised, some do.
 */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatPrefix, type Prefix, parsePrefix } from '../../src/address/prefix.ts';
import { Blocklist } from '../../src/blocklist/blocklist.ts';
import { type CountKind, readCounters } from '../../src/kernel/counters.ts';
import { encodeBlock, keyOf } from '../../src/kernel/layout.ts';
import { byTest } from '../blocklist/cause.ts';
import { actScript, type Lab, openLab } from '../kernel/lab.ts';
import { buildVariant, sameWithOtherTag } from '../kernel/variant.ts';

const uplink = 'up0';
/** The sources of fixtures/flood.c. */
const hosts = [
  ...Array.from({ length: 60 }, (_, i) => parsePrefix(`10.99.0.${i}`)),
  ...Array.from({ length: 60 }, (_, i) => parsePrefix(`2001:db8:99::${i.toString(16)}`)),
];
const network = parsePrefix('10.97.0.0/24');
const targets: readonly Prefix[] = [...hosts, network];

let lab: Lab;
let edge: string;
let attacker: string;
let list: Blocklist;
let otherBuild: string;

beforeAll(() => {
  lab = openLab();
  edge = lab.namespace('e');
  attacker = lab.namespace('x');
  lab.veth({ namespace: edge, name: uplink, exact: true }, { namespace: attacker, name: 'x0', exact: true });
  for (const name of ['flood', 'arrivals']) {
    lab.exec(
      null,
      'cc',
      '-O2',
      '-Wall',
      '-o',
      join(lab.directory, name),
      join(import.meta.dirname, `fixtures/${name}.c`),
    );
  }
  otherBuild = buildVariant(lab, 'other', sameWithOtherTag);
  // Nearly full maps, so that most entries share a bucket: a reader passes the head, where an overwritten one would be added,
  // before it comes to where that one was.
  lab.attach(edge, [uplink], { mode: 'native', sizes: { addresses: 64, prefixes: 64 } });
  list = Blocklist.open(lab.pinDir);
});
afterAll(async () => {
  list.close();
  await lab.close();
});

const wish = (target: Prefix, seconds: number) =>
  ({ target, owner: 'hand', mode: 'enforce', seconds, cause: byTest }) as const;

interface Running {
  readonly child: ChildProcess;
  /** The lines printed so far. */
  readonly lines: string[];
}

async function start(namespace: string, program: string, name: string): Promise<Running> {
  const child = lab.spawn(namespace, [join(lab.directory, program), name], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines: string[] = [];
  let rest = '';
  await new Promise<void>((resolve, reject) => {
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const pieces = (rest + text).split('\n');
      rest = pieces.pop() ?? '';
      lines.push(...pieces);
      if (lines.includes('ready')) resolve();
    });
    child.once('close', () => reject(new Error(`${program} ended`)));
  });
  return { child, lines };
}

async function finish<T>({ child, lines }: Running): Promise<T> {
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGTERM');
  await closed;
  return JSON.parse(lines.at(-1) ?? '') as T;
}

interface Flood {
  readonly sent: number;
  readonly blocked: number;
  readonly innocent: number;
  /** What XDP dropped, a second. */
  readonly rate: number;
  readonly dropped: number;
}

/** Runs the flood while `work` goes on; it is handed a way to tell how many packets have passed (it stops at a hundred). */
async function flood(work: (leaked: () => number) => Promise<void>): Promise<Flood> {
  const before = droppedSoFar();
  const arrivals = await start(edge, 'arrivals', uplink);
  const source = await start(attacker, 'flood', 'x0');
  await work(() => arrivals.lines.filter((line) => line === 'leak').length);
  const { sent, seconds } = await finish<{ sent: number; seconds: number }>(source);
  const { blocked, innocent } = await finish<{ blocked: number; innocent: number }>(arrivals);
  const dropped = droppedSoFar() - before;
  return { sent, blocked, innocent, dropped, rate: Math.round(dropped / seconds) };
}

function droppedSoFar(): number {
  const counters = readCounters(list.set, 0);
  return (['DROP_ADDRESS', 'DROP_PREFIX'] as CountKind[]).reduce((sum, kind) => sum + counters[kind].packets, 0);
}

async function blockAll(): Promise<void> {
  for (const { target } of [...list.entries()]) await list.unblock(target, { cause: byTest });
  for (const target of targets) await list.block(wish(target, 600));
}

/** A turn of the event loop now and then: the programs' lines are read in it. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('under a flood', () => {
  /** How many overwritten entries it took for five packets to pass: the measure of what the next test would see. */
  let overwritten = 0;

  it('an entry that is overwritten lets packets pass: the next test can fail', async () => {
    await blockAll();
    const result = await flood(async (leaked) => {
      const deadline = performance.now() + 30_000;
      const values = hosts.map((target) => {
        const value = list.set.lookup(target);
        if (value === null) throw new Error('it is blocked');
        return { map: list.set.blocks(target), key: keyOf(target), bytes: encodeBlock(value) };
      });
      while (leaked() < 5 && performance.now() < deadline) {
        for (let i = 0; i < 10; i++) {
          // What kernel/set.ts must never do: BPF_MAP_UPDATE_ELEM on a live key of a hash.
          for (const { map, key, bytes } of values) map.update(key, bytes, 0);
        }
        overwritten += 10 * values.length;
        await turn();
      }
    });
    process.stdout.write(
      `overwriting: ${result.blocked} of ${result.dropped} passed, ${overwritten} overwritten, ${result.rate} packets/s\n`,
    );
    expect(result.blocked).toBeGreaterThanOrEqual(5);
  });

  it('nothing passes while blocks are extended, neighbours come and go, and the program is replaced', async () => {
    await blockAll();
    const replacements: string[] = [];
    let done = false;
    const replace = async () => {
      for (let i = 0; !done; i++) {
        const request = JSON.stringify({ verb: 'attach', pinDir: lab.pinDir, names: [uplink] });
        const script = i % 2 === 0 ? otherBuild : actScript;
        const child = lab.spawn(edge, [process.execPath, script, request], { stdio: ['ignore', 'pipe', 'inherit'] });
        let said = '';
        child.stdout?.setEncoding('utf8').on('data', (text: string) => {
          said += text;
        });
        await new Promise((resolve) => child.once('close', resolve));
        // Now and then: loading a program takes 60 ms of a CPU.
        await new Promise((resolve) => setTimeout(resolve, 500));
        replacements.push(...(JSON.parse(said) as { done: { status: string }[] }).done.map(({ status }) => status));
      }
    };

    let extended = 0;
    let raised = 0;
    const result = await flood(async (leaked) => {
      const replacing = replace();
      const begin = performance.now();
      let seconds = 600;
      const goesOn = () =>
        performance.now() < begin + 4000 || (raised < overwritten && performance.now() < begin + 120_000);
      while (goesOn() && leaked() === 0) {
        seconds += 10;
        for (const target of targets) {
          expect((await list.block(wish(target, seconds))).status).toBe('extended');
          extended++;
        }
        // The same in its innermost step, as fast as the entries were overwritten.
        const end = list.set.now() + BigInt(seconds) * 1_000_000_000n;
        for (let i = 1; i <= 200; i++) {
          const ends = { dropUntil: end + BigInt(i), countUntil: 0n, action: 0, owners: 1, scope: 0 };
          for (const target of hosts) list.set.change('raise', target, ends);
        }
        raised += 200 * hosts.length;
        for (let i = 0; i < 4; i++) {
          // Other addresses, so that buckets of the hash and nodes of the trie change beside the blocked ones.
          const neighbour = parsePrefix(i === 0 ? `10.97.${(seconds % 250) + 1}.0/24` : `10.96.${i}.${seconds % 256}`);
          await list.block(wish(neighbour, 60));
          await list.unblock(neighbour, { cause: byTest });
        }
        await turn();
      }
      done = true;
      await replacing;
    });
    process.stdout.write(
      `no gap: ${result.blocked} of ${result.dropped} passed, ${result.rate} packets/s, ${raised} raised, ` +
        `${extended} extended, ${replacements.length} replacements\n`,
    );
    expect(result.blocked).toBe(0);
    expect(result.innocent).toBeGreaterThan(0);
    expect(result.rate).toBeGreaterThan(100_000);
    expect(raised).toBeGreaterThanOrEqual(overwritten);
    expect(extended).toBeGreaterThan(500);
    expect(replacements.length).toBeGreaterThanOrEqual(2);
    expect(new Set(replacements)).toEqual(new Set(['replaced']));

    // No count was lost either: each packet dropped was counted by the one entry that dropped it.
    const entries = [...list.entries()];
    expect(entries.map(({ target }) => formatPrefix(target)).sort()).toEqual(targets.map(formatPrefix).sort());
    expect(entries.reduce((sum, { packets }) => sum + packets, 0)).toBe(result.dropped);
    for (const entry of entries) expect(entry.packets, formatPrefix(entry.target)).toBeGreaterThan(1000);
  });

  it('the same flood sees a detach and attach', async () => {
    await blockAll();
    const result = await flood(async (leaked) => {
      lab.detach(edge, [uplink]);
      lab.attach(edge, [uplink]);
      while (leaked() === 0) await turn();
    });
    expect(result.blocked).toBeGreaterThan(0);
  });
});
