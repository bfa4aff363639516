/**
 * A reboot: the pins are gone, the ledger is there. The service is a user without rights (54321), and a flood is on the wire
 * already when `attach` is called.
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readCounters } from '../../src/kernel/counters.ts';
import { modeNow } from '../../src/kernel/mode.ts';
import { PinnedSet } from '../../src/kernel/set.ts';
import { until } from '../kernel/lab.ts';
import { differences, dropped, type Edge, heldIn, openEdge, uplink } from './edge.ts';

const service = [54321, 54321] as const;
const settings = (more = '') =>
  `service: { user: "${service[0]}", group: "${service[1]}" }\nguard: { allow_private: true${more} }\n`;

/** All sources of fixtures/flood.c: not one of its packets is to pass. */
const flooding = [
  ...Array.from({ length: 60 }, (_, i) => `10.99.0.${i}`),
  ...Array.from({ length: 60 }, (_, i) => `2001:db8:99::${i.toString(16)}`),
  '10.98.0.1',
];

let edge: Edge;

beforeAll(() => {
  edge = openEdge({ service, config: 'guard: { allow_private: true }\n' });
  for (const name of ['flood', 'arrivals']) {
    const source = join(import.meta.dirname, `fixtures/${name}.c`);
    edge.lab.exec(null, 'cc', '-O2', '-Wall', '-o', join(edge.lab.directory, name), source);
  }
  edge.attach();
  const file = join(edge.lab.directory, 'flooding');
  writeFileSync(file, flooding.join('\n'));
  edge.must(['import', file, '--feed', 'flood', '--for', '1h']);
  edge.must(['block', '10.97.0.0/24', '--forever']);
});
afterAll(() => edge.lab.close());

interface Running {
  readonly child: ChildProcess;
  readonly lines: string[];
}

async function start(namespace: string, program: string, name: string): Promise<Running> {
  const child = edge.lab.spawn(namespace, [join(edge.lab.directory, program), name], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: string[] = [];
  let rest = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    const pieces = (rest + text).split('\n');
    rest = pieces.pop() ?? '';
    lines.push(...pieces);
  });
  await until(`${program} to be ready`, () => lines.includes('ready'));
  return { child, lines };
}

async function finish({ child, lines }: Running): Promise<Record<string, number>> {
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGTERM');
  await closed;
  return JSON.parse(lines.at(-1) ?? '') as Record<string, number>;
}

function withSet<T>(work: (set: PinnedSet) => T): T {
  const set = new PinnedSet(edge.lab.pinDir);
  try {
    return work(set);
  } finally {
    set.close();
  }
}

const ledgerFile = () => join(edge.stateDir, 'ledger.db');

/** The ledger's last moment as another boot would have left it; `wallMs` what its wall clock showed then. */
function bootedBefore(wallMs: number, bootId = 'another-boot'): void {
  const database = new Database(ledgerFile());
  database.prepare('UPDATE meta SET boot_id = ?, wall = ?').run(bootId, Math.round(wallMs));
  database.pragma('wal_checkpoint(TRUNCATE)');
  database.close();
}

const secondsOf = (target: string): number | null => heldIn(edge.lab.pinDir).get(target)?.dropSeconds ?? null;

test('under a flood: the first packet that XDP sees meets all blocks', async () => {
  // Nothing but the flood is to come in: the kernel out there tells its IPv6 groups (MLD) once more a while after
  // its link is up.
  edge.lab.exec(edge.outside, 'sysctl', '-qw', 'net.ipv6.conf.x0.disable_ipv6=1');
  const source = await start(edge.outside, 'flood', 'x0');
  edge.purge();
  const open = await start(edge.namespace, 'arrivals', uplink);
  await until('packets to pass without pins', () => open.lines.filter((line) => line === 'leak').length >= 100);
  await finish(open);

  edge.attach();
  // From the report on, behind XDP.
  const arrivals = await start(edge.namespace, 'arrivals', uplink);
  const drops = () => withSet((set) => readCounters(set, 0).DROP_ADDRESS.packets);
  const atFirst = drops();
  await until('the flood to be dropped', () => drops() > atFirst + 20_000);
  expect(await finish(arrivals)).toEqual({ blocked: 0, innocent: 0 });
  await finish(source);
  // And before the report: since its first packet, nothing of IPv4 or IPv6 passed this program.
  const counters = withSet((set) => readCounters(set, 0));
  expect(counters.DROP_ADDRESS.packets).toBeGreaterThan(20_000);
  expect(counters.DROP_PREFIX.packets).toBeGreaterThan(1_000);
  expect(counters.PASS_CLEAN.packets).toBe(0);
  expect(differences(edge)).toEqual([]);
});

test('all kinds of claims come back, with their remaining times; what the guard refuses now does not, and is said', () => {
  edge.must(['block', '203.0.113.10', '--for', '30m']);
  edge.must(['block', '203.0.113.11', '--monitor', '--for', '20m']);
  edge.must(['block', '203.0.113.12', '--forever']);
  edge.must(['block', '2001:db8:abcd::/48', '--for', '40m']);
  edge.must(['block', '198.51.100.254', '--force', '--for', '50m']);
  edge.must(['block', '203.0.113.77', '--for', '1h']);
  edge.must(['block', '203.0.113.78', '--for', '1h']);
  edge.must(['unblock', '203.0.113.78']);
  expect(statSync(join(edge.stateDir, 'root/forced.json')).uid).toBe(0);
  const before = heldIn(edge.lab.pinDir);
  const at = performance.now();
  writeFileSync(edge.configFile, settings(', protected: [203.0.113.77]'));
  edge.purge();
  const done = edge.run(['attach', uplink, '--addresses', '4096', '--prefixes', '1024']);
  expect(done.status).toBe(0);
  expect(done.stderr).toMatch(/203\.0\.113\.77 is not blocked again/);
  const passed = (performance.now() - at) / 1000;
  const after = heldIn(edge.lab.pinDir);
  expect([...after.keys()].sort()).toEqual([...before.keys()].filter((name) => name !== '203.0.113.77').sort());
  for (const [name, { dropSeconds, countSeconds }] of after) {
    const was = before.get(name);
    for (const [now, then] of [
      [dropSeconds, was?.dropSeconds],
      [countSeconds, was?.countSeconds],
    ] as const) {
      if (now === null || then === null || then === undefined) expect([name, now]).toEqual([name, then]);
      else if (then === 0) expect(now).toBe(0);
      else expect(Math.abs(then - passed - now), `${name}: ${then} s, then ${now} s`).toBeLessThan(1.5);
    }
  }
  const asked = [
    '203.0.113.10',
    '203.0.113.11',
    '203.0.113.12',
    '2001:db8:abcd::1',
    '198.51.100.254',
    '203.0.113.77',
    '203.0.113.78',
  ];
  expect(dropped(edge.lab.pinDir, asked)).toEqual(
    new Set(['203.0.113.10', '203.0.113.12', '2001:db8:abcd::1', '198.51.100.254']),
  );
  writeFileSync(edge.configFile, settings());
  // No packet of it is dropped; its claim is withdrawn.
  expect(edge.run(['unblock', '203.0.113.77']).status).toBe(0);
  edge.must(['reconcile']);
  expect(heldIn(edge.lab.pinDir).has('203.0.113.77')).toBe(false);
});

test("the ledger is the service's, and a process of that user without capabilities blocks on", () => {
  expect(statSync(ledgerFile())).toMatchObject({ uid: service[0], gid: service[1] });
  expect(statSync(join(edge.lab.pinDir, 'current/blocked_v4'))).toMatchObject({ uid: service[0], gid: service[1] });
  // What root wrote into the ledger came from that user's hand: no file in the way of the next one.
  edge.must(['block', '203.0.113.20', '--for', '1h']);
  for (const suffix of ['', '-wal', '-shm']) {
    if (existsSync(`${ledgerFile()}${suffix}`)) expect(statSync(`${ledgerFile()}${suffix}`).uid).toBe(service[0]);
  }
});

test('what root did not force and the guard refuses does not come back; what root forced does', () => {
  // As the service could write it: the ledger has it, the guard refuses it, root's own list does not name it.
  edge.must(['block', '203.0.113.30', '--for', '1h']);
  writeFileSync(edge.configFile, settings(', protected: [203.0.113.30]'));
  edge.purge();
  expect(edge.attach()).toContain('attached');
  expect(dropped(edge.lab.pinDir, ['203.0.113.30', '198.51.100.254'])).toEqual(new Set(['198.51.100.254']));
  writeFileSync(edge.configFile, settings());
});

const hour = 3_600_000;
const year = 365 * 24 * hour;

test.each([
  ['ten minutes down', () => Date.now() - hour / 6, 600],
  ['a clock that went back by ten years', () => Date.now() + 10 * year, 0],
  ['a clock that was never set before', () => Date.UTC(2001, 0, 1), 0],
])('remaining times after %s', (_, wall, downSeconds) => {
  const target = '203.0.113.40';
  edge.must(['block', target, '--for', '1h', '--replace']);
  edge.purge();
  bootedBefore(wall());
  edge.attach();
  const seconds = secondsOf(target) ?? 0;
  expect(seconds).toBeGreaterThan(3600 - downSeconds - 10);
  expect(seconds).toBeLessThanOrEqual(3600 - downSeconds);
  expect(secondsOf('10.97.0.0/24')).toBeNull();
  expect(dropped(edge.lab.pinDir, ['10.97.0.9'])).toEqual(new Set(['10.97.0.9']));
  expect(differences(edge)).toEqual([]);
});

test.each([
  ['forward', 10 * year],
  ['back', -10 * year],
])('within a boot a step of the wall clock %s by ten years ends nothing and prolongs nothing', (_, stepMs) => {
  const target = '203.0.113.41';
  edge.must(['block', target, '--for', '1h', '--replace']);
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  edge.purge();
  bootedBefore(Date.now() - stepMs, bootId);
  edge.attach();
  const seconds = secondsOf(target) ?? 0;
  expect(seconds).toBeGreaterThan(3590);
  expect(seconds).toBeLessThanOrEqual(3600);
  expect(differences(edge)).toEqual([]);
});

test('counters start anew', () => {
  edge.purge();
  edge.attach();
  expect(edge.json(0, ['show', '203.0.113.12']).said).toMatchObject([
    { entries: [{ packets: 0, bytes: 0, last_seen_at: null }] },
  ]);
});

test('break-glass: a file OFF, three boots, and back', () => {
  const off = join(dirname(edge.configFile), 'OFF');
  const boots = join(edge.stateDir, 'root/boots.json');
  const mode = () => withSet((set) => modeNow(set.settings).mode);
  const reboot = (): string => {
    edge.purge();
    return edge.run(['attach', uplink, '--addresses', '4096', '--prefixes', '1024']).stderr;
  };
  expect(mode()).toBe('enforce');

  writeFileSync(off, '');
  expect(reboot()).toMatch(/file OFF.*mode off/);
  expect(mode()).toBe('off');
  expect(dropped(edge.lab.pinDir, ['203.0.113.12'])).toEqual(new Set());
  // The blocks are there.
  expect(heldIn(edge.lab.pinDir).has('203.0.113.12')).toBe(true);
  rmSync(off);
  reboot();
  expect(mode()).toBe('enforce');

  const own = JSON.parse(readFileSync(boots, 'utf8')) as { id: string; at: number }[];
  expect(own).toHaveLength(1);
  const before = (minutes: number, id: string) => ({ id, at: (own[0]?.at ?? 0) - minutes * 60_000 });
  writeFileSync(boots, JSON.stringify([before(20, 'first'), before(10, 'second'), ...own]));
  expect(reboot()).toMatch(/three times within 30 minutes.*mode monitor/);
  expect(mode()).toBe('monitor');
  expect(dropped(edge.lab.pinDir, ['203.0.113.12'])).toEqual(new Set());
  expect(heldIn(edge.lab.pinDir).has('203.0.113.12')).toBe(true);

  // Garbage is nobody's word.
  mkdirSync(dirname(boots), { recursive: true });
  writeFileSync(boots, '[{"id":1},null,"x"');
  reboot();
  expect(mode()).toBe('enforce');
  expect(dropped(edge.lab.pinDir, ['203.0.113.12'])).toEqual(new Set(['203.0.113.12']));
});
