/** Each trap of Falco's alerts, one line a case, judged on the edge host of ../host.ts. */
import { describe, expect, test } from 'vitest';
import { formatAddress } from '../../../src/address/address.ts';
import type { Alert } from '../../../src/alert/alert.ts';
import type { HostFacts } from '../../../src/judge/host-facts.ts';
import { nameOffender } from '../../../src/judge/offender/offender.ts';
import { alertWith, bareHost, edge } from '../host.ts';

/** `203.0.113.66 inbound`, `203.0.113.66 outbound unproven`, `own 10.9.0.10`, `own`, `ambiguous`, or the reason of nobody. */
function name(fields: Alert['fields'], more: Partial<Alert> = {}, host: HostFacts = edge): string {
  const naming = nameOffender(alertWith(fields, more), host);
  if (naming.kind === 'nobody') return naming.reason;
  if (naming.kind === 'ambiguous') return 'ambiguous';
  if (naming.kind === 'own') return naming.address === null ? 'own' : `own ${formatAddress(naming.address)}`;
  const { offender, way, proven } = naming;
  return `${formatAddress(offender.address)} ${way}${proven ? '' : ' unproven'}`;
}

const tuple = (fdName: string, event: string | null, more: Readonly<Record<string, unknown>> = {}) => ({
  'fd.name': fdName,
  'fd.type': 'ipv4',
  'fd.l4proto': 'tcp',
  ...(event === null ? {} : { 'evt.type': event }),
  ...more,
});

const toUs = '203.0.113.66:40000->203.0.113.10:22';
const fromUs = '203.0.113.10:40000->203.0.113.66:4444';
const strangers = '198.18.0.1:40000->198.18.0.2:80';

describe('direction by what the system call was', () => {
  test.each([
    ['accept4', toUs, '203.0.113.66 inbound'],
    ['accept', toUs, '203.0.113.66 inbound'],
    ['connect', fromUs, '203.0.113.66 outbound'],
    // our own process connects to our own service: the other half is not taken
    ['connect', toUs, 'own 203.0.113.10'],
    ['accept4', fromUs, 'own 203.0.113.10'],
    ['connect', '127.0.0.1:40000->127.0.0.1:80', 'own 127.0.0.1'],
    ['connect', '203.0.113.10:40000->0.0.0.0:80', 'own 0.0.0.0'],
    // the role decides, whatever the addresses look like
    ['accept4', strangers, '198.18.0.1 inbound'],
    ['connect', strangers, '198.18.0.2 outbound'],
    ['accept4', '10.1.1.1:40000->198.18.0.2:80', '10.1.1.1 inbound'],
    ['connect', '198.18.0.1:40000->10.1.1.1:80', '10.1.1.1 outbound'],
    ['sendto', fromUs, '203.0.113.66 outbound'],
    ['sendto', toUs, '203.0.113.66 inbound'],
    ['recvfrom', toUs, '203.0.113.66 inbound'],
    ['recvfrom', fromUs, '203.0.113.66 outbound'],
    ['recvmsg', toUs, '203.0.113.66 inbound'],
    ['dup', fromUs, '203.0.113.66 outbound'],
    ['dup2', fromUs, '203.0.113.66 outbound'],
    ['dup3', toUs, '203.0.113.66 inbound'],
    ['close', toUs, '203.0.113.66 inbound'],
    ['shutdown', fromUs, '203.0.113.66 outbound'],
    ['read', toUs, '203.0.113.66 inbound'],
    ['write', fromUs, '203.0.113.66 outbound'],
    ['toString', toUs, '203.0.113.66 inbound'],
    ['constructor', fromUs, '203.0.113.66 outbound'],
    ['sendto', '203.0.113.10:40000->10.9.0.10:80', 'own'],
    ['dup2', '127.0.0.1:40000->127.0.0.1:80', 'own'],
    ['sendto', strangers, '198.18.0.2 null'],
    ['sendmsg', strangers, '198.18.0.2 null'],
    ['recvfrom', strangers, 'ambiguous'],
    ['recvmsg', strangers, 'ambiguous'],
    ['dup2', strangers, 'ambiguous'],
    ['close', strangers, 'ambiguous'],
    // of a private and a public half the private one runs here
    ['dup2', '10.88.0.5:40000->198.18.0.2:4444', '198.18.0.2 outbound'],
    ['dup2', '198.18.0.2:40000->10.88.0.5:4444', '198.18.0.2 inbound'],
    ['sendto', '198.18.0.2:40000->192.168.5.5:53', '198.18.0.2 inbound'],
    ['recvfrom', '100.64.0.9:40000->198.18.0.2:53', '198.18.0.2 outbound'],
    ['recvfrom', '10.88.0.5:40000->192.168.5.5:53', 'ambiguous'],
    // link-local proves nothing about who runs here
    ['recvfrom', '198.18.0.2:40000->169.254.169.254:80', 'ambiguous'],
    ['listen', '203.0.113.10:22', 'listening'],
    ['listen', '203.0.113.66:22', 'listening'],
    ['bind', ':::8080', 'listening'],
    ['bind', toUs, 'listening'],
  ])('%s %s: %s', (event, fdName, expected) => {
    expect(name(tuple(fdName, event))).toBe(expected);
  });

  test('a UDP socket bound to a wildcard shows the first address, or none, as its own half', () => {
    const udp = { 'fd.l4proto': 'udp' };
    expect(name(tuple('203.0.113.66:50060->0.0.0.0:5353', 'recvfrom', udp))).toBe('203.0.113.66 inbound');
    expect(name(tuple('2001:db8:9::66:50060->:::5353', 'recvmsg', { ...udp, 'fd.type': 'ipv6' }))).toBe(
      '2001:db8:9::66 inbound',
    );
    expect(name(tuple('203.0.113.66:50060->10.9.0.10:5353', 'recvfrom', udp))).toBe('203.0.113.66 inbound');
  });
});

describe('rules that print no evt.type (older than 2.0.0)', () => {
  test.each([
    ['Unexpected inbound connection source', toUs, '203.0.113.66 inbound'],
    ['Unexpected inbound connection source', strangers, '198.18.0.1 inbound'],
    ['Unexpected inbound connection source', fromUs, 'own 203.0.113.10'],
    ['Unexpected outbound connection destination', fromUs, '203.0.113.66 outbound'],
    ['Unexpected outbound connection destination', strangers, '198.18.0.2 outbound'],
    ['Unexpected outbound connection destination', toUs, 'own 203.0.113.10'],
    ['Outbound Connection to C2 Servers', strangers, '198.18.0.2 outbound'],
    ['Outbound or Inbound Traffic not to Authorized Server Process and Port', strangers, 'ambiguous'],
    ['Outbound or Inbound Traffic not to Authorized Server Process and Port', toUs, '203.0.113.66 inbound'],
    ['Disallowed SSH Connection', toUs, '203.0.113.66 inbound'],
    ['Disallowed SSH Connection', fromUs, '203.0.113.66 outbound'],
    ['Disallowed SSH Connection', strangers, 'ambiguous'],
    ['Disallowed SSH Connection', '10.88.0.5:1->198.18.0.2:22', '198.18.0.2 outbound'],
    // of a private and a public half the private one runs here, whatever the rule is called
    ['Unexpected inbound connection source', '10.88.0.5:1->198.18.0.2:22', '198.18.0.2 outbound'],
    ['Outbound Connection to C2 Servers', '198.18.0.2:1->10.88.0.5:22', '198.18.0.2 inbound'],
  ])('%s %s: %s', (rule, fdName, expected) => {
    for (const event of [{}, { 'evt.type': '<NA>' }, { 'evt.type': null }, { 'evt.type': '' }]) {
      expect(name({ 'fd.name': fdName, ...event }, { rule })).toBe(expected);
    }
  });
});

describe('containers on a bridge', () => {
  test.each([
    ['reverse shell', 'dup2', '172.17.0.2:40412->198.18.0.66:4444', '198.18.0.66 outbound'],
    ['reverse shell, connect', 'connect', '172.17.0.2:40412->198.18.0.66:4444', '198.18.0.66 outbound'],
    ['bind shell', 'dup2', '198.18.0.66:40412->172.17.0.2:4444', '198.18.0.66 inbound'],
    ['published port', 'accept4', '198.18.0.66:40412->172.17.0.2:80', '198.18.0.66 inbound'],
    ['published port, userland proxy', 'accept4', '172.17.0.1:40412->172.17.0.2:80', 'own 172.17.0.1'],
    ['from container to container', 'connect', '172.17.0.2:40412->172.17.0.3:80', 'own 172.17.0.3'],
    ['from container to container, shell', 'dup2', '172.17.0.2:40412->172.17.0.3:80', 'own'],
    ['from container to host', 'accept4', '172.17.0.2:40412->203.0.113.10:80', 'own 172.17.0.2'],
    ['name service', 'recvfrom', '172.17.0.2:40412->198.18.0.53:53', '198.18.0.53 outbound'],
    ['IPv6 reverse shell', 'dup2', 'fd00:17::2:40412->2001:db8:66::1:4444', '2001:db8:66::1 outbound'],
    ['IPv6 bind shell', 'dup2', '2001:db8:66::1:40412->fd00:17::2:4444', '2001:db8:66::1 inbound'],
    ['IPv6 published port', 'accept4', '2001:db8:66::1:40412->fd00:17::2:80', '2001:db8:66::1 inbound'],
    ['v4-mapped client', 'accept4', '::ffff:198.18.0.66:40412->::ffff:172.17.0.2:80', '198.18.0.66 inbound'],
  ])('%s', (_case, event, fdName, expected) => {
    const type = fdName.includes('::') ? 'ipv6' : 'ipv4';
    // what libs says of remote and local is wrong in containers, both ways round
    for (const wrong of [fdName.split(':')[0], '203.0.113.10', '198.18.0.66']) {
      expect(name(tuple(fdName, event, { 'fd.type': type, 'fd.rip': wrong, 'fd.lip': wrong }))).toBe(expected);
    }
  });

  test('a public address of a container prefix is ours, and where nothing is known of it the roles still hold', () => {
    const fields = tuple('198.18.5.2:40412->198.18.0.66:4444', 'dup2');
    expect(name(fields, {}, bareHost)).toBe('ambiguous');
    expect(name(tuple('198.18.5.2:40412->198.18.0.66:4444', 'connect'), {}, bareHost)).toBe('198.18.0.66 outbound');
  });
});

describe('where the addresses are read', () => {
  const good = { 'fd.cip': '198.18.0.66', 'fd.cport': 40_000, 'fd.sip': '203.0.113.10', 'fd.sport': 22 };

  test('fd.cip and fd.sip before fd.name', () => {
    expect(name(tuple(strangers, 'accept4', good))).toBe('198.18.0.66 inbound');
    expect(name(tuple('<unknown>', 'accept4', good))).toBe('198.18.0.66 inbound');
    expect(name({ ...good, 'evt.type': 'accept4' })).toBe('198.18.0.66 inbound');
  });

  test.each([
    { 'fd.cip': null, 'fd.sip': null },
    { 'fd.cip': '<NA>', 'fd.sip': '<NA>' },
    { 'fd.cip': '', 'fd.sip': '' },
    { 'fd.cip': '1.2.3.4' },
    { 'fd.sip': '198.18.0.2' },
    { 'fd.cip': 'x', 'fd.sip': '198.18.0.2' },
    { 'fd.cip': ['1.2.3.4'], 'fd.sip': ['1.2.3.4'] },
  ])('fd.name unless both are there: %j', (fields) => {
    expect(name(tuple(fromUs, 'connect', fields))).toBe('203.0.113.66 outbound');
  });

  test('v4-mapped, zone ids, upper case', () => {
    expect(name({ ...good, 'fd.cip': '::ffff:198.18.0.66', 'evt.type': 'accept' })).toBe('198.18.0.66 inbound');
    expect(name({ 'fd.cip': '2001:DB8:66::1', 'fd.sip': '2001:db8:1::10', 'evt.type': 'accept' })).toBe(
      '2001:db8:66::1 inbound',
    );
    expect(name({ 'fd.cip': 'fe80::66%eth0', 'fd.sip': 'fe80::10%eth0', 'evt.type': 'accept' })).toBe(
      'fe80::66 inbound',
    );
  });

  test.each([
    [{ 'fd.rip': '198.18.0.66', 'evt.type': 'connect' }],
    [{ 'fd.sip': '198.18.0.66', 'evt.type': 'connect' }],
    [{ 'fd.lip': '203.0.113.10', 'fd.rip': '198.18.0.66', 'fd.type': 'ipv4', 'evt.type': 'accept4' }],
    [{ 'container.ip': '172.17.0.2', 'k8s.pod.ip': '198.18.0.66', 'evt.type': 'connect' }],
    [{ 'proc.cmdline': `nc ${toUs}`, 'evt.type': 'connect' }],
    [{ 'fd.name': '<unknown>', 'fd.type': 'ipv4', 'evt.type': 'connect' }],
    [{ 'fd.name': 'x->y', 'fd.type': 'ipv4', 'evt.type': 'connect' }],
    [{ 'fd.name': 7, 'evt.type': 'connect' }],
    [{ 'evt.type': 'socket' }],
  ])('nothing else is an address: %j', (fields) => {
    expect(name(fields)).toBe('no_tuple');
  });

  test.each([
    [{ 'evt.type': 'execve', 'proc.cmdline': `nc ${toUs}` }],
    [{ 'evt.type': 'openat', 'fd.name': '/etc/shadow' }],
    [{ 'evt.type': 'openat', 'fd.name': toUs }],
    [{ 'evt.type': 'openat', 'fd.type': 'file', 'fd.name': toUs }],
    [{ 'fd.type': 'file', 'fd.name': toUs }],
    [{ 'fd.type': 'pipe', 'fd.name': toUs, ...good }],
    [{}],
  ])('not a network alert: %j', (fields) => {
    expect(name(fields, { tags: [] })).toBe('not_network');
  });

  test.each([
    [{ 'fd.type': 'unix', 'fd.name': 'ffff8f1c->ffff8e7d /run/x.sock', 'evt.type': 'connect' }],
    [{ 'fd.name': 'ffff8f1c->ffff8e7d /run/x.sock', 'evt.type': 'connect' }],
    [{ 'fd.type': 'unix', 'fd.name': toUs, 'evt.type': 'connect' }],
  ])('a unix socket: %j', (fields) => {
    expect(name(fields)).toBe('unix_socket');
  });

  test('a bound socket without evt.type', () => {
    expect(name({ 'fd.name': '0.0.0.0:8080' })).toBe('listening');
  });
});

describe('ports of IPv6', () => {
  const doubtful = '2001:db8:66::3:1234->2001:db8:1::10:22';

  test.each<[Readonly<Record<string, unknown>>, string]>([
    [{ 'fd.l4proto': 'tcp' }, '2001:db8:66::3 inbound'],
    [{ 'fd.l4proto': 'udp' }, '2001:db8:66::3 inbound'],
    [{ 'fd.l4proto': 'UDP' }, '2001:db8:66::3 inbound'],
    [{ 'fd.lport': 22 }, '2001:db8:66::3 inbound'],
    [{ 'fd.rport': '1234' }, '2001:db8:66::3 inbound'],
    [{ 'fd.cport': 1234 }, '2001:db8:66::3 inbound'],
    // one reading shows an address of ours
    [{}, '2001:db8:66::3 inbound'],
    [{ 'fd.l4proto': '<NA>' }, '2001:db8:66::3 inbound'],
    [{ 'fd.lport': 0, 'fd.rport': null }, '2001:db8:66::3 inbound'],
    // without ports neither half is ours
    [{ 'fd.l4proto': 'icmp' }, 'ambiguous'],
    [{ 'fd.l4proto': 'raw' }, 'ambiguous'],
  ])('%j: %s', (fields, expected) => {
    expect(name({ 'fd.name': doubtful, 'fd.type': 'ipv6', 'evt.type': 'recvfrom', ...fields })).toBe(expected);
  });

  test('an ICMP peer that looks like an address with a port', () => {
    const icmp = { 'fd.name': '2001:db8:66::3:1234->2001:db8:1::10', 'fd.type': 'ipv6', 'evt.type': 'recvmsg' };
    expect(name({ ...icmp, 'fd.l4proto': 'icmp' })).toBe('2001:db8:66::3:1234 inbound');
    expect(name(icmp)).toBe('2001:db8:66::3:1234 inbound');
  });

  test('an accepting socket has ports', () => {
    const host = { ...edge, own: bareHost.own };
    expect(name({ 'fd.name': doubtful, 'evt.type': 'accept4' }, {}, host)).toBe('2001:db8:66::3 inbound');
    expect(name({ 'fd.name': doubtful, 'evt.type': 'connect' }, {}, host)).toBe('ambiguous');
  });

  test('IPv4 with and without', () => {
    expect(name({ 'fd.name': '198.18.0.66->203.0.113.10', 'fd.l4proto': 'icmp', 'evt.type': 'recvmsg' })).toBe(
      '198.18.0.66 inbound',
    );
  });
});

describe('an attempt proves nothing about the other side', () => {
  test.each<[Readonly<Record<string, unknown>>, string]>([
    [{}, '203.0.113.66 outbound'],
    [{ 'evt.res': 'SUCCESS' }, '203.0.113.66 outbound'],
    [{ 'evt.res': '<NA>' }, '203.0.113.66 outbound'],
    [{ 'evt.res': null }, '203.0.113.66 outbound'],
    [{ 'evt.res': 0 }, '203.0.113.66 outbound'],
    [{ 'evt.res': '0' }, '203.0.113.66 outbound'],
    [{ 'evt.rawres': 0 }, '203.0.113.66 outbound'],
    [{ 'evt.failed': false }, '203.0.113.66 outbound'],
    [{ 'evt.res': 'EINPROGRESS' }, '203.0.113.66 outbound unproven'],
    [{ 'evt.res': 'ECONNREFUSED' }, '203.0.113.66 outbound unproven'],
    [{ 'evt.res': 'ETIMEDOUT' }, '203.0.113.66 outbound unproven'],
    [{ 'evt.res': -115 }, '203.0.113.66 outbound unproven'],
    [{ 'evt.res': '-115' }, '203.0.113.66 outbound unproven'],
    [{ 'evt.rawres': -115 }, '203.0.113.66 outbound unproven'],
    [{ 'evt.rawres': '-111' }, '203.0.113.66 outbound unproven'],
    [{ 'evt.failed': true }, '203.0.113.66 outbound unproven'],
    [{ 'evt.failed': 'true' }, '203.0.113.66 outbound unproven'],
  ])('connect %j: %s', (fields, expected) => {
    expect(name(tuple(fromUs, 'connect', fields))).toBe(expected);
  });

  test('only a connect: others act on a connection that is there', () => {
    expect(name(tuple(fromUs, 'dup2', { 'evt.res': 'EINPROGRESS' }))).toBe('203.0.113.66 outbound');
  });
});

describe("without output_fields: the connection directly after the rule's text", () => {
  test.each([
    [
      `20:15:57.744505694: Notice Disallowed SSH Connection (connection=${toUs} lport=22)`,
      '203.0.113.66 inbound unproven',
    ],
    [
      `20:15:57.744505694: Notice Disallowed SSH Connection | connection=${toUs} lport=22`,
      '203.0.113.66 inbound unproven',
    ],
    [
      `2026-11-21T20:15:57.744505694+0000: Notice Disallowed SSH Connection | connection=${fromUs} user=x`,
      '203.0.113.66 outbound unproven',
    ],
    [`Disallowed SSH Connection (connection=${toUs})`, '203.0.113.66 inbound unproven'],
    [`Disallowed SSH Connection | connection=${toUs}`, '203.0.113.66 inbound unproven'],
    [
      'Notice Disallowed SSH Connection | connection=2001:db8:66::1:40412->2001:db8:1::10:22',
      '2001:db8:66::1 inbound unproven',
    ],
    [`Notice X | connection=${strangers}`, 'ambiguous'],
    [`Notice X | connection=127.0.0.1:1->127.0.0.1:2`, 'own'],
    ['Notice X | connection=0.0.0.0:8080', 'listening'],
    ['Notice X | connection=ffff8f1c->ffff8e7d /run/x.sock', 'unix_socket'],
    ['Notice X | connection=<NA> lport=<NA>', 'no_tuple'],
    // anywhere else it may be a command line
    [`Notice X | command=x connection=${toUs}`, 'not_network'],
    [`Notice X (command=x | connection=${toUs})`, 'not_network'],
    [`Notice X (command=x (connection=${toUs})`, 'not_network'],
    [`Notice X user=y | connection=${toUs}`, 'not_network'],
    [`Notice X\n| connection=${toUs}`, 'not_network'],
    [`Notice X |connection=${toUs}`, 'not_network'],
    [`Notice X connection=${toUs}`, 'not_network'],
    [`Notice X | myconnection=${toUs}`, 'not_network'],
    [`connection=${toUs}`, 'not_network'],
    [`{"output":"Notice X | connection=${toUs}"}`, 'not_network'],
    [`${'x'.repeat(600)} | connection=${toUs}`, 'not_network'],
    ['', 'not_network'],
  ])('%s: %s', (output, expected) => {
    expect(name(null, { output, rule: 'Disallowed SSH Connection' })).toBe(expected);
  });

  test('not when there are any fields', () => {
    const output = `Notice X | connection=${toUs}`;
    expect(name({}, { output, tags: [] })).toBe('not_network');
    expect(name({ 'evt.type': 'connect' }, { output })).toBe('no_tuple');
    expect(name({ 'fd.name': null, 'fd.type': 'ipv4' }, { output })).toBe('no_tuple');
  });
});

describe('sources', () => {
  test.each(['k8s_audit', 'aws_cloudtrail', 'okta', 'github', 'gcp_auditlog', 'plugin', 'constructor'])(
    '%s',
    (source) => {
      const fields = { ...tuple(toUs, 'accept4'), 'ct.srcip': '198.18.0.66', 'ka.sourceips': ['198.18.0.66'] };
      expect(name(fields, { source })).toBe('plugin_source');
    },
  );

  test("Falco's own events carry an address of an interface", () => {
    const fields = { 'falco.host_ifinfo_json': '{"ip":"198.18.0.66"}', ...tuple(toUs, 'accept4') };
    expect(name(fields, { source: 'internal' })).toBe('not_network');
    expect(name(fields, { rule: 'Falco internal: metrics snapshot' })).toBe('not_network');
  });
});
