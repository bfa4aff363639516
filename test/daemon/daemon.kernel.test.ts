import type { ChildProcess } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import Database from 'better-sqlite3';
import { expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import { Blocklist } from '../../src/blocklist/blocklist.ts';
import { byTest } from '../blocklist/cause.ts';
import { ended, type Lab, withLab } from '../kernel/lab.ts';
import { canary, type Line } from './double.ts';

const script = join(import.meta.dirname, 'serve.ts');

interface Daemon {
  readonly child: ChildProcess;
  readonly lines: Line[];
  waitFor(holds: (line: Line) => boolean): Promise<Line>;
  /** Posts one alert from inside the namespace; the HTTP status. */
  post(body: string): string;
}

async function start(lab: Lab, namespace: string, environment: NodeJS.ProcessEnv = {}): Promise<Daemon> {
  const child = lab.spawn(namespace, [process.execPath, script, lab.pinDir, join(lab.directory, 'state'), 'edge'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...environment },
  });
  const lines: Line[] = [];
  let wake: () => void = () => undefined;
  if (child.stderr === null) throw new Error('no pipe');
  createInterface(child.stderr).on('line', (text) => {
    lines.push(text.startsWith('{') ? (JSON.parse(text) as Line) : { msg: text });
    wake();
  });
  child.on('close', () => wake());
  const waitFor = async (holds: (line: Line) => boolean): Promise<Line> => {
    for (let at = 0; ; ) {
      for (; at < lines.length; at++) {
        const line = lines[at];
        if (line !== undefined && holds(line)) return line;
      }
      if (child.exitCode !== null) throw new Error(`ended: ${JSON.stringify(lines)}`);
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  const { port } = await waitFor(({ msg }) => msg === 'listening');
  await waitFor(({ msg }) => msg === 'ready');
  return {
    child,
    lines,
    waitFor,
    post: (body) =>
      lab.exec(
        namespace,
        ...(['curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', '--data-binary', body] as const),
        `http://127.0.0.1:${port}/`,
      ),
  };
}

/** The host under attack (attached) and an attacker with three addresses. */
function open(lab: Lab): { readonly host: string; readonly attacker: string } {
  const host = lab.namespace('h');
  const attacker = lab.namespace('a');
  lab.veth(
    { namespace: host, name: 'uplink0', exact: true, addresses: ['203.0.113.10/24', '198.51.100.1/24'] },
    {
      namespace: attacker,
      name: 'eth0',
      exact: true,
      addresses: ['203.0.113.1/24', '198.51.100.7/24', '198.51.100.8/24'],
    },
  );
  lab.exec(null, 'ip', '-n', host, 'route', 'add', 'default', 'via', '203.0.113.1');
  lab.attach(host, ['uplink0'], { sizes: { addresses: 1024, prefixes: 64 } });
  return { host, attacker };
}

const alert = (client: string) => canary(client, { hostname: 'edge' });

test('an alert over HTTP drops the attacker, a signal ends the daemon, and the drop goes on', () =>
  withLab(async (lab) => {
    const { host, attacker } = open(lab);
    const ping = (from: string) => lab.run(attacker, 'ping', '-c1', '-W1', '-I', from, '203.0.113.10').status;
    const daemon = await start(lab, host);
    expect(ping('198.51.100.7')).toBe(0);

    expect(daemon.post(alert('198.51.100.7'))).toBe('202');
    const line = await daemon.waitFor(({ msg }) => msg === 'decision');
    expect(line).toMatchObject({
      offender: '198.51.100.7',
      applied: 'enforce',
      outcome: 'blocked',
      reason: 'offender',
    });
    expect(line.usFromReceived).toBeGreaterThan(0);
    expect(ping('198.51.100.7')).not.toBe(0);
    expect(ping('198.51.100.8')).toBe(0);

    // the gateway, the host itself and another host's alert
    for (const [client, reason] of [
      ['203.0.113.1', 'gateway'],
      ['203.0.113.10', 'own_address'],
    ] as const) {
      daemon.post(alert(client));
      await daemon.waitFor(({ offender, verdict }) => offender === client && verdict === 'refuse');
      expect(daemon.lines.find(({ offender }) => offender === client)).toMatchObject({ reason });
    }
    daemon.post(canary('198.51.100.8', { hostname: 'elsewhere' }));
    await daemon.waitFor(({ reason }) => reason === 'other_host');
    expect(ping('198.51.100.8')).toBe(0);

    daemon.post(alert('198.51.100.7'));
    await daemon.waitFor(({ outcome }) => outcome === 'unchanged');
    daemon.child.kill('SIGTERM');
    await ended(daemon.child);
    expect(daemon.child.exitCode).toBe(0);
    expect(daemon.lines.at(-1)).toMatchObject({
      msg: 'stopped',
      alerts: { judged: 5, blocked: 2, refused: 3, errors: 0 },
    });
    expect(ping('198.51.100.7')).not.toBe(0);

    const blocklist = Blocklist.open(lab.pinDir);
    expect(blocklist.covering(parsePrefix('198.51.100.7'))).toHaveLength(1);
    blocklist.close();
    lab.detach(host, null, { purge: true });
  }));

test('killed with -9 after its answer the drop stands, and the next daemon adopts it', () =>
  withLab(async (lab) => {
    const { host, attacker } = open(lab);
    const ping = (from: string) => lab.run(attacker, 'ping', '-c1', '-W1', '-I', from, '203.0.113.10').status;
    const first = await start(lab, host);
    first.post(alert('198.51.100.7'));
    await first.waitFor(({ outcome }) => outcome === 'blocked');
    first.child.kill('SIGKILL');
    await ended(first.child);
    expect(ping('198.51.100.7')).not.toBe(0);

    const second = await start(lab, host);
    second.post(alert('198.51.100.7'));
    expect((await second.waitFor(({ msg }) => msg === 'decision')).outcome).toBe('unchanged');
    second.child.kill('SIGTERM');
    await ended(second.child);
    lab.detach(host, null, { purge: true });
  }));

test.each([
  ['of a newer version', (path: string) => sql(path, 'PRAGMA user_version = 99')],
  ['locked by a stranger', (path: string) => hold(path)],
])('a ledger that can not be written, %s, does not hold up the stop, and the last word is "stopped"', (_, spoil) =>
  withLab(async (lab) => {
    const { host } = open(lab);
    const ready = await start(lab, host);
    ready.child.kill('SIGTERM');
    await ended(ready.child);
    const release = spoil(join(lab.directory, 'state/ledger.db'));
    try {
      const daemon = await start(lab, host);
      daemon.post(alert('198.51.100.7'));
      await daemon.waitFor(({ outcome }) => outcome === 'blocked');
      await daemon.waitFor(({ msg }) => msg === 'the ledger can not be written; drops go on');
      const at = performance.now();
      daemon.child.kill('SIGTERM');
      await ended(daemon.child);
      expect(daemon.child.exitCode).toBe(0);
      expect(performance.now() - at).toBeLessThan(3_000);
      const said = daemon.lines.map(({ msg }) => msg);
      expect(said.at(-1)).toBe('stopped');
      expect(said).toContain('the ledger lacks what the maps hold: the next start writes it down');
      expect(said).not.toContain('blocks not verified yet');
      expect(said).not.toContain('stopped before all was done');
    } finally {
      release?.();
    }
    lab.detach(host, null, { purge: true });
  }),
);

function sql(path: string, text: string): undefined {
  const database = new Database(path);
  database.exec(text);
  database.close();
}

/** The write lock, until the returned function is called. */
function hold(path: string): () => void {
  const database = new Database(path);
  database.exec('BEGIN EXCLUSIVE');
  return () => {
    database.exec('ROLLBACK');
    database.close();
  };
}

test('a full map is said so, and the daemon goes on', () =>
  withLab(async (lab) => {
    const { host } = open(lab);
    const daemon = await start(lab, host);
    const blocklist = Blocklist.open(lab.pinDir);
    expect(() => {
      for (let n = 0; n <= 1024; n++) {
        const target = parsePrefix(`198.60.${n >> 8}.${n & 255}`);
        blocklist.blockAtOnce({ target, owner: 'hand', mode: 'enforce', seconds: null, cause: byTest });
      }
    }).toThrowError(expect.objectContaining({ code: 'map_full' }));
    blocklist.close();
    expect(daemon.post(alert('198.51.100.8'))).toBe('202');
    expect(await daemon.waitFor(({ msg }) => msg === 'block failed')).toMatchObject({ code: 'map_full' });
    expect(daemon.post(alert('203.0.113.10'))).toBe('202');
    await daemon.waitFor(({ reason }) => reason === 'own_address');
    daemon.child.kill('SIGTERM');
    await ended(daemon.child);
    expect(daemon.child.exitCode).toBe(0);
    lab.detach(host, null, { purge: true });
  }));

test('systemd is told when it is ready and when it stops', () =>
  withLab(async (lab) => {
    const { host } = open(lab);
    const folder = join(lab.directory, 'notify');
    mkdirSync(folder);
    // Node has no unix datagram sockets: socat's part is played by Python
    const socket = join(folder, 'socket');
    const receiver = lab.spawn(
      null,
      [
        'python3',
        '-u',
        '-c',
        `import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\ns.bind(sys.argv[1])\nprint('bound')\nwhile True: print(repr(s.recv(4096).decode()))`,
        socket,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const told: string[] = [];
    let wake: () => void = () => undefined;
    if (receiver.stdout === null) throw new Error('no pipe');
    createInterface(receiver.stdout).on('line', (text) => {
      told.push(text);
      wake();
    });
    const until = async (count: number): Promise<void> => {
      while (told.length < count) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    };
    await until(1);
    const daemon = await start(lab, host, { NOTIFY_SOCKET: socket });
    await until(2);
    daemon.child.kill('SIGTERM');
    await ended(daemon.child);
    await until(3);
    expect(told).toEqual(['bound', "'READY=1\\nSTATUS=taking alerts'", "'STOPPING=1'"]);
    receiver.kill();
    await ended(receiver);
    lab.detach(host, null, { purge: true });
  }));
