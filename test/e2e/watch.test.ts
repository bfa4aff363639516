/** `falcodrop watch drops` through the built command: with and without a daemon, one after the other, and ended. */
import type { ChildProcess } from 'node:child_process';
import { chownSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { layout } from '../../src/kernel/layout.ts';
import { PinnedSet } from '../../src/kernel/set.ts';
import { objects } from '../cli/falcodrop.ts';
import { ended, until } from '../kernel/lab.ts';
import { type Edge, openEdge, type Ways } from './edge.ts';

const service = [64042, 64043] as const;
const attacker = '203.0.113.66';
const other = '203.0.113.130';
const host = '198.51.100.1';

let edge: Edge;
const children: ChildProcess[] = [];

beforeEach(() => {
  edge = openEdge({ service, config: 'http: { port: 0 }\n' });
  for (const address of [attacker, other, '2001:db8:5::66']) {
    edge.lab.exec(
      edge.outside,
      'ip',
      'addr',
      'add',
      `${address}/${address.includes(':') ? 128 : 32}`,
      'dev',
      'x0',
      ...(address.includes(':') ? ['nodad'] : []),
    );
  }
  edge.attach();
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill('SIGKILL');
    await ended(child);
  }
  await edge.lab.close();
});

/** UDP packets from one of the attacker's addresses, as they are. */
function send(source: string, packets = 1, port = 53): void {
  const script = `
import socket, sys
source, target, count, port = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
s = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((source, 40000))
for _ in range(count): s.sendto(b"x", (target, port))
`;
  const target = source.includes(':') ? '2001:db8:1::1' : host;
  edge.lab.exec(edge.outside, 'python3', '-c', script, source, target, `${packets}`, `${port}`);
}

interface Running {
  readonly child: ChildProcess;
  readonly out: () => string;
  readonly err: () => string;
  /** Samples of JSON lines. */
  readonly samples: () => Record<string, unknown>[];
  readonly notes: () => string[];
  readonly end: () => Promise<number | null>;
}

function start(args: readonly string[], ways: Ways = {}): Running {
  const child = edge.lab.spawn(edge.namespace, edge.argv(args, ways), { stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  let out = '';
  let err = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const lines = (): Record<string, unknown>[] => objects(out.slice(0, out.lastIndexOf('\n') + 1));
  return {
    child,
    out: () => out,
    err: () => err,
    samples: () => lines().filter((line) => 'source' in line),
    notes: () => lines().flatMap((line) => ('note' in line ? [(line.note as { code: string }).code] : [])),
    end: async () => {
      await ended(child);
      return child.exitCode;
    },
  };
}

/** A sample is there only when somebody reads: sent again until it is seen. */
async function sees(watch: Running, source: string): Promise<void> {
  let packets = 1;
  await until(`${source} in what is watched: ${watch.out()}${watch.err()}`, () => {
    send(source, packets);
    packets = Math.min(64, 2 * packets);
    return watch.samples().some((sample) => sample.source === source);
  });
}

/** Somebody is the ring's reader; asked of the kernel, for to try the lock would take it. */
const isReading = async (): Promise<void> => {
  const { ino } = statSync(`${edge.lab.pinDir}/samples`);
  await until('somebody holds the lock', () =>
    new RegExp(`FLOCK .*:${ino} `).test(readFileSync('/proc/locks', 'utf8')),
  );
};

async function daemon(): Promise<Running> {
  const running = start(['run'], { as: service });
  await until(`a daemon: ${running.err()}`, () => running.err().includes('"ready"'));
  await until('its socket', () => running.err().includes('run.sock'));
  return running;
}

describe('without a daemon', () => {
  test('samples come as JSON with the names that they always have, and --limit ends it', async () => {
    edge.must(['block', attacker, '203.0.113.128/25', '2001:db8:5::/48']);
    edge.must(['block', '--monitor', '203.0.113.0/25']);
    const watch = start(['watch', 'drops', '--json', '--limit', '4']);
    await isReading();
    send(attacker, 2);
    send(other, 1, 443);
    send('2001:db8:5::66');
    expect(await watch.end()).toBe(0);
    const samples = watch.samples();
    expect(samples).toHaveLength(4);
    const ifindex = edge.lab.ifindex(edge.namespace, 'up0');
    const common = { interface: 'up0', ifindex, verdict: 'dropped', protocol: 'udp', source_port: 40000 };
    expect(samples).toEqual([
      {
        ...common,
        at: expect.any(String),
        reason: 'address',
        entry: attacker,
        source: attacker,
        destination: host,
        destination_port: 53,
        length: 43,
        packet: 1,
      },
      {
        ...common,
        at: expect.any(String),
        reason: 'address',
        entry: attacker,
        source: attacker,
        destination: host,
        destination_port: 53,
        length: 43,
        packet: 2,
      },
      {
        ...common,
        at: expect.any(String),
        reason: 'prefix',
        entry: '203.0.113.128/25',
        source: other,
        destination: host,
        destination_port: 443,
        length: 43,
        packet: 1,
      },
      // It asks for the neighbour first.
      expect.objectContaining({
        reason: 'prefix',
        entry: '2001:db8:5::/48',
        source: '2001:db8:5::66',
        protocol: 'icmpv6',
      }),
    ]);
    expect(Math.abs(Date.parse(String(samples[0]?.at)) - Date.now())).toBeLessThan(20_000);
    expect(watch.err()).toBe('');
  });

  test('lines of people are 80 columns wide at most, and are of the prefix asked for alone', async () => {
    edge.must(['block', attacker, '203.0.113.128/25']);
    const watch = start(['watch', 'drops', '--limit', '2', '--within', '203.0.113.128/25', '--utc']);
    await isReading();
    send(attacker, 4);
    send(other, 2);
    expect(await watch.end()).toBe(0);
    const lines = watch.out().trimEnd().split('\n');
    expect(lines).toHaveLength(2);
    for (const [at, line] of lines.entries()) {
      expect(line).toMatch(
        new RegExp(
          `^\\d\\d:\\d\\d:\\d\\d up0 udp 43 ${other}:40000 > ${host}:53 dropped by /25 #${at + 1}$`.replaceAll(
            '.',
            '\\.',
          ),
        ),
      );
      expect(line.length).toBeLessThanOrEqual(80);
    }
    expect(watch.err()).toContain('1st, 2nd, 4th');
  });

  test('what was met before somebody watched is not told', async () => {
    edge.must(['block', attacker, other]);
    send(attacker, 3);
    // Ten seconds of suspend later.
    const set = new PinnedSet(edge.lab.pinDir);
    const [skew] = layout.hints.members.skew_ns;
    set.hints.store64(skew, set.hints.load64(skew) + 10_000_000_000n);
    set.close();
    const watch = start(['watch', 'drops', '--json']);
    await sees(watch, other);
    expect(watch.samples().filter(({ source }) => source === attacker)).toEqual([]);
    watch.child.kill('SIGINT');
    expect(await watch.end()).toBe(0);
  });

  test('a second one is told why not; the first ends in silence by a signal, and gives its place', async () => {
    const first = start(['watch', 'drops']);
    await isReading();
    const { errors } = edge.json(1, ['watch', 'drops']);
    expect(errors).toEqual([
      expect.objectContaining({ code: 'samples_busy', hint: expect.stringContaining('samples') }),
    ]);
    const said = first.err();
    first.child.kill('SIGINT');
    expect(await first.end()).toBe(0);
    expect(first.out()).toBe('');
    expect(first.err()).toBe(said);

    edge.must(['block', attacker]);
    const second = start(['watch', 'drops', '--json']);
    await sees(second, attacker);
    second.child.kill('SIGHUP');
    expect(await second.end()).toBe(0);
  });

  test('ends when its reader goes, without another sample', async () => {
    const watch = start(['watch', 'drops']);
    await isReading();
    watch.child.stdout?.destroy();
    expect(await watch.end()).toBe(0);
    expect(watch.err()).not.toMatch(/falcodrop:/);
  });

  test('a member of the group may, others may not, and the maps must be there', async () => {
    edge.must(['block', attacker]);
    const member = start(['watch', 'drops', '--json', '--limit', '1'], { as: [65000, service[1]] });
    await sees(member, attacker);
    expect(await member.end()).toBe(0);
    const { errors } = edge.json(5, ['watch', 'drops'], { as: [65000, 65000] });
    expect(errors[0]).toMatchObject({ code: 'not_permitted' });
    edge.purge();
    expect(edge.json(1, ['watch', 'drops']).errors[0]).toMatchObject({ code: 'pin_dir_missing' });
    expect(edge.json(2, ['watch']).errors[0]).toMatchObject({ code: 'usage' });
    expect(edge.json(2, ['watch', 'dorps']).errors[0]).toMatchObject({ code: 'usage' });
  });
});

describe('with a daemon', () => {
  test('many watch at once, by its socket, which is the group’s', async () => {
    edge.must(['block', attacker]);
    await daemon();
    const socket = statSync(join(edge.stateDir, 'run.sock'));
    expect([socket.mode & 0o777, socket.uid, socket.gid]).toEqual([0o660, ...service]);
    const watches = [
      start(['watch', 'drops', '--json']),
      start(['watch', 'drops', '--json', '--within', '203.0.113.64/26'], { as: [65000, service[1]] }),
    ];
    const elsewhere = start(['watch', 'drops', '--json', '--within', '203.0.113.128/25']);
    for (const watch of watches) await sees(watch, attacker);
    edge.must(['block', other]);
    await sees(elsewhere, other);
    expect(elsewhere.samples().some(({ source }) => source === attacker)).toBe(false);
    for (const watch of [...watches, elsewhere]) {
      watch.child.kill('SIGINT');
      expect(await watch.end()).toBe(0);
      expect(watch.err()).toBe('');
    }
  });

  test('that begins while somebody watches takes over, and when it is killed the watch goes on; and again', async () => {
    edge.must(['block', attacker, other]);
    const watch = start(['watch', 'drops', '--json']);
    await isReading();
    const first = await daemon();
    await until('it is handed over', () => watch.notes().includes('daemon_began'));
    await sees(watch, attacker);
    first.child.kill('SIGKILL');
    await until('it reads itself', () => watch.notes().includes('samples_read'));
    await sees(watch, other);
    const second = await daemon();
    await until('it is handed over again', () => watch.notes().filter((code) => code === 'daemon_began').length === 2);
    second.child.kill('SIGTERM');
    expect(await second.end()).toBe(0);
    await until('it reads itself again', () => watch.notes().filter((code) => code === 'samples_read').length === 2);
    expect(watch.notes()).toEqual([
      'daemon_began',
      'daemon_ended',
      'samples_read',
      'daemon_began',
      'daemon_ended',
      'samples_read',
    ]);
    watch.child.kill('SIGINT');
    expect(await watch.end()).toBe(0);
  });

  test('that ends while somebody else waits for the samples: the watch reads them as soon as they are free', async () => {
    edge.must(['block', attacker]);
    const running = await daemon();
    const watch = start(['watch', 'drops', '--json']);
    await sees(watch, attacker);
    const samples = join(edge.lab.pinDir, 'samples');
    const stranger = edge.lab.spawn(null, ['flock', '--no-fork', '-x', samples, 'sleep', '60'], { stdio: 'ignore' });
    await until('the stranger to wait', () =>
      readFileSync('/proc/locks', 'utf8').includes(`-> FLOCK  ADVISORY  WRITE ${stranger.pid}`),
    );
    running.child.kill('SIGKILL');
    await until('it waits', () => watch.notes().includes('samples_busy'));
    stranger.kill('SIGKILL');
    await until('it reads itself', () => watch.notes().includes('samples_read'));
    expect(watch.notes()).toEqual(['daemon_ended', 'samples_busy', 'samples_read']);
    watch.child.kill('SIGINT');
    expect(await watch.end()).toBe(0);
  });

  test('goes on whatever clients do to it', async () => {
    edge.must(['block', attacker]);
    const running = await daemon();
    const path = join(edge.stateDir, 'run.sock');
    const sockets = Array.from({ length: 40 }, (_, at) => {
      const socket = connect(path);
      socket.on('error', () => undefined);
      if (at % 4 === 0) socket.write(Buffer.alloc(1 << 16, at));
      if (at % 4 === 1) socket.write('{"verb":"watch_drops","within":{"a":1}}\n');
      if (at % 4 === 2) socket.destroy();
      return socket;
    });
    send(attacker, 200);
    for (const socket of sockets) socket.destroy();
    const watch = start(['watch', 'drops', '--json']);
    edge.must(['block', other]);
    await sees(watch, other);
    running.child.kill('SIGTERM');
    expect(await running.end()).toBe(0);
    watch.child.kill('SIGINT');
    expect(await watch.end()).toBe(0);
  });

  test('without a place for its socket goes on, and says so once', async () => {
    mkdirSync(join(edge.stateDir, 'run.sock'), { recursive: true });
    chownSync(edge.stateDir, ...service);
    const running = start(['run'], { as: service });
    await until('a daemon', () => running.err().includes('"ready"'));
    await until('it is said', () => running.err().includes('no socket'));
    running.child.kill('SIGTERM');
    expect(await running.end()).toBe(0);
    expect(running.err().match(/"msg":"no socket"/g)).toHaveLength(1);
  });
});
