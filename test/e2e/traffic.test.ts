/** An attacker's real traffic before, during and after a block: ping, TCP and UDP of both families. */
import type { ChildProcess } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Prefix, parsePrefix } from '../../src/address/prefix.ts';
import { Blocklist } from '../../src/blocklist/blocklist.ts';
import { readCounters } from '../../src/kernel/counters.ts';
import { byTest } from '../blocklist/cause.ts';
import { ended, type Lab, openLab, until } from '../kernel/lab.ts';

const uplink = 'up0';
const port = 7777;

interface Net {
  readonly lab: Lab;
  readonly edge: string;
  readonly outside: string;
}

/** Attacker and neighbour are two addresses of one namespace, for the edge to tell apart. */
const here = { 4: '198.51.100.1', 6: '2001:db8:1::1' } as const;
const attacker = { 4: '198.51.100.66', 6: '2001:db8:1::66' } as const;
const neighbour = { 4: '198.51.100.67', 6: '2001:db8:1::67' } as const;
const families = [4, 6] as const;

/** A process in the edge that answers TCP and UDP of both families. */
const echo = `
  const net = require('net'), dgram = require('dgram');
  let left = 2;
  const ready = () => { if (--left === 0) console.log('ready'); };
  net.createServer((socket) => socket.on('error', () => {}).end('tcp')).listen(${port}, '::', ready);
  const udp = dgram.createSocket('udp6');
  udp.on('message', (_, from) => udp.send('udp', from.port, from.address)).bind(${port}, '::', ready);
`;

/** One attempt from an address, answered within 400 ms or not. TCP sends its SYN once in that time. */
const ask = `
  const [kind, family, from, to] = process.argv.slice(1);
  const say = (answer) => { console.log(answer); process.exit(0); };
  setTimeout(() => say('silence'), 400);
  if (kind === 'tcp') {
    require('net').connect({ host: to, port: ${port}, localAddress: from })
      .on('data', () => say('answer')).on('error', (error) => say(error.code));
  } else {
    const socket = require('dgram').createSocket('udp' + family);
    socket.on('message', () => say('answer')).bind(0, from, () => socket.send('x', ${port}, to));
  }
`;

async function build(bpffsMode: number): Promise<Net> {
  const lab = openLab({ bpffsMode });
  const [edge, outside] = [lab.namespace('e'), lab.namespace('x')];
  lab.veth(
    // A router asks for neighbours from its link-local address, which the lab's quiet interfaces do not make themselves.
    { namespace: edge, name: uplink, exact: true, addresses: [`${here[4]}/24`, `${here[6]}/64`, 'fe80::1/64'] },
    {
      namespace: outside,
      name: 'x0',
      exact: true,
      addresses: [attacker, neighbour].flatMap((who) => [`${who[4]}/24`, `${who[6]}/64`]),
    },
  );
  await answering(lab, edge);
  return { lab, edge, outside };
}

async function answering(lab: Lab, namespace: string): Promise<ChildProcess> {
  const server = lab.spawn(namespace, [process.execPath, '-e', echo], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise<void>((resolve, reject) => {
    server.stdout?.once('data', () => resolve());
    server.once('close', () => reject(new Error('the server ended')));
  });
  return server;
}

type Protocol = 'ping' | 'tcp' | 'udp';
const protocols: readonly Protocol[] = ['ping', 'tcp', 'udp'];

async function reaches(
  net: Net,
  protocol: Protocol,
  family: 4 | 6,
  from: string,
  to: string = here[family],
): Promise<boolean> {
  const child = net.lab.spawn(
    net.outside,
    protocol === 'ping'
      ? ['ping', '-c', '1', '-W', '0.4', '-I', from, to]
      : [process.execPath, '-e', ask, protocol, `${family}`, from, to],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let said = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  await new Promise((resolve) => child.once('close', resolve));
  return protocol === 'ping' ? child.exitCode === 0 : said.trim() === 'answer';
}

/** Which protocols of which families get through, all tried at once. */
async function through(net: Net, from: Record<4 | 6, string>, to: Record<4 | 6, string> = here): Promise<string[]> {
  const attempts = families.flatMap((family) =>
    protocols.map(async (protocol) =>
      (await reaches(net, protocol, family, from[family], to[family])) ? [`${protocol} IPv${family}`] : [],
    ),
  );
  return (await Promise.all(attempts)).flat();
}

const everything = families.flatMap((family) => protocols.map((protocol) => `${protocol} IPv${family}`));
/** All of it gets through: tried again, for on a loaded machine an answer may take longer than one try. */
const all = (tried: () => Promise<string[]>): Promise<void> =>
  until('everything to get through', async () => (await tried()).length === everything.length);
const hand = (target: string | Prefix, seconds: number | null) =>
  ({
    target: typeof target === 'string' ? parsePrefix(target) : target,
    owner: 'hand',
    mode: 'enforce',
    seconds,
    cause: byTest,
  }) as const;

describe.each([
  ['native', '755'],
  ['generic', '755'],
  ['native', '700'],
] as const)('%s, pins below a bpffs of mode %s', (mode, bpffsMode) => {
  let net: Net;
  let list: Blocklist;
  beforeAll(async () => {
    net = await build(Number.parseInt(bpffsMode, 8));
    await all(() => through(net, attacker));
    // The process that attaches ends at once: whatever is dropped below is dropped without it.
    const [outcome] = net.lab.attach(net.edge, [uplink], { mode, sizes: { addresses: 64, prefixes: 64 } });
    expect(outcome?.attachment.mode).toBe(mode);
    list = Blocklist.open(net.lab.pinDir);
  });
  afterAll(async () => {
    list.close();
    await net.lab.close();
  });

  it('before, during and after a block', async () => {
    await all(() => through(net, attacker));
    for (const family of families) await list.block(hand(attacker[family], null));
    expect(await through(net, attacker)).toEqual([]);
    await all(() => through(net, neighbour));
    for (const family of families) {
      const [entry] = list.covering(parsePrefix(attacker[family]));
      expect(entry?.packets).toBeGreaterThanOrEqual(3);
      expect(entry?.lastSeenSecondsAgo).toBeLessThan(60);
      await list.unblock(parsePrefix(attacker[family]), { cause: byTest });
    }
    await all(() => through(net, attacker));
  });

  it('of a prefix', async () => {
    await list.block(hand('198.51.100.64/26', null));
    await list.block(hand('2001:db8:1::66/127', null));
    expect(await through(net, attacker)).toEqual([]);
    expect(await through(net, neighbour)).toEqual([]);
    expect(readCounters(list.set, 0).DROP_PREFIX.packets).toBeGreaterThanOrEqual(6);
    await list.unblock(parsePrefix('198.51.100.64/26'), { cause: byTest });
    await list.unblock(parsePrefix('2001:db8:1::66/127'), { cause: byTest });
    await all(() => through(net, attacker));
  });

  it('monitor counts and lets through', async () => {
    for (const family of families) await list.block({ ...hand(attacker[family], null), mode: 'monitor' });
    await all(() => through(net, attacker));
    for (const family of families) {
      expect(list.covering(parsePrefix(attacker[family]))[0]).toMatchObject({ state: 'monitor' });
      expect(list.covering(parsePrefix(attacker[family]))[0]?.packets).toBeGreaterThanOrEqual(3);
      await list.unblock(parsePrefix(attacker[family]), { cause: byTest });
    }
  });

  it('of two seconds ends after two seconds', async () => {
    const begin = performance.now();
    await list.block(hand(attacker[4], 2));
    const blocked = performance.now();
    let last = begin;
    expect(await reaches(net, 'ping', 4, attacker[4])).toBe(false);
    await until('a packet to get through', () => {
      last = performance.now();
      return reaches(net, 'ping', 4, attacker[4]);
    });
    const now = performance.now();
    // The packet that got through left after `last` and was answered before `now`; the kernel's clock is a tick coarse.
    expect(now - begin).toBeGreaterThanOrEqual(2000);
    expect(last - blocked).toBeLessThan(2000 + 400);
    expect(list.covering(parsePrefix(attacker[4]))[0]?.state).toBe('ended');
    expect(await list.reap()).toBe(1);
  });

  it('goes on when the process that blocked is killed', async () => {
    const script = `
      import { Blocklist } from '${new URL('../../src/blocklist/blocklist.ts', import.meta.url).pathname}';
      import { parsePrefix } from '${new URL('../../src/address/prefix.ts', import.meta.url).pathname}';
      const list = Blocklist.open(${JSON.stringify(net.lab.pinDir)});
      list.blockAtOnce({ target: parsePrefix('${attacker[4]}'), owner: 'policy:x', mode: 'enforce', seconds: 600, cause: { kind: 'adopted', name: null, hand: null, reason: null } });
      console.log('blocked');
      setInterval(() => {}, 1000);
    `;
    const child = net.lab.spawn(null, [process.execPath, '--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    child.kill('SIGKILL');
    await ended(child);
    expect(await through(net, attacker)).toEqual(everything.filter((name) => name.endsWith('IPv6')));
    await list.unblock(parsePrefix(attacker[4]), { cause: byTest });
  });
});

describe('containers behind a bridge of the host', () => {
  const container = { 4: '10.88.0.2', 6: '2001:db8:88::2' } as const;
  let net: Net;
  let inside: string;
  let list: Blocklist;
  beforeAll(async () => {
    net = await build(0o755);
    const { lab, edge, outside } = net;
    inside = lab.namespace('c');
    lab.exec(edge, 'ip', 'link', 'add', 'br0', 'type', 'bridge');
    lab.exec(edge, 'ip', 'addr', 'add', '10.88.0.1/24', 'dev', 'br0');
    lab.exec(edge, 'ip', 'addr', 'add', '2001:db8:88::1/64', 'dev', 'br0', 'nodad');
    lab.exec(edge, 'ip', 'link', 'set', 'br0', 'up');
    lab.veth(
      { namespace: edge, name: 'c0', exact: true },
      { namespace: inside, name: 'eth0', exact: true, addresses: [`${container[4]}/24`, `${container[6]}/64`] },
    );
    lab.exec(edge, 'ip', 'link', 'set', 'c0', 'master', 'br0');
    for (const [namespace, via] of [
      [inside, ['10.88.0.1', '2001:db8:88::1']],
      [outside, [here[4], here[6]]],
    ] as const) {
      for (const gateway of via) lab.exec(namespace, 'ip', 'route', 'add', 'default', 'via', gateway);
    }
    for (const name of ['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding']) {
      lab.exec(edge, 'sysctl', '-qw', `${name}=1`);
    }
    await answering(lab, inside);
    // A bridge's port settles into forwarding.
    await until('the container to be reached', () => reaches(net, 'ping', 6, attacker[6], container[6]));
    lab.attach(edge, [uplink], { mode: 'native', sizes: { addresses: 64, prefixes: 64 } });
    list = Blocklist.open(lab.pinDir);
  });
  afterAll(async () => {
    list.close();
    await net.lab.close();
  });

  const throughTo = (from: Record<4 | 6, string>) => through(net, from, container);

  it('the attacker outside is dropped before the container, which goes on with others', async () => {
    await all(() => throughTo(attacker));
    for (const family of families) await list.block(hand(attacker[family], null));
    expect(await throughTo(attacker)).toEqual([]);
    await all(() => throughTo(neighbour));
    for (const family of families) {
      const ping = (...to: string[]) => net.lab.run(inside, 'ping', '-c', '1', '-W', '0.5', ...to).status;
      expect(ping(neighbour[family])).toBe(0);
      expect(ping(family === 4 ? '10.88.0.1' : '2001:db8:88::1'), 'its own host').toBe(0);
      // What it sends to the attacker leaves; the answer is what is dropped.
      expect(ping(attacker[family])).toBe(1);
    }
    for (const family of families) await list.unblock(parsePrefix(attacker[family]), { cause: byTest });
    await all(() => throughTo(attacker));
  });

  it('the container’s own address blocked at the uplink does not cut it off', async () => {
    for (const family of families) await list.block(hand(container[family], null));
    await all(() => throughTo(neighbour));
    for (const family of families) await list.unblock(parsePrefix(container[family]), { cause: byTest });
  });
});
