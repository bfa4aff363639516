/** What a hostile sender writes, by every way that takes alerts from others, through the built daemon to what people read. */
import type { ChildProcess } from 'node:child_process';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { canary, type Line } from '../daemon/double.ts';
import { ended } from '../kernel/lab.ts';
import { openUnixWire, post } from '../sources/wire.ts';
import { differences, dropped, type Edge, openEdge } from './edge.ts';

let edge: Edge;
let log = '';
let socket = '';
beforeEach(() => {
  edge = openEdge({ config: 'automatic: enforce\nhost_aliases: [edge]\nmax_alert_age: 0s\n' });
  log = join(edge.lab.directory, 'alerts.jsonl');
  socket = join(edge.lab.directory, 'http.sock');
  appendFileSync(edge.configFile, `http: { port: 0, socket: ${socket} }\nfiles: [{ path: ${log} }]\n`);
  writeFileSync(log, '');
  edge.attach();
});
let daemon: ChildProcess | null = null;
afterEach(async () => {
  // Of a test that failed.
  if (daemon !== null && daemon.exitCode === null && daemon.signalCode === null) {
    daemon.kill('SIGKILL');
    await ended(daemon);
  }
  edge.purge();
  await edge.lab.close();
});

async function start() {
  const child = edge.lab.spawn(edge.namespace, edge.argv(['run']), { stdio: ['ignore', 'ignore', 'pipe'] });
  daemon = child;
  if (child.stderr === null || child.pid === undefined) throw new Error('no daemon');
  const lines: Line[] = [];
  const texts: string[] = [];
  const ready = new Promise<void>((resolve, reject) => {
    createInterface(child.stderr as NonNullable<typeof child.stderr>).on('line', (line) => {
      texts.push(line);
      lines.push(JSON.parse(line) as Line);
      if (lines.at(-1)?.msg === 'ready') resolve();
    });
    child.once('close', () => reject(new Error(texts.join('\n'))));
  });
  await ready;
  return { child, lines, texts };
}

/** Of the daemon behind `ip netns exec` and the launcher, which both become it: MiB. */
function mostMemory(pid: number): number {
  const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes) / 1024;
}

const controls = Array.from({ length: 0xa0 }, (_, code) => String.fromCharCode(code)).join('');
const spoof = `\u001b[2J\u009b31m\u202e\u2066\u200b\ud800${controls}\n{"level":"error"}`;
const unsafe = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/u;

let offenders = 0;
/** Each of another offender, whom it has blocked. */
const alert = (more: Record<string, unknown>): string => {
  const client = `192.0.2.${++offenders}`;
  return canary(client, { hostname: 'edge', ...more }).replaceAll('203.0.113.10', '198.51.100.1');
};
const times: unknown[] = [
  '0000-01-01T00:00:00Z',
  '9999-12-31T23:59:59.999999999Z',
  'yesterday',
  -1,
  { seconds: '999999999999999999', nanos: 999_999_999 },
  { seconds: '-999999999999999999' },
  { seconds: { low: -1, high: 0x7fffffff } },
];
const others: Record<string, unknown>[] = [
  { uuid: spoof, priority: spoof, source: 'syscall', tags: [spoof], output: spoof },
  { uuid: 'x'.repeat(300_000), priority: 'y'.repeat(300_000) },
  { hostname: 'EDGE', uuid: '' },
];
const keys = Array.from({ length: 80_000 }, (_, n) => `"${n}":1`).join(',');
const nobody: readonly string[] = [
  '{',
  '7',
  'null',
  '"rule"',
  '{"rule":7}',
  `{"rule":"r","x":${'['.repeat(10_000)}`,
  JSON.stringify({ rule: spoof, output: spoof, hostname: spoof, output_fields: { [spoof]: spoof, 'fd.name': spoof } }),
  JSON.stringify({ rule: 'r'.repeat(900_000) }),
  `{"rule":"r","output_fields":{${keys}}}`,
  ...['evt.type', 'fd.name', 'fd.cip', 'fd.sport', 'evt.time'].flatMap((name) =>
    [{}, [[]], -1, true, 1e308].map((value) => JSON.stringify({ rule: 'r', output_fields: { [name]: value } })),
  ),
  alert({ hostname: 'edge.' }),
  alert({ hostname: 'edge\0' }),
  alert({ hostname: ' edge' }),
];

test('is judged or refused, counted, and shown harmless', async () => {
  offenders = 100;
  const blocking = () => [...times.map((time) => alert({ time })), ...others.map((more) => alert(more))];
  const { child, lines, texts } = await start();
  const wire = await openUnixWire(socket);
  const viaSocket = [...nobody, ...blocking()];
  for (const body of viaSocket) {
    wire.send(post(body));
    expect([202, 400]).toContain((await wire.answer()).status);
  }
  const viaFile = [...nobody, ...blocking()];
  appendFileSync(log, viaFile.map((line) => `${line}\n`).join(''));
  const sources = () => edge.json(0, ['sources']).said as { source: string; counts: Record<string, number> }[];
  const sumOf = ({ received = 0, bad = 0, decided = 0, duplicate = 0 } = {}): number[] => [
    received,
    bad + decided + duplicate,
  ];
  await expect
    .poll(() => sources().map(({ counts }) => sumOf(counts)), { timeout: 30_000 })
    .toEqual([
      [0, 0],
      [viaSocket.length, viaSocket.length],
      [viaFile.length, viaFile.length],
    ]);
  const blocked = Array.from({ length: 2 * (times.length + others.length) }, (_, n) => `192.0.2.${101 + n}`);
  expect(dropped(edge.lab.pinDir, [...blocked, '192.0.2.1', '192.0.2.2', '192.0.2.3'])).toEqual(new Set(blocked));

  for (const verb of [['list'], ['history'], ['show', '192.0.2.108'], ['sources'], ['status'], ['export']]) {
    for (const args of verb[0] === 'export' ? [verb] : [verb, [...verb, '--json']]) {
      for (const line of edge.must(args).split('\n')) expect(unsafe.test(line), `${args}: ${line}`).toBe(false);
    }
  }
  child.kill('SIGTERM');
  await ended(child);
  expect(child.exitCode).toBe(0);
  for (const text of texts) expect(unsafe.test(text), text).toBe(false);
  expect(lines.filter(({ level }) => level === 'error')).toEqual([]);
  // Once per cause: what is no alert, by each way.
  expect(lines.filter(({ level }) => level === 'warn').length).toBeLessThan(8);
  expect(differences(edge)).toEqual([]);
});

test('takes no memory by what is in it, nor by how it is cut', async () => {
  const { child } = await start();
  const fill = (item: string) => item.repeat(Math.floor(1_000_000 / item.length)).slice(0, -1);
  const bodies = ['{},', '[],', '"a",'].map((item) => `{"rule":"r","output_fields":{"a":[${fill(item)}]}}`);
  bodies.push(`{"rule":"r","output_fields":{${keys}}}`);
  for (const body of bodies) {
    const request = post(body);
    const wires = await Promise.all(Array.from({ length: 40 }, () => openUnixWire(socket)));
    for (const wire of wires) wire.send(request.subarray(0, -1));
    for (const wire of wires) wire.send(request.subarray(-1));
    for (const wire of wires) expect([202, 400, 503]).toContain((await wire.answer()).status);
    for (const wire of wires) wire.close();
  }
  const slices = await Promise.all(Array.from({ length: 4 }, () => openUnixWire(socket)));
  for (const wire of slices) {
    wire.send('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
    wire.send('1\r\nx\r\n'.repeat(500_000));
    wire.send('0\r\n\r\n');
  }
  for (const wire of slices) {
    expect((await wire.answer()).status).toBe(400);
    wire.close();
  }
  // A hundred when nothing comes, and garbage that is not collected yet; it stays there however long this goes on.
  const most = mostMemory(child.pid ?? 0);
  expect(most).toBeGreaterThan(50);
  expect(most).toBeLessThan(640);
  const wire = await openUnixWire(socket);
  wire.send(post(alert({})));
  expect((await wire.answer()).status).toBe(202);
  wire.close();
  await expect.poll(() => dropped(edge.lab.pinDir, [`192.0.2.${offenders}`]).size, { timeout: 10_000 }).toBe(1);
  child.kill('SIGTERM');
  await ended(child);
  expect(child.exitCode).toBe(0);
}, 60_000);
