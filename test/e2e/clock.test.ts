/**
 * A host whose wall clock is years off when it starts, and is set right while everything runs: what ends by that, and what does
 * not. The daemon and hands run through both; clocks that nobody sets go on.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import Database from 'better-sqlite3';
import { afterEach, expect, test } from 'vitest';
import { ended, until } from '../kernel/lab.ts';
import { differences, dropped, type Edge, heldIn, openEdge, uplink, type Ways, wantedIn } from './edge.ts';

const hour = 3600;
const tenYearsMs = 10 * 365 * 24 * hour * 1000;
const gateway = '198.51.100.254';

let edge: Edge;
let clockFile = '';
afterEach(() => edge.lab.close());

const setClock = (aheadMs: number): void => writeFileSync(clockFile, String(aheadMs));
const fixture = join(import.meta.dirname, 'fixtures/clock.ts');
const ways = (): Ways => ({ environment: { NODE_OPTIONS: `--require=${fixture}`, CLOCK_FILE: clockFile } });
const must = (...args: string[]): string => edge.must(args, ways());
const attach = (): Record<string, unknown> =>
  edge.json(0, ['attach', uplink, '--addresses', '1024', '--prefixes', '64'], ways()).said[0] ?? {};
const seconds = (target: string): number | null | undefined => heldIn(edge.lab.pinDir).get(target)?.dropSeconds;

/** The ledger's last moment becomes one of another boot; returns what the wall clock showed in it. */
function reboot(): number {
  must('detach', '--all', '--purge');
  const database = new Database(join(edge.stateDir, 'ledger.db'));
  const { wall } = database.prepare('SELECT wall FROM meta').get() as { wall: number };
  database.prepare("UPDATE meta SET boot_id = boot_id || '-before'").run();
  database.close();
  return wall;
}

function alert(client: string, atMs: number): string {
  return JSON.stringify({
    time: new Date(atMs).toISOString(),
    hostname: 'edge',
    rule: 'Connection to Canary Port',
    priority: 'Warning',
    source: 'syscall',
    output: 'x',
    output_fields: {
      'evt.type': 'accept4',
      'fd.type': 'ipv4',
      'fd.l4proto': 'tcp',
      'fd.name': `${client}:40000->198.51.100.1:2222`,
      'fd.cip': client,
      'fd.cport': 40_000,
      'fd.sip': '198.51.100.1',
      'fd.sport': 2222,
    },
  });
}

async function startDaemon(): Promise<{ post(client: string, atMs: number): Promise<void>; stop(): Promise<void> }> {
  const child = edge.lab.spawn(edge.namespace, edge.argv(['run'], ways()), { stdio: ['ignore', 'ignore', 'pipe'] });
  const lines: string[] = [];
  if (child.stderr === null) throw new Error('no pipe');
  createInterface(child.stderr).on('line', (line) => lines.push(line));
  await until('the daemon', () => lines.some((line) => line.includes('"ready"')), 30_000);
  return {
    async post(client, atMs) {
      const url = 'http://127.0.0.1:2804/';
      edge.lab.exec(edge.namespace, 'curl', '-sf', '-o', '/dev/null', '--data-binary', alert(client, atMs), url);
      await until(`${client} to be blocked`, () => heldIn(edge.lab.pinDir).has(client));
      await until('that to be written down', () => wantedIn(edge.stateDir).has(client));
    },
    async stop() {
      child.kill('SIGTERM');
      await ended(child);
      expect(child.exitCode).toBe(0);
    },
  };
}

test.each([
  ['ahead', tenYearsMs],
  ['behind', -tenYearsMs],
])('ten years %s at a start, then set right', async (_, offMs) => {
  edge = openEdge({ config: 'automatic: enforce\nhost_aliases: [edge]\n', sizes: [1024, 64] });
  clockFile = join(edge.lab.directory, 'clock');
  setClock(0);
  attach();
  must('block', '203.0.113.1', '--for', '1h');
  must('block', '203.0.113.2', '--forever');
  must('block', gateway, '--force', '--for', '2h');

  reboot();
  setClock(offMs);
  const { restored } = attach();
  if (offMs > 0) {
    // Ten years have passed as far as anybody can tell: what had an end has ended.
    expect(restored).toEqual({ claims: 1, forced: 0, refused: 0 });
    expect([...heldIn(edge.lab.pinDir).keys()]).toEqual(['203.0.113.2']);
  } else {
    // Time does not run backwards: what was left is left, of what root forced too.
    expect(restored).toEqual({ claims: 3, forced: 1, refused: 0 });
    for (const [target, whole] of [['203.0.113.1', hour] as const, [gateway, 2 * hour] as const]) {
      expect(seconds(target)).toBeGreaterThan(whole - 60);
      expect(seconds(target)).toBeLessThanOrEqual(whole);
    }
  }
  expect(seconds('203.0.113.2')).toBeNull();

  const daemon = await startDaemon();
  await daemon.post('203.0.113.3', Date.now() + offMs);
  must('block', '203.0.113.4', '--for', '1h');
  const before = heldIn(edge.lab.pinDir);

  setClock(0);
  await daemon.post('203.0.113.5', Date.now());
  must('block', '203.0.113.6', '--for', '1h');
  must('reconcile');
  const after = heldIn(edge.lab.pinDir);
  for (const [target, { dropSeconds }] of before) {
    const now = after.get(target)?.dropSeconds;
    if (dropSeconds === null) expect(now).toBeNull();
    else expect(Math.abs((now ?? 0) - dropSeconds), `${target}: ${dropSeconds} s, then ${now} s`).toBeLessThan(60);
  }
  expect([...after.keys()].sort()).toEqual([...before.keys(), '203.0.113.5', '203.0.113.6'].sort());
  expect(differences(edge)).toEqual([]);
  // People are told by the clock that is right now, also of what began under the other.
  for (const target of ['203.0.113.4', '203.0.113.6']) {
    const [entry] = edge.json(0, ['list', '--within', target], ways()).said;
    expect(Math.abs(Date.parse(String(entry?.ends_at)) - Date.now() - hour * 1000)).toBeLessThan(60_000);
  }
  // The daemon's thread wrote under the wrong clock, too.
  const [made] = edge.json(0, ['history', '203.0.113.3'], ways()).said;
  expect(Math.abs(Date.parse(String(made?.at)) - (Date.now() + offMs))).toBeLessThan(300_000);
  await daemon.stop();

  // And the next start, with a clock that is right, counts the time that was.
  expect(Math.abs(reboot() - Date.now())).toBeLessThan(60_000);
  attach();
  expect([...heldIn(edge.lab.pinDir).keys()].sort()).toEqual([...after.keys()].sort());
  for (const target of ['203.0.113.4', '203.0.113.6']) {
    expect(seconds(target)).toBeGreaterThan(hour - 120);
    expect(seconds(target)).toBeLessThanOrEqual(hour);
  }
  expect(dropped(edge.lab.pinDir, ['203.0.113.2', '203.0.113.3', '203.0.113.5']).size).toBe(3);
  expect(differences(edge)).toEqual([]);
});
