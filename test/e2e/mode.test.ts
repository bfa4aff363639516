/** The global switch, and what goes back by itself: by the kernel alone, seen on packets. */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { monotonicNs } from '../../src/kernel/clock.ts';
import { type CountKind, readCounters } from '../../src/kernel/counters.ts';
import { encodeSettings, type Settings } from '../../src/kernel/layout.ts';
import { modeNow } from '../../src/kernel/mode.ts';
import { native } from '../../src/kernel/native.ts';
import { PinnedSet } from '../../src/kernel/set.ts';
import { until } from '../kernel/lab.ts';
import { dropped, type Edge, openEdge, uplink } from './edge.ts';

const service = [54321, 54321] as const;
const attacker = '203.0.113.66';

let edge: Edge;
let flood: ChildProcess;

beforeAll(() => {
  edge = openEdge({ service, config: 'http: { enabled: true, port: 0 }\n' });
  edge.lab.exec(edge.outside, 'ip', 'addr', 'add', `${attacker}/32`, 'dev', 'x0');
  edge.attach();
  edge.must(['block', attacker, '203.0.113.128/25', '2001:db8:9::1', '--for', '2h']);
  edge.must(['block', '203.0.113.7', '--monitor', '--for', '2h']);
  // A few hundred packets a second, whatever becomes of them.
  flood = edge.lab.spawn(edge.outside, ['ping', '-q', '-n', '-i', '0.005', '-I', attacker, '198.51.100.1'], {
    stdio: 'ignore',
  });
});
afterAll(async () => {
  flood.kill('SIGKILL');
  await edge.lab.close();
});
beforeEach(() => {
  edge.must(['mode', 'off']);
  edge.must(['mode', 'enforce']);
});
const running: ChildProcess[] = [];
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});

function withSet<T>(work: (set: PinnedSet) => T): T {
  const set = new PinnedSet(edge.lab.pinDir);
  try {
    return work(set);
  } finally {
    set.close();
  }
}

const counts = () => withSet((set) => readCounters(set, 0));
const settings = () => withSet((set) => set.settings);
const mode = () => modeNow(settings()).mode;

/** That many more packets of this kind. */
async function packets(kind: CountKind, more = 20): Promise<void> {
  const before = counts()[kind].packets;
  await until(`${more} packets of ${kind}`, () => counts()[kind].packets >= before + more, 60_000);
}

/** While 20 packets are counted as the one, none is as the other. */
async function only(kind: CountKind, not: CountKind): Promise<void> {
  const before = counts()[not].packets;
  await packets(kind);
  expect(counts()[not].packets).toBe(before);
}

describe('mode', () => {
  test('enforce, monitor, off: what it does to packets, what was before, how many blocks it is about', async () => {
    await only('DROP_ADDRESS', 'PASS_MODE_OFF');
    expect(edge.json(0, ['mode', 'monitor']).said).toMatchObject([
      {
        mode: 'monitor',
        status: 'changed',
        before: 'enforce',
        after: null,
        ends_at: null,
        enforcing_entries: 3,
        monitoring_entries: 1,
      },
    ]);
    await only('PASS_MODE_MONITOR', 'DROP_ADDRESS');
    expect(edge.must(['mode', 'off'])).toBe(
      'mode off (was monitor): 3 live blocks drop and count nothing, every packet passes\n',
    );
    await only('PASS_MODE_OFF', 'DROP_ADDRESS');
    expect(edge.must(['mode', 'off'])).toMatch(/^mode off unchanged: /);
    expect(edge.must(['mode', 'enforce', '--reason', 'all clear'])).toBe(
      'mode enforce (was off): 3 live blocks drop, 1 only count\n',
    );
    await only('DROP_ADDRESS', 'PASS_MODE_OFF');
    const audit = readFileSync(join(edge.stateDir, 'audit.jsonl'), 'utf8').trim().split('\n');
    expect(JSON.parse(audit.at(-1) ?? '')).toMatchObject({
      'event.action': 'mode_set',
      'event.reason': 'off → enforce: all clear',
    });
  });

  test.each([
    [['mode']],
    [['mode', 'on']],
    [['mode', 'off', 'now']],
    [['mode', 'off', '--revert-after', '0s']],
    [['mode', 'off', '--revert-after', 'soon']],
  ])('wrong words: %j', (args) => {
    const before = settings();
    expect(edge.run(args).status).toBe(2);
    expect(settings()).toEqual(before);
  });

  test('the panic switch: ledger, configuration, guard settings, other maps broken, no daemon', () => {
    const stateDir = join(edge.lab.directory, 'broken');
    mkdirSync(join(stateDir, 'root'), { recursive: true });
    writeFileSync(join(stateDir, 'ledger.db'), 'no ledger');
    for (const name of ['boots.json', 'glass.json', 'guard.json', 'allows.json'])
      writeFileSync(join(stateDir, 'root', name), '{"');
    const config = join(edge.lab.directory, 'broken.yaml');
    writeFileSync(config, 'http: [\n  nonsense: {');
    mkdirSync(join(edge.lab.directory, 'allow.d'), { recursive: true });
    const environment = {
      FALCODROP_STATE_DIR: stateDir,
      FALCODROP_CONFIG: config,
      FALCODROP_HTTP__PROT: 'no such setting',
    };
    expect(edge.run(['mode', 'off'], { environment })).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^mode off/) as string,
    });
    expect(mode()).toBe('off');
    expect(edge.run(['mode', 'enforce'], { environment }).status).toBe(0);
    // A state directory that is a file, or nowhere.
    for (const FALCODROP_STATE_DIR of [config, '/proc/1/nowhere']) {
      expect(edge.run(['mode', 'off'], { environment: { ...environment, FALCODROP_STATE_DIR } }).status).toBe(0);
      expect(mode()).toBe('off');
      expect(edge.run(['mode', 'enforce'], { environment: { ...environment, FALCODROP_STATE_DIR } }).status).toBe(0);
    }
    // Maps that are none of ours any more.
    const set = join(edge.lab.pinDir, 'current');
    const others = ['blocked_v4', 'hints', 'change', 'allowed_cidr_v4', 'scopes'];
    for (const name of others) edge.lab.exec(null, 'mv', `${set}/${name}`, `${set}/${name}x`);
    try {
      const [said] = edge.json(0, ['mode', 'off'], { environment }).said;
      expect(said).toMatchObject({ mode: 'off', enforcing_entries: null });
    } finally {
      for (const name of others) edge.lab.exec(null, 'mv', `${set}/${name}x`, `${set}/${name}`);
    }
    expect(mode()).toBe('off');
  });

  test('maps of another format are refused, and the way out is told', () => {
    const map = native().openMap(join(edge.lab.pinDir, 'current/settings'));
    const before = settings();
    try {
      map.update(Buffer.alloc(4), encodeSettings({ ...before, format: 99 }));
      expect(edge.json(1, ['mode', 'off']).errors).toMatchObject([
        { code: 'layout_mismatch', hint: expect.stringMatching(/falcodrop detach --all/) as string },
      ]);
    } finally {
      map.update(Buffer.alloc(4), encodeSettings(before));
      map.close();
    }
  });

  test("root's verbs at once lose nothing of each other's", async () => {
    const configure = (more: string) =>
      writeFileSync(edge.configFile, `service: { user: "${service[0]}", group: "${service[1]}" }\n${more}`);
    const start = (...args: string[]) =>
      new Promise<number | null>((resolve) =>
        edge.lab.spawn(edge.namespace, edge.argv(args), { stdio: 'ignore' }).once('close', resolve),
      );
    configure('never_drop_ports: [tcp/22]\n');
    const done = await Promise.all([
      start('mode', 'monitor', '--revert-after', '1h'),
      start('protect'),
      start('protect'),
      start('attach', uplink),
    ]);
    expect(done).toEqual([0, 0, 0, 0]);
    expect(settings()).toMatchObject({ neverDrop: [{ protocol: 6, number: 22 }] });
    expect(modeNow(settings())).toMatchObject({ mode: 'monitor', after: 'enforce' });
    configure('');
    edge.must(['protect']);
    expect(modeNow(settings())).toMatchObject({ mode: 'monitor', after: 'enforce' });
    expect(settings().neverDrop).toEqual([]);
  });

  test('a mode that a hand has set outlives an attach, and three boots are forgotten', () => {
    edge.must(['mode', 'monitor']);
    expect(edge.run(['attach', uplink])).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/the mode is monitor, as it was set/) as string,
    });
    expect(mode()).toBe('monitor');

    const boots = join(edge.stateDir, 'root/boots.json');
    const [own] = JSON.parse(readFileSync(boots, 'utf8')) as { id: string; at: number }[];
    const boot = (minutes: number, id: string) => ({ id, at: (own?.at ?? 0) - minutes * 60_000 });
    writeFileSync(boots, JSON.stringify([boot(20, 'first'), boot(10, 'second'), own]));
    expect(edge.run(['attach', uplink]).stderr).toMatch(/three times within 30 minutes/);
    expect(mode()).toBe('monitor');
    expect(edge.json(0, ['mode', 'enforce']).said).toMatchObject([
      { before: 'monitor', notes: [{ code: 'boots_forgotten' }] },
    ]);
    edge.must(['attach', uplink]);
    expect(mode()).toBe('enforce');

    // What broken glass has set goes with the glass.
    const off = join(dirname(edge.configFile), 'OFF');
    writeFileSync(off, '');
    edge.must(['attach', uplink]);
    expect(mode()).toBe('off');
    rmSync(off);
    edge.must(['attach', uplink]);
    expect(mode()).toBe('enforce');
    // Unless a hand has set it since.
    writeFileSync(off, '');
    edge.must(['attach', uplink]);
    edge.must(['mode', 'off']);
    rmSync(off);
    edge.must(['attach', uplink]);
    expect(mode()).toBe('off');
  });
});

/** Every process of ours, by SIGKILL; nothing of falcodrop runs in this namespace afterwards. */
async function killAll(): Promise<void> {
  for (const child of running) {
    const gone = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGKILL');
    await gone;
  }
  // The daemon's own children, too (a reconcile at its start).
  for (const pid of oursIn(edge.namespace)) process.kill(pid, 'SIGKILL');
  await until('all of it to be gone', () => oursIn(edge.namespace).length === 0);
}

/** Processes of falcodrop in a namespace of the lab; zombies have no command line. */
function oursIn(namespace: string): number[] {
  const pids = edge.lab.exec(null, 'ip', 'netns', 'pids', namespace).split('\n').filter(Boolean).map(Number);
  return pids.filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('main.js');
    } catch {
      return false; // gone
    }
  });
}

async function startDaemon(): Promise<void> {
  const child = edge.lab.spawn(edge.namespace, edge.argv(['run'], { as: service }), {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.push(child);
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text: string) => (said += text));
  await until('the daemon to run', () => /listening|http/i.test(said) || child.exitCode !== null);
  expect(child.exitCode).toBeNull();
}

describe('by the kernel alone', () => {
  test('mode off --revert-after goes back to dropping, everything of ours killed', async () => {
    await startDaemon();
    const before = monotonicNs();
    const [said] = edge.json(0, ['mode', 'off', '--revert-after', '4s']).said;
    const ended = monotonicNs();
    expect(said).toMatchObject({ mode: 'off', before: 'enforce', after: 'enforce', notes: [{ code: 'reverts' }] });
    await killAll();
    await packets('PASS_MODE_OFF', 5);
    const { deadline } = settings();
    expect(deadline).toBeGreaterThan(before + 4_000_000_000n);
    expect(deadline).toBeLessThan(ended + 4_000_000_000n);
    const drops = counts().DROP_ADDRESS.packets;
    await until('packets to be dropped again', () => counts().DROP_ADDRESS.packets > drops, 60_000);
    const late = Number(monotonicNs() - deadline) / 1e9;
    // Not before (a tick of the coarse clock aside), and at once.
    expect(late).toBeGreaterThan(-0.02);
    expect(late).toBeLessThan(2);
    await only('DROP_ADDRESS', 'PASS_MODE_OFF');
    expect(edge.must(['status'])).toMatch(/^mode +enforce, by itself for \d+s: off was not confirmed$/m);
    // Told once.
    expect(edge.json(4, ['confirm']).errors).toMatchObject([
      {
        code: 'confirm_late',
        message: expect.stringMatching(/^too late: the mode went from off to enforce by itself \d+s ago/) as string,
      },
    ]);
    expect(edge.json(4, ['confirm']).errors).toMatchObject([{ code: 'nothing_pending' }]);
    expect(mode()).toBe('enforce');
  });

  test('attach --revert-after goes off, also when the attach is killed in the middle', async () => {
    const done = edge.run(['attach', uplink, '--revert-after', '3s'], { fault: 'attach.moded' });
    expect(done.status).toBeNull();
    expect(modeNow(settings())).toMatchObject({ mode: 'enforce', after: 'off' });
    await only('DROP_ADDRESS', 'PASS_MODE_OFF');
    await packets('PASS_MODE_OFF');
    await only('PASS_MODE_OFF', 'DROP_ADDRESS');
    expect(dropped(edge.lab.pinDir, [attacker])).toEqual(new Set());
  });

  test('a fresh attach with --revert-after, confirmed: it goes on dropping', async () => {
    edge.purge();
    const out = edge.run(['attach', uplink, '--addresses', '4096', '--prefixes', '1024', '--revert-after', '5s']);
    expect(out).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/mode enforce: it goes to off at .*, unless: falcodrop confirm/) as string,
    });
    expect(edge.must(['status'])).toMatch(/^mode +enforce until .* then off, unless: falcodrop confirm$/m);
    const { deadline } = settings();
    expect(edge.json(0, ['confirm']).said).toEqual([
      { what: 'mode', mode: 'enforce', status: 'confirmed', would_have_been: 'off' },
    ]);
    await until('the deadline to pass', () => monotonicNs() > deadline, 60_000);
    await only('DROP_ADDRESS', 'PASS_MODE_OFF');
  });

  test('another attach is no confirmation, another mode neither; one that fails takes back what it asked for', async () => {
    edge.must(['attach', uplink, '--revert-after', '1h']);
    const { deadline } = settings();
    edge.must(['attach', uplink]);
    expect(settings().deadline).toBe(deadline);
    expect(edge.run(['mode', 'monitor'])).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/goes back to off at .*, as was asked for before/) as string,
    });
    expect(settings().deadline).toBe(deadline);
    edge.must(['confirm']);
    expect(modeNow(settings())).toEqual({ mode: 'monitor', seconds: null, after: null });
    const before = settings();
    expect(edge.run(['attach', 'nosuch0', '--revert-after', '2s']).status).toBe(4);
    // In use by somebody else: refused after the settings were written.
    edge.lab.veth(
      { namespace: edge.namespace, name: 'up7', exact: true },
      { namespace: edge.outside, name: 'x7', exact: true },
    );
    expect(edge.run(['attach', uplink, '--xdp', 'generic', '--revert-after', '2s']).status).toBe(1);
    expect(settings()).toEqual(before);
  });

  test('confirm stopped between looking and writing, past the deadline: it went back, and stays so', async () => {
    // As the command would be left by a terminal that hangs: the deadline lies behind when it goes on.
    const map = native().openMap(join(edge.lab.pinDir, 'current/settings'));
    const past: Settings = { ...settings(), mode: 0, deadline: monotonicNs() - 1n, modeAfter: 2 };
    map.update(Buffer.alloc(4), encodeSettings(past));
    map.close();
    expect(edge.json(4, ['confirm']).errors).toMatchObject([{ code: 'confirm_late' }]);
    expect(mode()).toBe('off');
    await only('PASS_MODE_OFF', 'DROP_ADDRESS');
  });

  test('confirm: nothing pending; not root', () => {
    expect(edge.json(4, ['confirm']).errors).toMatchObject([{ code: 'nothing_pending' }]);
    edge.must(['mode', 'monitor', '--revert-after', '1h']);
    const { deadline } = settings();
    expect(edge.json(5, ['confirm'], { as: service }).errors).toMatchObject([
      { code: 'not_permitted', hint: 'sudo falcodrop confirm' },
    ]);
    expect(settings().deadline).toBe(deadline);
    edge.must(['confirm']);
    expect(edge.json(4, ['confirm'], { as: service }).errors).toMatchObject([{ code: 'nothing_pending' }]);
  });

  test('killed when the kernel has it: it holds, and can be confirmed', () => {
    const done = edge.run(['mode', 'monitor', '--revert-after', '1h'], { fault: 'mode.set' });
    expect(done.status).toBeNull();
    expect(modeNow(settings())).toMatchObject({ mode: 'monitor', after: 'enforce' });
    edge.must(['confirm']);
    expect(modeNow(settings())).toEqual({ mode: 'monitor', seconds: null, after: null });
  });
});
