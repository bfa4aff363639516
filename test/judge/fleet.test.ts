/** Alerts of other hosts: taken only from who may speak for them, and never judged with this host's addresses. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatAddress } from '../../src/address/address.ts';
import type { Alert } from '../../src/alert/alert.ts';
import { sourceOf } from '../../src/alert/source.ts';
import type { HostFacts } from '../../src/judge/host-facts.ts';
import { type Decision, defaultRules, glimpse, judge, whoseAlert } from '../../src/judge/judge.ts';
import { alertTimeMs, alertWith, edge, setOf } from './host.ts';

const armed = { automatic: 'enforce' } as const;
const fleet = sourceOf('topic', { remote: true, fleetHosts: ['Edge-2', 'edge-3'] });
const central = sourceOf('central', { remote: true });
const plain = sourceOf('http');

const of = (fields: Readonly<Record<string, unknown>>, more: Partial<Alert> = {}): Alert =>
  alertWith(
    { 'fd.type': 'ipv4', 'fd.l4proto': 'tcp', ...fields },
    { rule: 'Connection to Canary Port', hostname: 'edge-2', ...more },
  );

const decide = (alert: Alert, source = fleet, host: HostFacts = edge): Decision =>
  judge(alert, host, defaultRules, armed, alertTimeMs, source);

const offenderOf = ({ offender }: Decision): string | null => (offender === null ? null : formatAddress(offender));

/** Of edge-2, whose address is 198.51.100.20; 203.0.113.10 is edge-1's, where it is judged. */
const inbound = { 'evt.type': 'accept4', 'fd.name': '192.0.2.66:40000->198.51.100.20:2222' };

describe('whose it is', () => {
  test.each<[string, string | null, Alert['origin'], typeof plain, 'ours' | 'fleet' | 'other']>([
    ['ours, from a plain source', 'edge-1', 'network', plain, 'ours'],
    ['ours, from a remote one', 'EDGE-1', 'network', fleet, 'ours'],
    ['an alias, from a remote one', '8c1f3a2b9d4e', 'network', fleet, 'ours'],
    ['the fleet’s', 'edge-2', 'network', fleet, 'fleet'],
    ['the fleet’s, in other letters', 'EDGE-2', 'local', fleet, 'fleet'],
    ['the fleet’s, from a source that may not say so', 'edge-2', 'network', plain, 'other'],
    ['the fleet’s, from a remote source of no fleet', 'edge-2', 'network', central, 'other'],
    ['a stranger’s', 'edge-4', 'network', fleet, 'other'],
    ['a stranger’s, with a host of the fleet in its name', 'edge-2.example.org', 'network', fleet, 'other'],
    ['nobody’s, from here', null, 'local', plain, 'ours'],
    ['nobody’s, from a file of many hosts', null, 'local', fleet, 'other'],
    ['nobody’s, over the network', null, 'network', fleet, 'other'],
  ])('%s', (_name, hostname, origin, source, whose) => {
    expect(whoseAlert(of(inbound, { hostname, origin }), edge, source)).toBe(whose);
    expect(decide(of(inbound, { hostname, origin }), source).reason).toBe(
      { ours: 'offender', fleet: 'offender', other: 'other_host' }[whose],
    );
  });
});

describe('an alert of the fleet', () => {
  test.each<[string, Readonly<Record<string, unknown>>, reason: string, offender: string | null]>([
    ['accept: the client', inbound, 'offender', '192.0.2.66'],
    ['accept: also without a number', { ...inbound, 'evt.type': 'accept' }, 'offender', '192.0.2.66'],
    [
      'connect: the server',
      { 'evt.type': 'connect', 'fd.name': '198.51.100.20:40000->192.0.2.66:4444' },
      'offender',
      '192.0.2.66',
    ],
    [
      'connect from one of our addresses: there it is somebody’s, and the server is the offender all the same',
      { 'evt.type': 'connect', 'fd.name': '203.0.113.10:40000->192.0.2.66:4444' },
      'offender',
      '192.0.2.66',
    ],
    [
      'connect to us: our guard',
      { 'evt.type': 'connect', 'fd.name': '198.51.100.20:40000->203.0.113.10:22' },
      'own_address',
      '203.0.113.10',
    ],
    [
      'accept from us: our guard, and not the other half',
      { 'evt.type': 'accept4', 'fd.name': '203.0.113.10:40000->198.51.100.20:2222' },
      'own_address',
      '203.0.113.10',
    ],
    [
      'accept from who is logged in here',
      { 'evt.type': 'accept4', 'fd.name': '192.0.2.200:40000->198.51.100.20:2222' },
      'ssh_session',
      '192.0.2.200',
    ],
    [
      'our gateway',
      { 'evt.type': 'accept4', 'fd.name': '203.0.113.1:40000->198.51.100.20:2222' },
      'gateway',
      '203.0.113.1',
    ],
    ['private there', { ...inbound, 'fd.name': '10.1.1.1:40000->10.1.1.2:2222' }, 'private', '10.1.1.1'],
    ['from itself', { ...inbound, 'fd.name': '198.51.100.20:4->198.51.100.20:2222' }, 'own_address', null],
    ['from loopback', { ...inbound, 'fd.name': '127.0.0.1:4->127.0.0.1:2222' }, 'own_address', '127.0.0.1'],
    ['sendto proves nothing', { ...inbound, 'evt.type': 'sendto' }, 'ambiguous', null],
    ['recvfrom neither', { ...inbound, 'evt.type': 'recvfrom' }, 'ambiguous', null],
    [
      'dup2 neither, also with one half ours',
      { 'evt.type': 'dup2', 'fd.name': '192.0.2.66:1->203.0.113.10:2' },
      'ambiguous',
      null,
    ],
    [
      'dup2 neither, also with one half private',
      { 'evt.type': 'dup2', 'fd.name': '10.1.1.1:1->192.0.2.66:2' },
      'ambiguous',
      null,
    ],
    ['no call: neither', { 'fd.name': '192.0.2.66:40000->198.51.100.20:2222' }, 'ambiguous', null],
    [
      'an address that is ours here does not tell where addresses end and ports begin',
      { 'evt.type': 'connect', 'fd.l4proto': null, 'fd.name': '2001:db8:1::10:4444->2001:db8:5::66:4444' },
      'ambiguous',
      null,
    ],
    ['a bound socket', { 'evt.type': 'bind', 'fd.name': '0.0.0.0:2222' }, 'listening', null],
    ['no network', { 'evt.type': 'execve', 'fd.type': 'file' }, 'not_network', null],
  ])('%s', (_name, fields, reason, offender) => {
    const decision = decide(of(fields));
    expect([decision.reason, offenderOf(decision)]).toEqual([reason, offender]);
  });

  test('of a rule whose name tells the direction, and no call: still nothing is proven', () => {
    const fields = { 'fd.name': '192.0.2.66:40000->198.51.100.20:2222' };
    expect(decide(of(fields, { rule: 'Unexpected inbound connection source' })).reason).toBe('ambiguous');
  });

  test('of text alone: nothing', () => {
    const output = 'Notice Connection | connection=192.0.2.66:40000->198.51.100.20:2222';
    const alert = { ...of({}), fields: null, output, rule: 'Inbound SSH Connection' };
    expect(decide(alert).reason).toBe('ambiguous');
  });

  test('it is as old as any other', () => {
    expect(decide(of(inbound, { timeNs: 1_795_000_000_000_000_000n })).reason).toBe('stale');
  });

  test('whatever is this host’s here makes no other half the offender', () => {
    const address = fc
      .tuple(fc.constantFrom('192.0.2', '198.51.100', '203.0.113'), fc.nat({ max: 255 }))
      .map(([network, host]) => `${network}.${host}`);
    const event = fc.constantFrom('connect', 'accept', 'accept4', 'sendto', 'dup2', 'recvfrom', undefined);
    fc.assert(
      fc.property(address, address, event, fc.boolean(), (client, server, type, isClientOurs) => {
        const fields = { 'evt.type': type, 'fd.name': `${client}:1000->${server}:2000` };
        const host = { ...edge, own: setOf(isClientOurs ? client : server) };
        const decision = decide(of(fields), fleet, host);
        const half = type === 'connect' ? server : client;
        if (type?.startsWith('accept') !== true && type !== 'connect') expect(decision.verdict).not.toBe('block');
        if (decision.verdict === 'block') expect(offenderOf(decision)).toBe(half);
        if (half === (isClientOurs ? client : server)) expect(decision.verdict).not.toBe('block');
      }),
    );
  });
});

describe('a glimpse', () => {
  test.each<[string, Alert, string | null, string]>([
    ['an offender, and what is done', of(inbound), '192.0.2.66', 'enforce'],
    ['of a rule that watches', of(inbound, { rule: 'Inbound SSH Connection' }), '192.0.2.66', 'monitor'],
    ['of a rule nobody knows', of(inbound, { rule: 'x' }), '192.0.2.66', 'observe'],
    ['of a stranger', of(inbound, { hostname: 'edge-4' }), null, 'observe'],
    ['of a rule that names nobody', of(inbound, { rule: 'Contact K8S API Server From Container' }), null, 'observe'],
    ['of what proves nothing', of({ ...inbound, 'evt.type': 'sendto' }), null, 'observe'],
    [
      'of ours',
      of({ ...inbound, 'fd.name': '192.0.2.66:1->203.0.113.10:2' }, { hostname: 'edge-1' }),
      '192.0.2.66',
      'enforce',
    ],
  ])('%s', (_name, alert, offender, applied) => {
    const seen = glimpse(alert, edge, defaultRules, armed, fleet);
    expect([seen.offender === null ? null : formatAddress(seen.offender), seen.applied]).toEqual([offender, applied]);
  });

  test('what is blocked was glimpsed, and with the same action', () => {
    const alert = of(inbound);
    for (const automatic of ['monitor', 'enforce'] as const) {
      const decision = judge(alert, edge, defaultRules, { automatic }, alertTimeMs, fleet);
      expect(glimpse(alert, edge, defaultRules, { automatic }, fleet)).toEqual({
        offender: decision.offender,
        applied: decision.applied,
      });
    }
  });
});
