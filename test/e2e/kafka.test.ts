/** Alerts of a Kafka topic through the built command into real maps and the ledger, with each side killed. */
import { spawnSync } from 'node:child_process';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Line } from '../daemon/double.ts';
import { ended } from '../kernel/lab.ts';
import { type Broker, prepareBroker } from '../sources/kafka/broker.ts';
import { differences, dropped, type Edge, openEdge } from './edge.ts';
import { alertAtEdge, listenTo, type Run } from './running.ts';

const [one, two, three, four] = ['203.0.113.7', '203.0.113.8', '203.0.113.9', '203.0.113.11'] as const;

const config = 'automatic: enforce\nhost_aliases: [edge]\nhttp: { enabled: false }\n';

let edge: Edge;
let broker: Broker;
beforeEach(async () => {
  edge = openEdge({ config });
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

function send(...lines: string[]): void {
  const script = fileURLToPath(new URL('../sources/kafka/send.ts', import.meta.url));
  const argv = ['netns', 'exec', edge.namespace, process.execPath, script, `${broker.ports.plain}`, 'falco'];
  const { status, stderr } = spawnSync('ip', argv, { input: lines.join('\n'), encoding: 'utf8', timeout: 60_000 });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
}

/** Beside the broker, with the maps and the ledger of `of`. */
function start(fault = '', of = edge): Run {
  const environment = { FALCODROP_CONFIG: of.configFile };
  const argv = of.argv(['run'], { fault, environment });
  return listenTo(edge.lab.spawn(edge.namespace, argv, { stdio: ['ignore', 'ignore', 'pipe'] }));
}

function configure({ configFile }: Edge, group: string): void {
  const where = `name: fleet, brokers: ["127.0.0.1:${broker.ports.plain}"], topic: falco, begin: earliest`;
  appendFileSync(configFile, `kafka: [{ ${where}, group: ${group} }]\n`);
}

const decided =
  (client: string) =>
  ({ msg, offender }: Line): boolean =>
    msg === 'decision' && offender === client;

test('daemon and broker are killed: every alert of the topic has one claim, and what is none is kept aside', async () => {
  send(alertAtEdge(one));
  configure(edge, 'edge');
  // The map has the block, and nobody has written it down; then it is written down, and the offset is not.
  for (const fault of ['automatic.mapped', 'settle.recorded']) await ended(start(fault).child);
  const run = start();
  await run.said(decided(one));
  send('no alert \u009b2J', alertAtEdge(two));
  await run.said(decided(two));
  const source = { source: 'kafka:fleet', kind: 'kafka', place: `falco at 127.0.0.1:${broker.ports.plain}` };
  expect(edge.json(0, ['sources']).said).toMatchObject([{ ...source, state: 'connected', lag: { unit: 'alerts' } }]);

  await broker.kill();
  await run.said(({ msg }) => msg.startsWith('connection lost'));
  expect(edge.json(0, ['sources']).said).toMatchObject([{ ...source, state: 'failed' }]);
  broker.start();
  send(alertAtEdge(three), alertAtEdge(two));
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
  send(alertAtEdge(four));
  const last = start();
  await last.said(decided(four));
  last.child.kill('SIGTERM');
  await ended(last.child);
  expect(last.lines.at(-1)).toMatchObject({ sources: { 'kafka:fleet': { received: 1, decided: 1 } } });
});

test('two daemons in one group share what comes, and who is left has all of it; in two groups each has all', async () => {
  const other = openEdge({ config });
  try {
    other.attach();
    const clients = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => `203.0.113.${from + n}`);
    const all = clients(20, 80);
    const held = (of: Edge) => dropped(of.lab.pinDir, all);
    const everyOne = (runs: readonly Run[], wanted: readonly string[]): Promise<void> =>
      expect
        .poll(() => wanted.filter((client) => !runs.some(({ lines }) => lines.some(decided(client)))), {
          timeout: 60_000,
        })
        .toEqual([]);
    send(...clients(20, 22).map((client) => alertAtEdge(client)));
    configure(edge, 'edge');
    configure(other, 'edge');
    const one = start();
    await one.said(({ msg, partitions }) => msg === 'partitions' && String(partitions) === '0,1');
    const two = start('', other);
    await two.said(({ msg, partitions }) => msg === 'partitions' && String(partitions).length === 1);
    send(...clients(22, 50).map((client) => alertAtEdge(client)));
    await everyOne([one, two], clients(20, 50));
    // What was read before it was dealt to the other may be decided by both.
    for (const of of [edge, other]) expect(held(of).size).toBeGreaterThanOrEqual(14);
    expect(new Set([...held(edge), ...held(other)])).toEqual(new Set(clients(20, 50)));

    two.child.kill('SIGKILL');
    send(...clients(50, 80).map((client) => alertAtEdge(client)));
    await everyOne([one], clients(50, 80));
    expect(new Set([...held(edge), ...held(other)])).toEqual(new Set(all));

    writeFileSync(other.configFile, readFileSync(other.configFile, 'utf8').replace('group: edge', 'group: other'));
    const third = start('', other);
    await everyOne(
      [third],
      all.filter((client) => !held(other).has(client)),
    );
    await expect.poll(() => held(other), { timeout: 20_000 }).toEqual(new Set(all));
    for (const run of [one, third]) {
      run.child.kill('SIGTERM');
      await ended(run.child);
      expect(run.child.exitCode).toBe(0);
    }
    for (const of of [edge, other]) {
      expect(differences(of)).toEqual([]);
      const made = of.json(0, ['history', '--limit', '1000']).said.filter(({ action }) => action === 'made');
      expect(new Set(made.map(({ target }) => target))).toEqual(held(of));
      expect(made).toHaveLength(held(of).size);
    }
  } finally {
    other.purge();
    await other.lab.close();
  }
});
