import { execFileSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { native, type Route } from '../../src/kernel/native.ts';
import { ending, json, type Lab, openLab, startScript } from './lab.ts';

let lab: Lab;
let veth: ReturnType<Lab['veth']>;
beforeAll(() => {
  lab = openLab();
});
beforeEach(() => {
  veth = lab.veth();
});
afterEach(() => veth.remove());
afterAll(() => lab.close());

function ip(...args: string[]): void {
  execFileSync('ip', args);
}

/**
 * What ip says and what the addon says, of the same moment: ip is asked before and after, until it says the same twice
 * (other processes make and remove interfaces too).
 */
function together<Shown, Found>(shown: () => Shown, found: () => Found): { shown: Shown; found: Found } {
  for (let attempt = 0; attempt < 50; attempt++) {
    const before = shown();
    const pair = { shown: shown(), found: found() };
    const after = shown();
    if (JSON.stringify(before) === JSON.stringify(after)) return pair;
  }
  throw new Error('the tables never held still');
}

interface IpLink {
  readonly ifindex: number;
  readonly ifname: string;
  readonly mtu: number;
  readonly link_type: string;
  readonly master?: string;
  readonly link?: string | null;
  readonly link_index?: number;
  /** There when the other end is in another network namespace. */
  readonly link_netnsid?: number;
  /** In iproute2's numbers: 1 native, 2 generic. */
  readonly xdp?: { readonly mode: number; readonly prog?: { readonly id: number } };
  readonly linkinfo?: { readonly info_kind?: string };
  readonly num_tx_queues: number;
  readonly num_rx_queues: number;
}

const xdpModes = ['none', 'native', 'generic', 'offload', 'multi'];

test('links are those of ip', () => {
  const bridge = `fd${process.pid}r`;
  ip('link', 'add', bridge, 'type', 'bridge');
  try {
    ip('link', 'set', veth.b, 'master', bridge);
    const { shown, found: links } = together(
      () => json<IpLink[]>('ip', '-d', '-j', 'link', 'show'),
      () => native().netlink.links(),
    );
    const indexOf = (name: string | null | undefined) => shown.find((link) => link.ifname === name)?.ifindex ?? 0;
    expect(links.map((link) => link.ifindex)).toEqual(shown.map((link) => link.ifindex));
    for (const link of shown)
      expect(links.find((other) => other.ifindex === link.ifindex)).toMatchObject({
        name: link.ifname,
        mtu: link.mtu,
        kind: link.linkinfo?.info_kind ?? null,
        master: indexOf(link.master),
        lower: link.link_index ?? indexOf(link.link),
        lowerElsewhere: link.link_netnsid !== undefined,
        txQueues: link.num_tx_queues,
        rxQueues: link.num_rx_queues,
        xdp: { mode: xdpModes[link.xdp?.mode ?? 0], programId: link.xdp?.prog?.id ?? 0 },
      });
    const named = (name: string) => links.find((link) => link.name === name);
    expect(named(veth.b)).toMatchObject({ kind: 'veth', master: indexOf(bridge), type: 1 });
    expect(named(veth.a)).toMatchObject({
      lower: indexOf(veth.b),
      master: 0,
      lowerElsewhere: false,
      xdp: { mode: 'none', programId: 0 },
    });
    expect(named('lo')).toMatchObject({ type: 772, kind: null });
    expect((named(veth.a)?.flags ?? 0) & 1).toBe(1); // IFF_UP
  } finally {
    ip('link', 'del', bridge);
  }
});

test('the far end of a veth in another namespace is marked so', () => {
  const namespace = `fd${process.pid}n`;
  ip('netns', 'add', namespace);
  try {
    ip('link', 'set', veth.b, 'netns', namespace);
    const link = native()
      .netlink.links()
      .find((other) => other.ifindex === veth.ifindex);
    expect(link?.lowerElsewhere).toBe(true);
  } finally {
    veth.remove(); // with its far end; a namespace takes its devices along some time after it is gone
    ip('netns', 'del', namespace);
  }
});

interface IpAddress {
  readonly ifindex: number;
  readonly addr_info: {
    readonly family: string;
    readonly local: string;
    readonly prefixlen: number;
    readonly scope: string;
  }[];
}

const scopes: Record<string, number> = { global: 0, universe: 0, site: 200, link: 253, host: 254, nowhere: 255 };

function text(address: Buffer): string {
  if (address.length === 4) return address.join('.');
  const groups = Array.from({ length: 8 }, (_, at) => address.readUInt16BE(at * 2).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

/** ip's spelling of an IPv6 address in ours. */
function canonical(address: string): string {
  return address.includes(':') ? new URL(`http://[${address}]`).hostname.slice(1, -1) : address;
}

test('addresses are those of ip; on a point-to-point address the local end', () => {
  ip('address', 'add', '198.51.100.77/25', 'dev', veth.a);
  ip('address', 'add', '198.51.100.201', 'peer', '198.51.100.202/32', 'dev', veth.a);
  ip('address', 'add', '2001:db8::77/64', 'dev', veth.a, 'nodad');
  const { shown, found } = together(
    () =>
      json<IpAddress[]>('ip', '-j', 'address', 'show').flatMap((link) =>
        link.addr_info.map((address) =>
          [
            link.ifindex,
            address.family === 'inet' ? 4 : 6,
            canonical(address.local),
            address.prefixlen,
            scopes[address.scope],
          ].join(' '),
        ),
      ),
    () =>
      native()
        .netlink.addresses()
        .map((address) =>
          [address.ifindex, address.family, text(address.address), address.prefixLength, address.scope].join(' '),
        ),
  );
  expect(found.toSorted()).toEqual(shown.toSorted());
  expect(found).toContain(`${veth.ifindex} 4 198.51.100.201 32 0`);
});

interface IpRoute {
  readonly type?: string;
  readonly dst: string;
  readonly table?: string;
  readonly scope?: string;
  readonly dev?: string;
  readonly gateway?: string;
  readonly via?: { readonly host: string };
  readonly nexthops?: { readonly dev: string; readonly gateway?: string; readonly via?: { readonly host: string } }[];
}

const types: Record<string, number> = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
};

/** One line a route, as ip prints it: what both sides say. */
function lines(family: 4 | 6): string[] {
  const indexes = new Map(json<IpLink[]>('ip', '-j', 'link', 'show').map((link) => [link.ifname, link.ifindex]));
  const tables: Record<string, number> = { default: 253, main: 254, local: 255 };
  return json<IpRoute[]>('ip', '-j', '-details', family === 4 ? '-4' : '-6', 'route', 'show', 'table', 'all').map(
    (route) => {
      const [address = '', length] =
        route.dst === 'default' ? [family === 4 ? '0.0.0.0' : '::', '0'] : route.dst.split('/');
      const hops = route.nexthops ?? (route.dev === undefined ? [] : [{ ...route, dev: route.dev }]);
      const table = route.table === undefined ? 254 : (tables[route.table] ?? Number(route.table));
      return [
        types[route.type ?? 'unicast'],
        canonical(address),
        length ?? (family === 4 ? 32 : 128),
        table,
        ...hops.map((hop) => `${indexes.get(hop.dev)}>${canonical(hop.gateway ?? hop.via?.host ?? '-')}`),
      ].join(' ');
    },
  );
}

function line(route: Route): string {
  return [
    route.type,
    text(route.destination),
    route.prefixLength,
    route.table,
    ...route.nextHops.map((hop) => `${hop.ifindex}>${hop.gateway === null ? '-' : text(hop.gateway)}`),
  ].join(' ');
}

/** Tables above 255 that no rule asks: what is put there reaches no packet. */
const table = (number: number) => ['table', String(number)];

test('routes of all tables and both families are those of ip', () => {
  const hop = (gateway: string) => ['nexthop', 'via', gateway, 'dev', veth.a];
  ip('address', 'add', '198.51.100.77/25', 'dev', veth.a);
  ip('address', 'add', '2001:db8::77/64', 'dev', veth.a, 'nodad');
  ip('route', 'add', '203.0.113.0/24', 'via', '198.51.100.1', 'dev', veth.a, ...table(1000));
  ip('route', 'add', 'default', 'via', '198.51.100.2', 'dev', veth.a, ...table(77));
  ip('route', 'add', '203.0.113.128/25', ...table(1000), ...hop('198.51.100.1'), ...hop('198.51.100.3'));
  ip('route', 'add', '100.64.0.0/10', 'via', 'inet6', '2001:db8::1', 'dev', veth.a, ...table(1000));
  ip('-6', 'route', 'add', '2001:db8:1::/48', 'via', '2001:db8::1', 'dev', veth.a, ...table(1000));
  ip('-6', 'route', 'add', '2001:db8:2::/48', ...table(1000), ...hop('2001:db8::2'), ...hop('2001:db8::3'));
  // without a device of ours, these do not go with the veth
  ip('route', 'add', 'local', '198.18.0.0/15', 'dev', 'lo', ...table(1001)); // AnyIP
  ip('route', 'add', 'blackhole', '192.0.0.0/29', ...table(1002));
  try {
    const { shown, found } = together(
      () => [...lines(4), ...lines(6)],
      () => native().netlink.routes(),
    );
    const all = found.map(line);
    expect(all.toSorted()).toEqual(shown.toSorted());
    expect(found.every((route) => route.destination.length === (route.family === 4 ? 4 : 16))).toBe(true);
    expect(all).toContain(`1 0.0.0.0 0 77 ${veth.ifindex}>198.51.100.2`);
    expect(all).toContain(`1 203.0.113.128 25 1000 ${veth.ifindex}>198.51.100.1 ${veth.ifindex}>198.51.100.3`);
    expect(all).toContain(`1 100.64.0.0 10 1000 ${veth.ifindex}>2001:db8::1`);
    expect(all).toContain('2 198.18.0.0 15 1001 1>-');
    expect(all).toContain('6 192.0.0.0 29 1002');
    expect(all).toContain(`1 2001:db8:2:: 48 1000 ${veth.ifindex}>2001:db8::2 ${veth.ifindex}>2001:db8::3`);
  } finally {
    ip('route', 'flush', ...table(1001));
    ip('route', 'flush', ...table(1002));
  }
});

test('a table of thousands of routes comes whole', () => {
  const batch = Array.from(
    { length: 5000 },
    (_, at) => `route add 10.${at >> 8}.${at & 255}.0/24 dev ${veth.a} table 1003\n`,
  );
  execFileSync('ip', ['-batch', '-'], { input: batch.join('') });
  const found = native()
    .netlink.routes()
    .filter((route) => route.table === 1003);
  expect(new Set(found.map(line)).size).toBe(5000);
});

test('watch calls back after links, addresses and routes changed; once for many; not after close()', async () => {
  let calls = 0;
  let heard = () => {};
  const watch = native().netlink.watch(() => {
    calls++;
    heard();
  });
  // The watch does not keep the loop alive; this test does.
  const alive = setInterval(() => {}, 1000);
  try {
    for (const change of [
      ['link', 'set', veth.a, 'mtu', '1400'],
      ['address', 'add', '198.51.100.88/25', 'dev', veth.a],
      ['route', 'add', '203.0.113.0/24', 'dev', veth.a, ...table(1000)],
      ['-6', 'address', 'add', '2001:db8::88/64', 'dev', veth.a, 'nodad'],
      ['-6', 'route', 'add', '2001:db8:3::/48', 'dev', veth.a, ...table(1000)],
    ]) {
      const next = new Promise<void>((resolve) => {
        heard = resolve;
      });
      ip(...change);
      await next;
    }
    const before = calls;
    const next = new Promise<void>((resolve) => {
      heard = resolve;
    });
    const batch = Array.from({ length: 100 }, (_, at) => `route add 10.0.${at}.0/24 dev ${veth.a} table 1003\n`);
    execFileSync('ip', ['-batch', '-'], { input: batch.join('') });
    await next;
    expect(calls - before).toBeLessThan(10);
    watch.close();
    watch.close();
    const after = calls;
    ip('link', 'set', veth.a, 'mtu', '1300');
    await new Promise((resolve) => setImmediate(resolve));
    expect(calls).toBe(after);
  } finally {
    clearInterval(alive);
    watch.close();
  }
});

test('after events were lost to a full socket it goes on; what the callback throws is uncaught', async () => {
  const result = await ending(startScript('watch.ts', [veth.a]));
  expect(result).toMatchObject({ code: 0, signal: null, stderr: '' });
  expect(result.stdout.split('\n')).toEqual(['overrun', 'uncaught from the watch', '']);
});
