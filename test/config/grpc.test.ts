import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatFalcoAddress, parseFalcoAddress } from '../../src/config/falco-address.ts';
import { examineConfig, parseConfig } from '../../src/config/load.ts';
import { readPem, secretProblems } from '../../src/config/secret.ts';
import { FalcodropError } from '../../src/errors.ts';

const tls = 'tls: { ca: /c/ca.crt, cert: /c/client.crt, key: { file: /c/client.key } }';

function problem(text: string): string {
  try {
    parseConfig(text, 'f.yaml');
  } catch (error) {
    if (error instanceof FalcodropError) return error.message;
    throw error;
  }
  throw new Error('taken');
}

describe('an address of a Falco', () => {
  test.each([
    ['unix:///run/falco/falco.sock', { path: '/run/falco/falco.sock' }, undefined],
    ['unix:/run/falco.sock', { path: '/run/falco.sock' }, 'unix:///run/falco.sock'],
    ['falco.example.org:5060', { host: 'falco.example.org', port: 5060 }, undefined],
    ['192.0.2.10:1', { host: '192.0.2.10', port: 1 }, undefined],
    ['[2001:db8::10]:65535', { host: '2001:db8::10', port: 65_535 }, undefined],
  ])('%s', (text, address, written) => {
    expect(parseFalcoAddress(text)).toEqual(address);
    expect(formatFalcoAddress(parseFalcoAddress(text))).toBe(written ?? text);
  });

  test.each([
    '',
    'unix:',
    'unix:run/falco.sock',
    'unix://host/x',
    'unix:///',
    'unix:///run/',
    'unix:////run/falco.sock',
    `unix:///${'x'.repeat(107)}`,
    'localhost',
    ':5060',
    'localhost:',
    'localhost:0',
    'localhost:65536',
    'localhost:5060x',
    'http://localhost:5060',
    '2001:db8::10:5060',
    '[2001:db8::10]',
    'a b:1',
    'x\0:1',
  ])('%j is none', (text) => {
    expect(() => parseFalcoAddress(text)).toThrowError(expect.objectContaining({ code: 'config_invalid' }));
  });
});

const own = { remote: false, fleetHosts: [] };

describe('the setting', () => {
  test('none, one, several', () => {
    expect(parseConfig('', 'f').grpc).toEqual([]);
    expect(parseConfig('grpc: [{ address: unix:///run/falco/falco.sock }]', 'f').grpc).toEqual([
      { address: { path: '/run/falco/falco.sock' }, enabled: true, tls: null, ...own },
    ]);
    const several = `grpc:
  - { address: unix:///run/falco.sock, enabled: false }
  - { address: "127.0.0.1:5060", ${tls} }
  - { address: "falco:5060", tls: { ca: /a, cert: /b, key: { credential: falco.key }, name: localhost }, fleet_hosts: [web-2] }`;
    expect(parseConfig(several, 'f').grpc).toEqual([
      { address: { path: '/run/falco.sock' }, enabled: false, tls: null, ...own },
      {
        address: { host: '127.0.0.1', port: 5060 },
        enabled: true,
        tls: { ca: '/c/ca.crt', cert: '/c/client.crt', key: { file: '/c/client.key' }, name: null },
        ...own,
      },
      {
        address: { host: 'falco', port: 5060 },
        enabled: true,
        tls: { ca: '/a', cert: '/b', key: { credential: 'falco.key' }, name: 'localhost' },
        remote: true,
        fleetHosts: ['web-2'],
      },
    ]);
  });

  test.each<[string, RegExp]>([
    ['grpc: true', /grpc: expected a list/],
    ['grpc: [{}]', /grpc\[0\]\.address: is missing/],
    ['grpc: [{ address: localhost }]', /grpc\[0\]\.address: is neither/],
    ['grpc: [{ address: "127.0.0.1:5060" }]', /grpc\[0\]: needs tls/],
    [`grpc: [{ address: unix:///x, ${tls} }]`, /grpc\[0\]: a unix socket has no tls/],
    [
      'grpc: [{ address: "h:1", tls: { ca: x, cert: /b, key: { file: /c } } }]',
      /grpc\[0\]\.tls\.ca: is no absolute path/,
    ],
    ['grpc: [{ address: "h:1", tls: { ca: /a, cert: /b } }]', /grpc\[0\]\.tls\.key/],
    ['grpc: [{ address: "h:1", tls: { ca: /a, cert: /b, key: -----BEGIN } }]', /a secret may not stand here/],
    ['grpc: [{ address: "h:1", tls: { ca: /a, cert: /b, key: { file: /c }, name: "a b" } }]', /grpc\[0\]\.tls\.name/],
    ['grpc: [{ address: unix:///x }, { address: "unix:/x" }]', /names an address twice/],
    ['grpc: [{ address: unix:///x, port: 1 }]', /grpc\[0\]\.port/],
  ])('%s', (text, wanted) => {
    expect(problem(text)).toMatch(wanted);
    expect(problem(text)).not.toContain('BEGIN');
  });
});

describe('the key', () => {
  let folder = '';
  const at = (name: string): string => join(folder, name);
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'fd-key-'));
    const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
    openssl('genpkey', '-algorithm', 'ed25519', '-out', 'good');
    openssl('pkey', '-in', 'good', '-aes256', '-passout', 'pass:x', '-out', 'locked');
    writeFileSync(at('text'), 'hunter2\n');
    writeFileSync(at('empty'), '');
    for (const name of ['good', 'locked', 'text', 'empty']) chmodSync(at(name), 0o640);
    openssl('genpkey', '-algorithm', 'ed25519', '-out', 'open');
    chmodSync(at('open'), 0o644);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test('is read as it stands, of several lines', () => {
    expect(readPem('key', { file: at('good') }, {})).toMatch(/^-----BEGIN PRIVATE KEY-----\n.+\n-----END/s);
    expect(readPem('key', { credential: 'good' }, { CREDENTIALS_DIRECTORY: folder })).toContain('BEGIN');
  });

  const settings = [
    [
      'grpc[0].tls.key',
      (name: string) => `grpc: [{ address: "h:1", tls: { ca: /a, cert: /b, key: { file: ${at(name)} } } }]`,
    ],
    ['http.tls.key', (name: string) => `http: { tls: { key: { file: ${at(name)} } } }`],
  ] as const;

  test.each<[string, RegExp | null]>([
    ['good', null],
    ['open', /everybody may read/],
    ['locked', /the key has a passphrase/],
    ['text', /there is no private key in it/],
    ['empty', /there is no private key in it/],
    ['missing', /there is no such file/],
  ])('%s: the same is said of it for HTTP and for gRPC', (name, wanted) => {
    const file = at('f.yaml');
    for (const [setting, written] of settings) {
      writeFileSync(file, written(name));
      const said = secretProblems(examineConfig(file, {}).held, {}).map(({ message }) => message);
      expect(said).toEqual(wanted === null ? [] : [expect.stringMatching(wanted)]);
      for (const message of said) {
        expect(message.startsWith(`${setting}: ${at(name)}: `)).toBe(true);
        expect(message).not.toContain('hunter2');
      }
    }
  });
});
