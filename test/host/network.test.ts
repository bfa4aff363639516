import { describe, expect, test } from 'vitest';
import { parseAddress } from '../../src/address/address.ts';
import { parsePrefix } from '../../src/address/prefix.ts';
import { type Dumps, interfaceOf, sessionInterfaces } from '../../src/host/carrier.ts';
import { containerPrefixes } from '../../src/host/containers.ts';
import { gatewayPrefixes } from '../../src/host/gateways.ts';
import { hostNames } from '../../src/host/names.ts';
import { broadcastPrefixes, ownPrefixes } from '../../src/host/own.ts';
import { packPrefixes, unpackPrefixes } from '../../src/host/packed.ts';
import type { InterfaceAddress, Link, Route } from '../../src/kernel/native.ts';
import { address, link, lo, local, route, texts } from './links.ts';

const always = ['0.0.0.0', '127.0.0.0/8', '::', '::1'];

describe('own addresses', () => {
  test.each<[string, InterfaceAddress[], Route[], string[]]>([
    ['nothing is up', [], [], []],
    ['an interface', [address('192.0.2.2', 2)], [local('192.0.2.2', 2)], ['192.0.2.2']],
    ['no carrier: the route alone', [], [local('192.0.2.2', 2)], ['192.0.2.2']],
    ['tentative: the address alone', [address('2001:db8::2', 2, 64)], [], ['2001:db8::2']],
    ['AnyIP', [], [local('198.18.0.0/24'), local('2001:db8:a::/48')], ['198.18.0.0/24', '2001:db8:a::/48']],
    ['a VRF has a table of its own', [], [local('10.9.0.1', 7, 1001)], ['10.9.0.1']],
    ['v4-mapped', [], [local('::ffff:192.0.2.7')], ['192.0.2.7']],
    [
      'a transparent proxy is not the whole Internet',
      [],
      [local('0.0.0.0/0', 1, 100), local('::/0', 1, 100), local('0.0.0.0/1', 1, 100), local('128.0.0.0/1', 1, 100)],
      [],
    ],
    [
      'what is not local',
      [],
      [route('198.51.100.0/24', [[null, 2]]), route('192.0.2.255', [[null, 2]], { type: 'broadcast' })],
      [],
    ],
  ])('%s', (_name, addresses, routes, own) => {
    expect(texts(ownPrefixes(addresses, routes))).toEqual([...always, ...own].toSorted());
  });

  test('broadcast addresses', () => {
    const routes = [
      route('192.0.2.255', [[null, 2]], { type: 'broadcast', table: 255 }),
      route('192.0.2.255', [[null, 3]], { type: 'broadcast', table: 255 }),
      local('192.0.2.2', 2),
    ];
    expect(texts(broadcastPrefixes(routes))).toEqual(['192.0.2.255']);
  });
});

describe('container prefixes', () => {
  const eth0 = link(2, 'eth0', null);
  const docker0 = link(3, 'docker0', 'bridge');
  const port = (ifindex: number, master: number, rest: Partial<Link> = {}) =>
    link(ifindex, `veth${ifindex}`, 'veth', { master, lower: 1, lowerElsewhere: true, ...rest });
  const uplink = route('0.0.0.0/0', [['192.0.2.1', 2]]);
  const lan = route('192.0.2.0/24', [[null, 2]]);
  const bridged = route('172.17.0.0/16', [[null, 3]]);

  test.each<[string, Link[], Route[], number[], string[]]>([
    ["docker's bridge", [lo, eth0, docker0, port(4, 3)], [uplink, lan, bridged], [], ['172.17.0.0/16']],
    ["docker's bridge without a container", [lo, eth0, docker0], [uplink, lan, bridged], [], ['172.17.0.0/16']],
    [
      'both families',
      [eth0, docker0],
      [uplink, bridged, route('fd17::/64', [[null, 3]])],
      [],
      ['172.17.0.0/16', 'fd17::/64'],
    ],
    [
      'the bridge in a table of its own',
      [eth0, docker0],
      [uplink, route('172.18.0.0/16', [[null, 3]], { table: 77 })],
      [],
      ['172.18.0.0/16'],
    ],
    [
      'link-local neighbours are not containers',
      [eth0, docker0],
      [route('fe80::/64', [[null, 3]]), route('169.254.0.0/16', [[null, 3]])],
      [],
      [],
    ],
    ['multicast of the local table', [docker0], [route('ff00::/8', [[null, 3]], { table: 255 })], [], []],
    ['behind a gateway', [eth0, docker0], [uplink, route('10.1.0.0/16', [['172.17.0.5', 3]])], [], []],
    ['attached by us', [eth0, docker0], [uplink, bridged], [3], []],
    [
      'a bridge that carries the default route',
      [docker0, port(4, 3)],
      [route('0.0.0.0/0', [['172.17.0.1', 3]]), bridged],
      [],
      [],
    ],
    [
      'the default route of another table',
      [docker0],
      [route('::/0', [['fe80::1', 3]], { table: 100 }), bridged],
      [],
      [],
    ],
    ["a VPN's halves of the default route", [docker0], [route('128.0.0.0/1', [['172.17.0.1', 3]]), bridged], [], []],
    [
      'a multipath default route',
      [eth0, docker0],
      [
        route('0.0.0.0/0', [
          ['192.0.2.1', 2],
          ['172.17.0.1', 3],
        ]),
        bridged,
      ],
      [],
      [],
    ],
    ['br0 with the network card in it', [lo, { ...eth0, master: 3 }, docker0], [bridged], [], []],
    [
      'br0 with a bond of cards in it',
      [{ ...eth0, master: 5 }, link(5, 'bond0', 'bond', { master: 3 }), docker0],
      [bridged],
      [],
      [],
    ],
    [
      'br0 with a VLAN of the card in it',
      [eth0, link(5, 'eth0.7', 'vlan', { master: 3, lower: 2 }), docker0],
      [bridged],
      [],
      [],
    ],
    ['br0 with an attached veth in it', [eth0, docker0, port(4, 3)], [uplink, bridged], [4], []],
    [
      'br0 with virtual machines',
      [eth0, docker0, link(5, 'vnet0', 'tun', { master: 3 })],
      [uplink, bridged],
      [],
      ['172.17.0.0/16'],
    ],
    ['a veth to each container', [eth0, port(6, 0)], [uplink, route('10.244.1.5', [[null, 6]])], [], ['10.244.1.5']],
    [
      'the veth that is a lab host’s uplink',
      [lo, port(6, 0)],
      [route('0.0.0.0/0', [['10.0.0.1', 6]]), route('10.0.0.0/24', [[null, 6]])],
      [],
      [],
    ],
    ['the same, attached', [lo, port(6, 0)], [route('203.0.113.0/24', [[null, 6]])], [6], []],
    ['a physical network', [eth0], [lan], [], []],
    ['a tunnel', [link(8, 'wg0', 'wireguard', { type: 65_534 })], [route('10.8.0.0/24', [[null, 8]])], [], []],
    ['a blackhole', [docker0], [route('172.17.0.0/16', [[null, 3]], { type: 'blackhole' })], [], []],
    [
      'bridges that are ports of each other',
      [link(3, 'a', 'bridge', { master: 4 }), link(4, 'b', 'bridge', { master: 3 })],
      [bridged],
      [],
      ['172.17.0.0/16'],
    ],
  ])('%s', (_name, links, routes, attached, prefixes) => {
    expect(texts(containerPrefixes(links, routes, new Set(attached)))).toEqual(prefixes);
  });
});

describe('gateways', () => {
  test.each<[string, Route[], string[]]>([
    ['none', [route('192.0.2.0/24', [[null, 2]])], []],
    [
      'the default one',
      [route('0.0.0.0/0', [['192.0.2.1', 2]]), route('::/0', [['fe80::1', 2]])],
      ['192.0.2.1', 'fe80::1'],
    ],
    ['another table, another destination', [route('10.0.0.0/8', [['192.0.2.9', 2]], { table: 1001 })], ['192.0.2.9']],
    [
      'multipath',
      [
        route('0.0.0.0/0', [
          ['192.0.2.1', 2],
          ['198.51.100.1', 3],
        ]),
      ],
      ['192.0.2.1', '198.51.100.1'],
    ],
    ['RTA_VIA', [route('0.0.0.0/0', [['fe80::5', 2]])], ['fe80::5']],
    ['each once', [route('10.0.0.0/8', [['192.0.2.1', 2]]), route('11.0.0.0/8', [['192.0.2.1', 2]])], ['192.0.2.1']],
    ['not of a local route', [local('192.0.2.2')], []],
  ])('%s', (_name, routes, gateways) => {
    expect(texts(gatewayPrefixes(routes))).toEqual(gateways);
  });
});

test('names: the whole one and aliases, in lower case; never a part of one, which may be another host', () => {
  expect([...hostNames(['Web.Example.NET', ''], 'Edge-1.example.org')].toSorted()).toEqual([
    'edge-1.example.org',
    'web.example.net',
  ]);
});

test('packed prefixes unpack to the same', () => {
  const prefixes = ['0.0.0.0/0', '192.0.2.1', '10.0.0.0/8', '::', '2001:db8::/32', 'fe80::1'].map(parsePrefix);
  expect(texts(unpackPrefixes(packPrefixes(prefixes)))).toEqual(texts(prefixes));
  expect(unpackPrefixes(packPrefixes([]))).toEqual([]);
});

describe('the interface that carries an address', () => {
  const links = [
    lo,
    link(2, 'eth0', null, { master: 4 }),
    link(3, 'eth1', null),
    link(4, 'br0', 'bridge'),
    link(5, 'eth1.7', 'vlan', { lower: 3 }),
  ];
  const dumps: Dumps = {
    links,
    addresses: [
      address('127.0.0.1', 1, 8),
      address('192.0.2.2', 4),
      address('198.51.100.2', 5),
      address('203.0.113.9', 1, 32),
    ],
    routes: [
      route('0.0.0.0/0', [['192.0.2.1', 4]]),
      route('192.0.2.0/24', [[null, 4]]),
      route('198.51.100.0/24', [[null, 5]]),
      route('198.51.0.0/16', [[null, 5]], { table: 100 }),
    ],
  };
  test.each([
    ['192.0.2.2', 'br0'],
    ['198.51.100.2', 'eth1.7'],
    ['198.51.100.77', 'eth1.7'],
    ['8.8.8.8', 'br0'],
    ['198.51.7.7', 'br0'],
    ['127.0.0.1', null],
    ['203.0.113.9', null],
    ['2001:db8::1', null],
  ])('%s: %s', (text, name) => {
    expect(interfaceOf(parseAddress(text), dumps)?.name ?? null).toBe(name);
  });

  test.each([
    ['the card in the bridge', '8.8.8.8', '192.0.2.2', ['br0', 'eth0']],
    ['the card below the VLAN', '198.51.100.7', '198.51.100.2', ['eth1', 'eth1.7']],
    ['in by one, out by another', '8.8.8.8', '198.51.100.2', ['br0', 'eth0', 'eth1', 'eth1.7']],
    ['a service address: the way out', '8.8.8.8', '203.0.113.9', ['br0', 'eth0']],
    ['on this host itself', '127.0.0.1', '127.0.0.1', []],
  ])('a session: %s', (_name, client, server, names) => {
    const caller = { client: parseAddress(client), server: parseAddress(server) };
    expect(
      sessionInterfaces(caller, dumps)
        .map(({ name }) => name)
        .toSorted(),
    ).toEqual(names);
  });
});
