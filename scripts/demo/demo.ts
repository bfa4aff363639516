/**
 * The main job, seen: an attacker's packets flow, a Falco alert arrives, they stop.
 *
 *   attacker ──┐
 *              ├── wire (a bridge, the gateway) ── uplink0 of the edge host: falcodrop
 *   neighbour ─┘
 *
 * Four network namespaces of this machine; nothing outside them is touched, and everything is taken away at the end.
 */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { type Lab, openLab } from '../../test/kernel/lab.ts';

const root = join(import.meta.dirname, '../..');
const host = '203.0.113.10';
const gateway = '203.0.113.1';
const attacker = '203.0.113.66';
const neighbour = '203.0.113.67';
const fifty = Array.from({ length: 50 }, (_, i) => `203.0.113.${101 + i}`);
const port = 2222;

/** A real alert of Falco 0.43.1, as recorded, but for its time (an old alert is refused as stale) and the attacker's address. */
function alertFrom(address: string): string {
  const recorded = readFileSync(join(root, 'test/fixtures/alerts/falco-0.43-append.jsonl'), 'utf8')
    .split('\n')
    .find((line) => line.includes('"rule":"Connection to Canary Port"') && line.includes(`${attacker}:`));
  if (recorded === undefined) throw new Error('the recorded alert is missing');
  const alert = JSON.parse(
    recorded.replaceAll(`${attacker}:`, `${address}:`).replaceAll(`"${attacker}"`, `"${address}"`),
  );
  return JSON.stringify({ ...alert, time: new Date().toISOString() });
}

/** A child that speaks JSON lines. */
class Speaker {
  readonly child: ChildProcess;
  readonly #lines: Interface;
  readonly #iterator: AsyncIterator<string>;

  constructor(child: ChildProcess, stream: NodeJS.ReadableStream | null) {
    this.child = child;
    if (stream === null) throw new Error('the child has no output');
    this.#lines = createInterface({ input: stream });
    this.#iterator = this.#lines[Symbol.asyncIterator]();
  }

  async next(): Promise<Record<string, unknown>> {
    const { value, done } = await this.#iterator.next();
    if (done === true) throw new Error('a child of the demo ended early');
    return JSON.parse(value) as Record<string, unknown>;
  }

  /** The first line that fits. */
  async find(fits: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>> {
    for (;;) {
      const line = await this.next();
      if (fits(line)) return line;
    }
  }
}

interface Count {
  readonly packets: number;
  readonly last: number;
}

/** What a sender sent or a receiver received, by source. */
async function report(traffic: Speaker): Promise<(source: string) => Count> {
  traffic.child.kill('SIGUSR2');
  const counts = new Map<string, Count>();
  for (;;) {
    const line = await traffic.next();
    if (line.end === true) return (source) => counts.get(source) ?? { packets: 0, last: 0 };
    counts.set(String(line.source), { packets: Number(line.packets), last: Number(line.last ?? 0) });
  }
}

/** Asks until it is so. */
async function until(
  traffic: Speaker,
  isSo: (count: (source: string) => Count) => boolean,
): Promise<(source: string) => Count> {
  for (;;) {
    const counts = await report(traffic);
    if (isSo(counts)) return counts;
  }
}

const number = (value: number): string => value.toLocaleString('en').replaceAll(',', ' ').padStart(7);
const say = (topic: string, text: string): void => {
  process.stdout.write(`  ${topic.padEnd(10)} ${text}\n`);
};

async function demo(lab: Lab): Promise<void> {
  const [wire, edge, bad, good] = ['w', 'e', 'a', 'n'].map((text) => lab.namespace(text)) as [
    string,
    string,
    string,
    string,
  ];
  lab.exec(wire, 'ip', 'link', 'add', 'wire', 'type', 'bridge', 'forward_delay', '0');
  lab.exec(wire, 'ip', 'addr', 'add', `${gateway}/24`, 'dev', 'wire');
  lab.exec(wire, 'ip', 'link', 'set', 'wire', 'up');
  const places: readonly [string, string, readonly string[]][] = [
    [edge, 'uplink0', [host]],
    [bad, 'uplink', [attacker, ...fifty]],
    [good, 'uplink', [neighbour]],
  ];
  for (const [index, [namespace, name, addresses]] of places.entries()) {
    lab.veth(
      { namespace, name, exact: true, addresses: addresses.map((address) => `${address}/24`) },
      { namespace: wire, name: `port${index}`, exact: true },
    );
    lab.exec(wire, 'ip', 'link', 'set', `port${index}`, 'master', 'wire');
    lab.exec(namespace, 'ip', 'route', 'add', 'default', 'via', gateway);
  }

  const config = join(lab.directory, 'falcodrop.yaml');
  writeFileSync(config, 'automatic: enforce\nhost_aliases: [edge-1]\n');
  process.env.FALCODROP_PIN_DIR = lab.pinDir;
  process.env.FALCODROP_STATE_DIR = join(lab.directory, 'state');
  process.env.FALCODROP_CONFIG = config;
  const falcodrop = join(root, 'bin/falcodrop');
  const hand = (...args: string[]): string => lab.exec(edge, falcodrop, ...args).trimEnd();
  say('lab', `attacker ${attacker} and neighbour ${neighbour} → edge host ${host}, all in namespaces`);
  say('attach', hand('attach', 'uplink0', '--yes').split('\n')[0] ?? '');
  lab.onClose(() => hand('detach', '--all', '--purge', '--yes'));

  const daemon = new Speaker(...spawnLines(lab, edge, [falcodrop, 'run'], 'stderr'));
  const listening = await daemon.find((line) => line.msg === 'listening');
  const falco = new Speaker(
    ...spawnLines(lab, edge, [
      process.execPath,
      join(root, 'scripts/demo/post.ts'),
      '127.0.0.1',
      String(listening.port),
    ]),
  );
  const post = async (body: string) => {
    falco.child.stdin?.write(`${body}\n`);
    const { status, begun, answered } = await falco.next();
    return { status: Number(status), begun: Number(begun), answered: Number(answered) };
  };

  const tool = join(lab.directory, 'traffic');
  execFileSync('cc', ['-O2', '-o', tool, join(root, 'scripts/demo/traffic.c')]);
  const start = async (namespace: string, ...args: string[]): Promise<Speaker> => {
    const traffic = new Speaker(...spawnLines(lab, namespace, [tool, ...args]));
    await traffic.next();
    return traffic;
  };
  const arrivals = await start(edge, 'receive', String(port));
  const attack = await start(bad, 'send', host, String(port), '20000', attacker, ...fifty);
  const innocent = await start(good, 'send', host, String(port), '1000', neighbour);

  // The main job.
  await until(attack, (count) => count(attacker).packets >= 20_000);
  const arrivedBefore = (await report(arrivals))(attacker).packets;
  const sentBefore = (await report(attack))(attacker).packets;
  say('before', `sent ${number(sentBefore)}   arrived ${number(arrivedBefore)}`);
  const answer = await post(alertFrom(attacker));
  // The answer comes before the work: a few hundred packets later it is done.
  const atAnswer = (await report(attack))(attacker).packets;
  const sentAtAnswer = (await until(attack, (count) => count(attacker).packets >= atAnswer + 500))(attacker).packets;
  const arrivedAtAnswer = (await report(arrivals))(attacker);
  say('alert', `a real alert of Falco 0.43, "Connection to Canary Port" → HTTP ${answer.status}`);
  say(
    'silence',
    `the last packet came through ${milliseconds(arrivedAtAnswer.last - answer.begun)} after the POST began`,
  );
  const sentAfter = (await until(attack, (count) => count(attacker).packets >= sentAtAnswer + 20_000))(
    attacker,
  ).packets;
  const arrivedAfter = (await report(arrivals))(attacker).packets - arrivedAtAnswer.packets;
  say('after', `sent ${number(sentAfter - sentAtAnswer)}   arrived ${number(arrivedAfter)}`);

  const neighbourSent = (await report(innocent))(neighbour).packets;
  const neighbourArrived = (await until(arrivals, (count) => count(neighbour).packets >= neighbourSent))(
    neighbour,
  ).packets;
  say('neighbour', `sent ${number(neighbourSent)}   arrived ${number(neighbourArrived)}   unharmed`);

  // Hostile alerts: whoever can make Falco print an address must not get the host cut off.
  for (const [what, address] of [
    ['the host itself', host],
    ['its gateway', gateway],
  ] as const) {
    await post(alertFrom(address));
    const decision = await daemon.find((line) => line.offender === address);
    say('hostile', `an alert that names ${what}, ${address} → ${decision.verdict} (${decision.reason})`);
  }

  // How long from an alert to silence: fifty attackers, one after the other.
  const silence: number[] = [];
  for (const address of fifty) {
    attack.child.kill('SIGUSR1');
    await until(arrivals, (count) => count(address).packets >= 20);
    const { begun } = await post(alertFrom(address));
    const sent = (await report(attack))(address).packets;
    await until(attack, (count) => count(address).packets >= sent + 100);
    silence.push(Math.max(0, (await report(arrivals))(address).last - begun));
  }
  silence.sort((a, b) => a - b);
  say(
    'fifty',
    `alerts for fifty attackers: from POST to the last packet through, median ${milliseconds(silence[25] ?? 0)} (best ${milliseconds(silence[0] ?? 0)}, worst ${milliseconds(silence[49] ?? 0)})`,
  );

  // Dead, it goes on dropping.
  daemon.child.kill('SIGKILL');
  await once(daemon.child, 'exit');
  const last = fifty.at(-1) ?? '';
  const dead = (await report(attack))(last).packets;
  const through = (await report(arrivals))(last).packets;
  const later = await until(attack, (count) => count(last).packets >= dead + 10_000);
  const leaked = (await report(arrivals))(last).packets - through;
  say('kill -9', `the daemon is dead: sent ${number(later(last).packets - dead)}   arrived ${number(leaked)}`);

  process.stdout.write(`\n$ falcodrop show ${attacker}\n${hand('show', attacker)}\n`);
  process.stdout.write(`\n$ falcodrop status\n${hand('status')}\n`);
  process.stdout.write(`\n$ falcodrop unblock ${attacker}\n${hand('unblock', attacker)}\n`);
  if (neighbourArrived !== neighbourSent || leaked !== 0 || arrivedBefore === 0 || arrivedAfter !== 0)
    throw new Error('the demo did not show what it should');
}

function spawnLines(
  lab: Lab,
  namespace: string,
  argv: readonly [string, ...string[]],
  stream: 'stdout' | 'stderr' = 'stdout',
): [ChildProcess, NodeJS.ReadableStream | null] {
  const stdio = stream === 'stdout' ? (['pipe', 'pipe', 'inherit'] as const) : (['pipe', 'inherit', 'pipe'] as const);
  const child = lab.spawn(namespace, argv, { stdio: [...stdio] });
  return [child, child[stream]];
}

function milliseconds(ns: number): string {
  return `${(ns / 1e6).toFixed(2)} ms`;
}

// `make demo | head`: what is missing is still taken away.
process.stdout.on('error', () => process.exit(1));

if (process.geteuid?.() !== 0) {
  process.stderr.write('make demo makes network namespaces and attaches XDP programs: run it as root\n');
  process.exitCode = 5;
} else {
  const lab = openLab();
  try {
    await demo(lab);
  } finally {
    await lab.close();
  }
  process.stdout.write('\ncleaned up: no namespace, pin or mount is left\n');
}
