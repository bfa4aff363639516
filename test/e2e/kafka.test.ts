/** Alerts of a Kafka topic through the built command into real maps and the ledger, with each side killed. */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { canary, type Line } from '../daemon/double.ts';
import { ended } from '../kernel/lab.ts';
import { type Broker, prepareBroker } from '../sources/kafka/broker.ts';
import { differences, dropped, type Edge, openEdge } from './edge.ts';

const [one, two, three, four] = ['203.0.113.7', '203.0.113.8', '203.0.113.9', '203.0.113.11'] as const;

let edge: Edge;
let broker: Broker;
beforeEach(async () => {
  edge = openEdge({ config: 'automatic: enforce\nhost_aliases: [edge]\nhttp: { enabled: false }\n' });
  broker = await prepareBroker({
    directory: join(edge.lab.directory, 'kafka'),
    within: ['ip', 'netns', 'exec', edge.namespace],
  });
  broker.start();
  edge.attach();
});
afterEach(async () => {
  await broker.kill();
  edge.purge();
  await edge.lab.close();
});

/** The host's own address is that of the lab. */
const alert = (client: string): string =>
  canary(client, { hostname: 'edge' }).replaceAll('203.0.113.10', '198.51.100.1');

function send(...lines: string[]): void {
  const script = fileURLToPath(new URL('../sources/kafka/send.ts', import.meta.url));
  const argv = ['netns', 'exec', edge.namespace, process.execPath, script, `${broker.ports.plain}`, 'falco'];
  const { status, stderr } = spawnSync('ip', argv, { input: lines.join('\n'), encoding: 'utf8', timeout: 60_000 });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
}

interface Run {
  readonly child: ChildProcess;
  said(wanted: (line: Line) => boolean): Promise<Line>;
  readonly lines: Line[];
}

function start(fault = ''): Run {
  const environment = { FALCODROP_CONFIG: edge.configFile };
  const argv = edge.argv(['run'], { fault, environment });
  const child = edge.lab.spawn(edge.namespace, argv, { stdio: ['ignore', 'ignore', 'pipe'] });
  const lines: Line[] = [];
  let wake: () => void = () => undefined;
  if (child.stderr === null) throw new Error('no pipe');
  createInterface(child.stderr).on('line', (text) => {
    lines.push(text.startsWith('{') ? (JSON.parse(text) as Line) : { msg: text });
    wake();
  });
  child.on('close', () => wake());
  return {
    child,
    lines,
    said: async (wanted) => {
      for (;;) {
        const found = lines.find(wanted);
        if (found !== undefined) return found;
        if (child.exitCode !== null) throw new Error(`ended: ${JSON.stringify(lines)}`);
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

const decided =
  (client: string) =>
  ({ msg, offender }: Line): boolean =>
    msg === 'decision' && offender === client;

test('daemon and broker are killed: every alert of the topic has one claim, and what is none is kept aside', async () => {
  send(alert(one));
  appendFileSync(
    edge.configFile,
    `kafka: [{ name: fleet, brokers: ["127.0.0.1:${broker.ports.plain}"], topic: falco, group: edge, begin: earliest }]\n`,
  );
  // The map has the block, and nobody has written it down; then it is written down, and the offset is not.
  for (const fault of ['automatic.mapped', 'settle.recorded']) await ended(start(fault).child);
  const run = start();
  await run.said(decided(one));
  send('no alert \u009b2J', alert(two));
  await run.said(decided(two));
  const source = { source: 'kafka:fleet', kind: 'kafka', place: `falco at 127.0.0.1:${broker.ports.plain}` };
  expect(edge.json(0, ['sources']).said).toMatchObject([{ ...source, state: 'connected', lag: { unit: 'alerts' } }]);

  await broker.kill();
  await run.said(({ msg }) => msg.startsWith('connection lost'));
  expect(edge.json(0, ['sources']).said).toMatchObject([{ ...source, state: 'failed' }]);
  broker.start();
  send(alert(three), alert(two));
  await run.said(decided(three));

  run.child.kill('SIGTERM');
  await ended(run.child);
  expect(run.child.exitCode).toBe(0);
  expect(run.lines.at(-1)).toMatchObject({
    msg: 'stopped',
    sources: { 'kafka:fleet': { shed: 0 } },
    kafka: { 'kafka:fleet': { aside: expect.any(Number), unreadable: 0, lag: 0 } },
  });
  expect(dropped(edge.lab.pinDir, [one, two, three, four])).toEqual(new Set([one, two, three]));
  expect(differences(edge)).toEqual([]);
  for (const client of [one, two, three]) {
    const made = edge.json(0, ['history', client]).said.filter(({ action }) => action === 'made');
    expect(made).toHaveLength(1);
  }
  const [kept] = readFileSync(join(edge.stateDir, 'kafka-aside.jsonl'), 'latin1').split('\n');
  expect(kept).toContain('no alert \\u009b2J');

  // All is committed: a daemon that comes after takes nothing again.
  send(alert(four));
  const last = start();
  await last.said(decided(four));
  last.child.kill('SIGTERM');
  await ended(last.child);
  expect(last.lines.at(-1)).toMatchObject({ sources: { 'kafka:fleet': { received: 1, decided: 1 } } });
});
