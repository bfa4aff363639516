/** Hosts and alerts made up for tests. */
import { parsePrefix } from '../../src/address/prefix.ts';
import { type PrefixSet, prefixSet } from '../../src/address/set.ts';
import type { Alert } from '../../src/alert/alert.ts';
import type { HostFacts } from '../../src/judge/host-facts.ts';

export const setOf = (...texts: readonly string[]): PrefixSet => prefixSet(texts.map(parsePrefix));

/** A host of which nothing is known. */
export const bareHost: HostFacts = {
  names: null,
  own: setOf(),
  containers: setOf(),
  broadcasts: setOf(),
  gateways: setOf(),
  resolvers: setOf(),
  sessions: setOf(),
};

/**
 * An edge host: two public addresses, docker's bridge for both families, a LAN behind it with the gateway and a
 * resolver, somebody logged in from 192.0.2.200.
 */
export const edge: HostFacts = {
  names: new Set(['edge-1', 'edge-1.example.org', '8c1f3a2b9d4e']),
  own: setOf(
    '203.0.113.10',
    '2001:db8:1::10',
    '10.9.0.10',
    '172.17.0.1',
    'fe80::10',
    '127.0.0.0/8',
    '::1',
    '0.0.0.0',
    '::',
  ),
  containers: setOf('172.17.0.0/16', 'fd00:17::/64'),
  broadcasts: setOf('203.0.113.255'),
  gateways: setOf('203.0.113.1', 'fe80::1', '2001:db8:1::1'),
  resolvers: setOf('9.9.9.9', '2620:fe::fe', '10.9.0.53'),
  sessions: setOf('192.0.2.200'),
};

export function alertWith(fields: Alert['fields'], more: Partial<Alert> = {}): Alert {
  return {
    timeNs: 1_795_292_155_000_000_000n,
    rule: 'Some Rule',
    priority: 'Notice',
    source: 'syscall',
    hostname: 'edge-1',
    tags: ['network'],
    uuid: null,
    output: '',
    fields,
    origin: 'local',
    ...more,
  };
}

/** The made-up alerts' time, milliseconds since 1970. */
export const alertTimeMs = 1_795_292_155_000;
