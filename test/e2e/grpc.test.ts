/** Alerts over gRPC through the built command into real maps, with each side killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { canary, type Line } from '../daemon/double.ts';
import { ended } from '../kernel/lab.ts';
import { encodeAlert } from '../sources/grpc/falco.ts';
import { differences, dropped, type Edge, openEdge } from './edge.ts';
import { listenTo, type Run } from './running.ts';

const [one, two, three, four] = ['203.0.113.7', '203.0.113.8', '203.0.113.9', '203.0.113.11'] as const;

let edge: Edge;
let socket = '';
const falcos: ChildProcess[] = [];
beforeEach(() => {
  edge = openEdge({ config: 'automatic: enforce\nhost_aliases: [edge]\nhttp: { enabled: false }\n' });
  socket = join(edge.lab.directory, 'falco.sock');
  appendFileSync(edge.configFile, `grpc: [{ address: unix://${socket} }]\n`);
  edge.attach();
});
afterEach(async () => {
  for (const falco of falcos.splice(0)) falco.kill('SIGKILL');
  edge.purge();
  await edge.lab.close();
});

/** The host's own address is that of the lab. */
function message(client: string): string {
  const { output_fields: fields, rule } = JSON.parse(canary(client).replaceAll('203.0.113.10', '198.51.100.1')) as {
    output_fields: Record<string, unknown>;
    rule: string;
  };
  const texts = Object.entries(fields).map(([key, value]) => [key, String(value)]);
  return encodeAlert({
    time: { seconds: Math.floor(Date.now() / 1000), nanos: 1 },
    priority: 'WARNING',
    rule,
    hostname: 'edge',
    source: 'syscall',
    output: '12:00:00.000000001: Warning a connection',
    output_fields: Object.fromEntries(texts),
  }).toString('base64');
}

async function startFalco(...clients: string[]): Promise<ChildProcess> {
  const script = fileURLToPath(new URL('../sources/grpc/serve-falco.ts', import.meta.url));
  const falco = spawn(process.execPath, [script, socket], { stdio: ['pipe', 'pipe', 'inherit'] });
  falcos.push(falco);
  falco.stdin?.write(clients.map((client) => `${message(client)}\n`).join(''));
  if (falco.stdout === null) throw new Error('no pipe');
  await once(falco.stdout, 'data');
  return falco;
}

const start = (): Run =>
  listenTo(edge.lab.spawn(edge.namespace, edge.argv(['run']), { stdio: ['ignore', 'ignore', 'pipe'] }));

const decided =
  (client: string) =>
  ({ msg, offender }: Line): boolean =>
    msg === 'decision' && offender === client;

test('an alert blocks; Falco and daemon are killed, and what Falco still has is taken', async () => {
  const run = start();
  await run.said(({ msg, problem }) => msg.startsWith('not connected') && problem === 'the socket is not there yet');
  const falco = await startFalco(one);
  await run.said(decided(one));
  falco.stdin?.write(`${message(two)}\n`);
  await run.said(decided(two));

  falco.kill('SIGKILL');
  await run.said(({ msg }) => msg.startsWith('connection lost'));
  const another = await startFalco();
  await run.said(({ msg }) => run.lines.filter((line) => line.msg === 'connected').length === 2 && msg === 'connected');

  run.child.kill('SIGKILL');
  await ended(run.child);
  another.stdin?.write(`${message(three)}\n`);
  const second = start();
  await second.said(decided(three));
  second.child.kill('SIGTERM');
  await ended(second.child);
  expect(second.child.exitCode).toBe(0);
  expect(second.lines.at(-1)).toMatchObject({
    msg: 'stopped',
    sources: { [`grpc:unix://${socket}`]: { received: 1, bad: 0, shed: 0, decided: 1 } },
  });
  expect(dropped(edge.lab.pinDir, [one, two, three, four])).toEqual(new Set([one, two, three]));
  expect(differences(edge)).toEqual([]);
});
