import { describe, expect, test } from 'vitest';
import { coverage } from '../../src/cli/coverage.ts';
import type { InterfaceAddress, Link, Route } from '../../src/kernel/native.ts';

const link = (ifindex: number, name: string, more: Partial<Link> = {}): Link => ({
  ifindex,
  name,
  flags: 1,
  type: 1,
  mtu: 1500,
  kind: null,
  master: 0,
  lower: 0,
  lowerElsewhere: false,
  txQueues: 1,
  rxQueues: 1,
  xdp: { mode: 'none', programId: 0 },
  ...more,
});

const address = (ifindex: number, scope = 0): InterfaceAddress => ({
  ifindex,
  family: 4,
  address: Buffer.from([192, 0, 2, ifindex]),
  prefixLength: 24,
  scope,
});

const route = (ifindex: number, destination: readonly number[], prefixLength: number): Route => ({
  family: 4,
  type: 1,
  table: 254,
  destination: Buffer.from(destination),
  prefixLength,
  scope: 253,
  nextHops: [{ ifindex, gateway: prefixLength === 0 ? Buffer.from([192, 0, 2, 254]) : null }],
});

interface Case {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  readonly routes?: readonly Route[];
  readonly attached?: readonly number[];
}

const lo = link(1, 'lo', { flags: 9, type: 772 });
const eth0 = link(2, 'eth0');

describe('coverage', () => {
  test.each<[string, Case, (readonly [name: string, covered: boolean, reason: string, ...through: string[]])[]]>([
    [
      'attached',
      { links: [lo, eth0], addresses: [address(1), address(2)], attached: [2] },
      [['eth0', true, 'attached']],
    ],
    ['not attached', { links: [eth0], addresses: [address(2)] }, [['eth0', false, 'not_attached']]],
    ['no global address', { links: [eth0], addresses: [address(2, 253)] }, []],
    [
      'a default route alone',
      { links: [eth0], addresses: [], routes: [route(2, [0, 0, 0, 0], 0)] },
      [['eth0', false, 'not_attached']],
    ],
    [
      'a VLAN above what is attached',
      { links: [eth0, link(3, 'eth0.7', { kind: 'vlan', lower: 2 })], addresses: [address(3)], attached: [2] },
      [['eth0.7', true, 'lower_attached', 'eth0']],
    ],
    [
      'a VLAN above what is not',
      { links: [eth0, link(3, 'eth0.7', { kind: 'vlan', lower: 2 })], addresses: [address(3)] },
      [['eth0.7', false, 'not_attached', 'eth0']],
    ],
    [
      'a bond with one port attached',
      {
        links: [link(2, 'eth0', { master: 4 }), link(3, 'eth1', { master: 4 }), link(4, 'bond0', { kind: 'bond' })],
        addresses: [address(4)],
        attached: [2],
      },
      [['bond0', false, 'ports_partly_attached', 'eth1']],
    ],
    [
      'a bond with both',
      {
        links: [link(2, 'eth0', { master: 4 }), link(3, 'eth1', { master: 4 }), link(4, 'bond0', { kind: 'bond' })],
        addresses: [address(4)],
        attached: [2, 3],
      },
      [['bond0', true, 'lower_attached', 'eth0', 'eth1']],
    ],
    [
      'a VLAN over an attached bond',
      {
        links: [
          link(2, 'eth0', { master: 4 }),
          link(3, 'eth1', { master: 4 }),
          link(4, 'bond0', { kind: 'bond' }),
          link(5, 'bond0.9', { kind: 'vlan', lower: 4 }),
        ],
        addresses: [address(5)],
        attached: [4],
      },
      [['bond0.9', true, 'lower_attached', 'eth0', 'eth1']],
    ],
    [
      'a bridge over the card, with a container on it',
      {
        links: [
          link(2, 'eth0', { master: 4 }),
          link(3, 'veth1', { kind: 'veth', master: 4, lower: 9, lowerElsewhere: true }),
          link(4, 'br0', { kind: 'bridge' }),
        ],
        addresses: [address(4)],
        routes: [route(4, [0, 0, 0, 0], 0)],
        attached: [2],
      },
      [['br0', true, 'lower_attached', 'eth0']],
    ],
    [
      "docker's bridge",
      {
        links: [
          link(3, 'veth1', { kind: 'veth', master: 4, lower: 9, lowerElsewhere: true }),
          link(4, 'docker0', { kind: 'bridge' }),
        ],
        addresses: [address(4)],
        routes: [route(4, [172, 17, 0, 0], 16)],
      },
      [['docker0', false, 'containers']],
    ],
    [
      'a port of what is attached',
      {
        links: [link(2, 'eth0', { master: 4 }), link(4, 'bond0', { kind: 'bond' })],
        addresses: [address(2)],
        attached: [4],
      },
      [['eth0', true, 'master_attached', 'bond0']],
    ],
    [
      'no Ethernet header',
      { links: [link(3, 'wg0', { type: 65534, kind: 'wireguard' })], addresses: [address(3)] },
      [['wg0', false, 'no_ethernet_header']],
    ],
    [
      'an uplink that is a veth',
      {
        links: [link(3, 'up0', { kind: 'veth', lower: 9, lowerElsewhere: true })],
        addresses: [address(3)],
        routes: [route(3, [0, 0, 0, 0], 0), route(3, [192, 0, 2, 0], 24)],
        attached: [3],
      },
      [['up0', true, 'attached']],
    ],
  ])('%s', (_, { links, addresses, routes = [], attached = [] }, expected) => {
    const found = coverage({ links, addresses, routes }, new Set(attached));
    expect(found.map(({ name, covered, reason, through }) => [name, covered, reason, ...through])).toEqual(expected);
  });
});
