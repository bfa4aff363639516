import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { formatAddress } from '../../src/address/address.ts';
import { parseSshConnection, readCaller } from '../../src/host/caller.ts';
import { parseDnsmasq, parseResolvConf, parseUnbound, readResolvers } from '../../src/host/resolvers.ts';
import { parseLogindSession, parseUtmp, readSessions, utmpLayoutOf } from '../../src/host/sessions.ts';
import { texts } from './links.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'fd-host-'));
});
afterEach(() => rmSync(root, { recursive: true }));

function put(path: string, content: string | Buffer): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content);
}

describe('resolv.conf', () => {
  test.each([
    ['', ['127.0.0.1']],
    ['search example.org\n', ['127.0.0.1']],
    ['nameserver 192.0.2.53\nnameserver\t2001:db8::53\n', ['192.0.2.53', '2001:db8::53']],
    ['  nameserver 192.0.2.53 # main\n;nameserver 192.0.2.54\n#nameserver 192.0.2.55', ['192.0.2.53']],
    ['nameserver fe80::1%eth0', ['fe80::1']],
    ['nameserver ::ffff:192.0.2.53', ['192.0.2.53']],
    ['nameserver dns.example.org\nnameserver 999.0.0.1\nnameserver 010.0.0.1\nnameserver 192.0.2.53', ['192.0.2.53']],
    ['nameserver 192.0.2.53\r\n', ['192.0.2.53']],
  ])('%j', (text, servers) => {
    expect(parseResolvConf(text).map(formatAddress)).toEqual(servers);
  });

  test('any text is read without an error', () => {
    fc.assert(fc.property(fc.string({ maxLength: 200 }), (text) => parseResolvConf(text).length > 0));
  });
});

test('dnsmasq.conf: servers, also of a domain, with port and interface; files', () => {
  const text = `server=192.0.2.53
#server=192.0.2.54
 server = /corp.example/192.0.2.55#5353@eth0
server=/local/
server=2001:db8::53
resolv-file=/run/x/resolv.conf
no-resolv`;
  const { servers, files } = parseDnsmasq(text);
  expect(servers.map(formatAddress)).toEqual(['192.0.2.53', '192.0.2.55', '2001:db8::53']);
  expect(files).toEqual(['/run/x/resolv.conf']);
});

test('unbound.conf: servers of forward and stub zones, with port and name', () => {
  const text = `server:
  interface: 192.0.2.9
forward-zone:
  name: "."
  forward-addr: 192.0.2.53
  #forward-addr: 192.0.2.54
\tforward-addr: "2001:db8::53@853#dns.example.org" # main
  forward-host: dns.example.org
stub-zone:
  stub-addr: 192.0.2.55@5353`;
  expect(parseUnbound(text).map(formatAddress)).toEqual(['192.0.2.53', '2001:db8::53', '192.0.2.55']);
});

describe('resolvers', () => {
  test('asked directly', () => {
    put('/etc/resolv.conf', 'nameserver 192.0.2.53\nnameserver 192.0.2.53\n');
    expect(texts(readResolvers(root))).toEqual(['192.0.2.53']);
  });

  test('behind a stub that is named by an address of the LAN, or that nss-resolve asks', () => {
    put('/etc/resolv.conf', 'nameserver 192.0.2.1\n');
    put('/run/systemd/resolve/resolv.conf', 'nameserver 192.0.2.99\n');
    put('/etc/unbound/unbound.conf.d/forward.conf', 'forward-zone:\n  forward-addr: 192.0.2.98\n');
    expect(texts(readResolvers(root))).toEqual(['192.0.2.1', '192.0.2.98', '192.0.2.99']);
  });

  test.each([
    ['systemd-resolved', '127.0.0.53', '/run/systemd/resolve/resolv.conf'],
    ['NetworkManager', '127.0.0.1', '/run/NetworkManager/no-stub-resolv.conf'],
    ['dnsmasq', '::1', '/run/dnsmasq/resolv.conf'],
    ['another', '127.0.1.1', '/etc/resolv.dnsmasq.conf'],
  ])('behind the stub of %s', (_name, stub, file) => {
    put('/etc/resolv.conf', `nameserver ${stub}\noptions edns0\n`);
    put(file, 'nameserver 192.0.2.53\nnameserver 2001:db8::53\n');
    expect(texts(readResolvers(root))).toEqual(['192.0.2.53', '2001:db8::53']);
  });

  test('behind a dnsmasq that names servers and a file', () => {
    put('/etc/resolv.conf', 'nameserver 127.0.0.1\n');
    put('/etc/dnsmasq.conf', 'server=192.0.2.1\n');
    put('/etc/dnsmasq.d/a.conf', 'resolv-file=/var/lib/up.conf\n');
    put('/var/lib/up.conf', 'nameserver 192.0.2.2\n');
    expect(texts(readResolvers(root))).toEqual(['192.0.2.1', '192.0.2.2']);
  });

  test('no file: the C library asks 127.0.0.1, which is nobody outside', () => {
    expect(readResolvers(root)).toEqual([]);
  });
});

const session = (rest: Record<string, string>): string =>
  Object.entries({
    UID: '1000',
    USER: 'op',
    ACTIVE: '1',
    STATE: 'active',
    REMOTE: '1',
    TYPE: 'tty',
    SERVICE: 'sshd',
    ...rest,
  })
    .map(([key, value]) => `${key}=${value}\n`)
    .join('');

describe("logind's sessions", () => {
  test.each<[string, Record<string, string>, string | null]>([
    ['over SSH', { REMOTE_HOST: '203.0.113.5' }, '203.0.113.5'],
    ['IPv6', { REMOTE_HOST: '2001:db8::5' }, '2001:db8::5'],
    ['v4-mapped', { REMOTE_HOST: '::ffff:203.0.113.5' }, '203.0.113.5'],
    ['with a zone', { REMOTE_HOST: 'fe80::5%eth0' }, 'fe80::5'],
    ['in quotes', { REMOTE_HOST: '"203.0.113.5"' }, '203.0.113.5'],
    ['online, another terminal in front', { STATE: 'online', ACTIVE: '0', REMOTE_HOST: '203.0.113.5' }, '203.0.113.5'],
    ['by name', { REMOTE_HOST: 'office.example.org' }, 'name office.example.org'],
    ['dropbear', { SERVICE: 'dropbear', REMOTE_HOST: '203.0.113.5' }, '203.0.113.5'],
    ['closing', { STATE: 'closing', REMOTE_HOST: '203.0.113.5' }, null],
    ['local', { REMOTE: '0', REMOTE_HOST: '203.0.113.5' }, null],
    ['an FTP server’s', { SERVICE: 'vsftpd', REMOTE_HOST: '203.0.113.5' }, null],
    ['no host', {}, null],
  ])('%s', (_name, fields, peer) => {
    const found = parseLogindSession(`# This is private data. Do not parse.\n${session(fields)}`);
    expect(found === null ? null : 'name' in found ? `name ${found.name}` : formatAddress(found.address)).toBe(peer);
  });

  test('read from their folder; pipes beside them are left alone; names are reported', () => {
    put('/run/systemd/sessions/3', session({ REMOTE_HOST: '203.0.113.5' }));
    put('/run/systemd/sessions/c4', session({ REMOTE_HOST: '203.0.113.5' }));
    put('/run/systemd/sessions/5', session({ REMOTE_HOST: 'office.example.org' }));
    execFileSync('mkfifo', [join(root, '/run/systemd/sessions/3.ref')]);
    const { peers, unresolvable } = readSessions(root);
    expect(texts(peers)).toEqual(['203.0.113.5']);
    expect(unresolvable).toEqual(['office.example.org']);
  });
});

/** Records of (type, pid, host, address), packed by Python's struct with the C compiler's own alignment. */
function utmp(
  layout: 'compat32' | 'native64',
  records: readonly (readonly [number, number, string, string])[],
): Buffer {
  const script = `
import socket, struct, sys, json
form, records = json.loads(sys.argv[1])
for kind, pid, host, address in records:
    packed = socket.inet_pton(socket.AF_INET6 if ':' in address else socket.AF_INET, address) if address else b''
    fields = (kind, pid, b'pts/0', b'ts/0', b'op', host.encode(), 0, 0, 0, 0, 0, packed.ljust(16, b'\\0'))
    sys.stdout.buffer.write(struct.pack(form, *fields))
`;
  // short, pad, pid, line, id, user, host, exit (two shorts), session, time (seconds, microseconds), address, unused
  const form = layout === 'compat32' ? '<hxxi32s4s32s256shhiii16s20x' : '<hxxi32s4s32s256shhqqq16s20x4x';
  return execFileSync('python3', ['-c', script, JSON.stringify([form, records])]);
}

describe('utmp', () => {
  const alive = 100;
  const records = [
    [7, alive, '203.0.113.5', '203.0.113.5'],
    [7, alive, 'x', '2001:db8::5'],
    [7, alive, '203.0.113.6', ''],
    [7, alive, 'office.example.org', ''],
    [7, alive, ':0', ''],
    [7, alive, 'tmux(77).%0', ''],
    [7, alive, '', ''],
    [7, 101, '203.0.113.7', '203.0.113.7'],
    [8, alive, '203.0.113.8', '203.0.113.8'],
    [6, alive, '203.0.113.9', '203.0.113.9'],
    [7, 0, '203.0.113.10', '203.0.113.10'],
  ] as const;

  test.each(['compat32', 'native64'] as const)('%s', (layout) => {
    const bytes = utmp(layout, records);
    expect(bytes.length).toBe(records.length * (layout === 'compat32' ? 384 : 400));
    const found = parseUtmp(bytes, layout, (pid) => pid === alive);
    expect(found.map((peer) => ('name' in peer ? peer.name : formatAddress(peer.address)))).toEqual([
      '203.0.113.5',
      '2001:db8::5',
      '203.0.113.6',
      'office.example.org',
    ]);
    expect(parseUtmp(bytes.subarray(0, -1), layout, () => true).length).toBeGreaterThan(0);
  });

  test('garbage of any length is read without an error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2_000 }), (bytes) => {
        expect(parseUtmp(Buffer.from(bytes), 'compat32', () => true).length).toBeLessThanOrEqual(5);
      }),
    );
  });

  test('is asked where logind has no sessions; a dead process has no session', () => {
    // above the kernel's highest process id
    const dead = 2 ** 22 + 7;
    put(
      '/run/utmp',
      utmp(utmpLayoutOf(process.arch), [
        [7, process.pid, 'a', '203.0.113.5'],
        [7, dead, 'b', '203.0.113.6'],
      ]),
    );
    expect(texts(readSessions(root).peers)).toEqual(['203.0.113.5']);
    put('/run/systemd/sessions/3', session({ REMOTE_HOST: '203.0.113.77' }));
    expect(texts(readSessions(root).peers)).toEqual(['203.0.113.77']);
  });
});

describe('the caller', () => {
  test.each([
    ['203.0.113.5 50000 192.0.2.2 22', '203.0.113.5 192.0.2.2'],
    ['2001:db8::5 50000 2001:db8::1 22', '2001:db8::5 2001:db8::1'],
    ['::ffff:203.0.113.5 50000 ::ffff:192.0.2.2 22', '203.0.113.5 192.0.2.2'],
    ['fe80::5%eth0 50000 fe80::1%eth0 22', 'fe80::5 fe80::1'],
    ['', null],
    ['203.0.113.5', null],
    ['UNKNOWN 65535 UNKNOWN 65535', null],
    ['203.0.113.5 1 192.0.2.2 22 more', null],
    [undefined, null],
  ])('SSH_CONNECTION=%j', (text, addresses) => {
    const caller = parseSshConnection(text);
    expect(caller === null ? null : `${formatAddress(caller.client)} ${formatAddress(caller.server)}`).toBe(addresses);
  });

  test('the environment first; else, as under sudo, an ancestor’s', () => {
    put('/50/environ', 'SUDO_USER=op\0');
    put('/50/stat', '50 (sudo) S 40 50 40 0');
    put('/40/environ', 'LANG=C\0SSH_CONNECTION=203.0.113.5 50000 192.0.2.2 22\0');
    put('/40/stat', '40 (odd) S ) name) S 1 40 40 0');
    const at = (environment: NodeJS.ProcessEnv, parent: number) => {
      const caller = readCaller(environment, { proc: root, parent });
      return caller === null ? null : formatAddress(caller.client);
    };
    expect(at({ SSH_CONNECTION: '203.0.113.9 1 192.0.2.2 22' }, 50)).toBe('203.0.113.9');
    expect(at({}, 50)).toBe('203.0.113.5');
    expect(at({}, 1)).toBe(null);
    expect(at({}, 60)).toBe(null);
  });

  test('processes that are each other’s parents end the search', () => {
    put('/50/stat', '50 (a) S 51 0');
    put('/51/stat', '51 (b) S 50 0');
    expect(readCaller({}, { proc: root, parent: 50 })).toBe(null);
  });
});
