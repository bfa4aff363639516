import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parseAddress } from '../../src/address/address.ts';
import { formatPorts } from '../../src/address/port.ts';
import { formatPrefix } from '../../src/address/prefix.ts';
import { loadConfig, parseConfig } from '../../src/config/load.ts';
import { configPath, defaultConfigPath } from '../../src/config/path.ts';
import { FalcodropError } from '../../src/errors.ts';
import { defaultRules } from '../../src/judge/judge.ts';

const directory = mkdtempSync(join(tmpdir(), 'fd-config-'));
afterAll(() => rmSync(directory, { recursive: true }));

function problem(text: string, environment: NodeJS.ProcessEnv = {}): { code: string; message: string; hint?: string } {
  try {
    parseConfig(text, 'f.yaml', environment);
  } catch (error) {
    if (error instanceof FalcodropError) return error as { code: string; message: string; hint?: string };
    throw error;
  }
  throw new Error('taken');
}

test('nothing configured: the defaults', () => {
  for (const text of ['', '---\n', '# nothing\n', 'http:\nguard:\n']) {
    expect(parseConfig(text, 'f.yaml')).toMatchObject({
      automatic: 'monitor',
      rules: {
        maxAlertAgeSeconds: 300,
        policies: defaultRules.policies,
        guard: { allowPrivate: false, widest: { 4: 8, 6: 32 } },
      },
      service: { user: 'falcodrop', group: 'falcodrop' },
      hostAliases: [],
      http: { enabled: true, address: '127.0.0.1', port: 2804, maxBody: 1_048_576, maxConnections: 128 },
      interfaces: [],
      management: [],
      neverDropPorts: [],
      lines: { files: [], stdin: false },
    });
  }
});

test('HTTP for the network: where its secrets lie, from file and environment', () => {
  const { http } = parseConfig(
    `http:
  address: "::"
  socket: /run/falcodrop/http.sock
  token: { file: /a }
  path: { credential: path }
  tls: { cert: { file: /cert } }
  rate: { alerts: 100 }
`,
    'f.yaml',
    { FALCODROP_HTTP__TLS__KEY__CREDENTIAL: 'key', FALCODROP_HTTP__BASIC__FILE: '/b' },
  );
  expect(http).toEqual({
    enabled: true,
    address: '::',
    port: 2804,
    socket: '/run/falcodrop/http.sock',
    token: { file: '/a' },
    basic: { file: '/b' },
    path: { credential: 'path' },
    tls: { cert: { file: '/cert' }, key: { credential: 'key' }, clientCa: null },
    rate: { alerts: 100, burst: 1_000 },
    maxBody: 1_048_576,
    maxConnections: 128,
    remote: false,
    fleetHosts: [],
  });
});

test('everything configured', () => {
  const config = parseConfig(
    `automatic: enforce
guard: { allow_private: true, protected: [192.0.2.0/24, "2001:db8::1"], widest_v4: 16, widest_v6: 48 }
service: { user: root, group: 0 }
host_aliases: [web.example.org, 3f2a9c1b7d4e]
max_alert_age: 1h
http: { enabled: false, address: "::1", port: 0, max_body: 65536, max_connections: 4 }
interfaces: [eth0, eth1]
management: [198.51.100.0/24, "2001:db8:1::/48"]
never_drop_ports: [udp/51820, tcp/2222, tcp/22, tcp/22]
files: [{ path: /a, remote: true }, { path: /b, follow: false, fleet_hosts: [Web-2] }]
stdin: true
`,
    'f.yaml',
  );
  expect(config).toMatchObject({
    automatic: 'enforce',
    rules: { maxAlertAgeSeconds: 3600, guard: { allowPrivate: true, widest: { 4: 16, 6: 48 } } },
    service: { user: 'root', group: '0' },
    hostAliases: ['web.example.org', '3f2a9c1b7d4e'],
    http: { enabled: false, address: '::1', port: 0, maxBody: 65_536, maxConnections: 4 },
  });
  const { protected: range } = config.rules.guard;
  expect(range.covering(parseAddress('192.0.2.9'))).not.toBe(null);
  expect(range.covering(parseAddress('2001:db8::1'))).not.toBe(null);
  expect(range.covering(parseAddress('2001:db8::2'))).toBe(null);
  expect(config.interfaces).toEqual(['eth0', 'eth1']);
  expect(config.management.map(formatPrefix)).toEqual(['198.51.100.0/24', '2001:db8:1::/48']);
  expect(formatPorts(config.neverDropPorts)).toBe('tcp/22,tcp/2222,udp/51820');
  expect(config.lines).toEqual({
    files: [
      { path: '/a', follow: true, remote: true, fleetHosts: [] },
      { path: '/b', follow: false, remote: true, fleetHosts: ['Web-2'] },
    ],
    stdin: true,
  });
});

test.each([
  ['0', 0],
  ['"0"', 0],
  ['0s', 0],
  ['90s', 90],
  ['5m', 300],
])('max_alert_age: %s', (text, seconds) => {
  expect(parseConfig(`max_alert_age: ${text}`, 'f.yaml').rules.maxAlertAgeSeconds).toBe(seconds);
});

describe('mistakes name file, line, column and the way out', () => {
  test.each<[text: string, at: string, says: RegExp, hint?: RegExp]>([
    [
      'automatic: armed',
      '1:1',
      /automatic: expected monitor or enforce, not "armed"/,
      /for example automatic: monitor/,
    ],
    ['automatic:', '1:1', /automatic: expected monitor or enforce, not nothing/],
    ['automatic: [monitor]', '1:1', /expected monitor or enforce, not a list/],
    ['http:\n  prot: 2804', '2:3', /there is no setting http\.prot/, /did you mean port\?/],
    ['max-alert-age: 5m', '1:1', /there is no setting max-alert-age/, /did you mean max_alert_age\?/],
    ['guard:\n  widest4: 8', '2:3', /no setting guard\.widest4/, /did you mean widest_v4\?/],
    ['zzz: 1', '1:1', /no setting zzz/, /the settings are interfaces, automatic/],
    ['__proto__: { automatic: enforce }', '1:1', /no setting __proto__/],
    ['constructor: 1', '1:1', /no setting constructor/],
    [
      'guard:\n  protected:\n  - 192.0.2.0/24\n  - 192.0.2.1/24',
      '4:5',
      /guard\.protected\[1\]: .* has bits set beyond its length/,
      /write 192\.0\.2\.0\/24/,
    ],
    ['guard:\n  protected: [010.0.0.1]', '2:15', /leading zero/],
    ['guard: { widest_v4: 0 }', '1:10', /guard\.widest_v4/],
    ['max_alert_age: 5 minutes', '1:1', /not a duration/, /write a number and a unit/],
    ['max_alert_age: 5', '1:1', /max_alert_age: expected a duration, or 0, not 5/, /for example max_alert_age: 5m/],
    ['port: 2804', '1:1', /no setting port/, /did you mean http\.port\?/],
    ['files: [{ follow: true }]', '1:9', /files\[0\]\.path: is missing; expected an absolute path/],
    ['files: [{ path: a.log }]', '1:11', /files\[0\]\.path: is no absolute path/],
    ['files: [{ path: /a, folow: true }]', '1:21', /no setting files\[0\]\.folow/, /did you mean follow\?/],
    ['management: [0.0.0.0/0]', '1:14', /wider than \/8/],
    ['management: ["2000::/3"]', '1:14', /wider than \/16/],
    ['management: 192.0.2.0/24', '1:1', /expected a list of addresses and prefixes/, /management: \[198\.51/],
    ['never_drop_ports: [tcp/22, ssh]', '1:28', /never_drop_ports\[1\]: "ssh" is no port/, /write protocol\/number/],
    ['never_drop_ports: [22]', '1:20', /expected a protocol and a port, not 22/, /for example tcp\/22/],
    [
      `never_drop_ports: [${Array.from({ length: 17 }, (_, n) => `tcp/${n}`).join(', ')}]`,
      '1:1',
      /more ports than the kernel's 16/,
    ],
    ['interfaces: [a/b]', '1:14', /interfaces\[0\]: is no name of an interface/],
    ['interfaces: [eth0, eth0]', '1:1', /names an interface twice/],
    ['interfaces: [abcdefghijklmnop]', '1:14', /is no name of an interface/],
    ['http: { port: 65536 }', '1:9', /http\.port/],
    ['http: { port: "2804" }', '1:9', /http\.port: expected a whole number from 0 to 65535, not "2804"/],
    ['http: { max_body: 2000000 }', '1:9', /http\.max_body/],
    ['http: { address: localhost }', '1:9', /http\.address: is no IP address: 127\.0\.0\.1 and ::1 are for this host/],
    ['http: { address: 192.0.2.0/24 }', '1:9', /is no IP address/],
    ['http: { socket: http.sock }', '1:9', /http\.socket: is no absolute path/],
    ['http: { token: hunter2hunter2hunter2 }', '1:9', /http\.token: a secret may not stand here/],
    ['http: { tls: { key: /etc/key } }', '1:16', /http\.tls\.key: a secret may not stand here/],
    ['http: { rate: { burst: 0 } }', '1:17', /http\.rate\.burst: expected a whole number from 1 to 1000000/],
    ['http: 5', '1:1', /http/],
    ['service: { user: "a b" }', '1:12', /not a name of a user/],
    ['automatic: monitor\nautomatic: enforce', '2:1', /"automatic" stands here twice.*unique/],
    ['http: [', '1:8', /./],
    ['a: b: c', '1:4', /./],
    ['\tautomatic: monitor', '1:1', /[Tt]ab/],
    ['automatic: !!js/function "x"', '1:12', /[Tt]ag/],
  ])('%j', (text, at, says, hint) => {
    const error = problem(text);
    expect(error.code).toBe('config_invalid');
    expect(error.message).toMatch(says);
    expect(error.message.startsWith(`f.yaml:${at}: `), error.message).toBe(true);
    if (hint !== undefined) expect(error.hint).toMatch(hint);
  });

  test.each(['- a', '5', 'text', '"a"'])('%j is no map', (text) => {
    expect(problem(text)).toMatchObject({ code: 'config_invalid', message: expect.stringMatching(/keys and values/) });
  });

  test('aliases that multiply are refused', () => {
    const bomb = ['a: &a [x,x,x,x,x,x,x,x,x]'];
    for (let n = 0; n < 9; n++) {
      const [from, to] = [String.fromCharCode(97 + n), String.fromCharCode(98 + n)];
      bomb.push(`${to}: &${to} [${Array.from({ length: 9 }, () => `*${from}`).join(',')}]`);
    }
    expect(problem(bomb.join('\n'))).toMatchObject({ code: 'config_invalid', message: expect.stringMatching(/alias/) });
  });
});

describe('the environment', () => {
  test('beats the file; where things lie is not a setting', () => {
    const config = parseConfig('http: { port: 1, max_connections: 5 }\nautomatic: monitor', 'f.yaml', {
      FALCODROP_HTTP__PORT: '2805',
      FALCODROP_HTTP__ENABLED: 'false',
      FALCODROP_AUTOMATIC: 'enforce',
      FALCODROP_MAX_ALERT_AGE: '0',
      FALCODROP_SERVICE__USER: '1000',
      FALCODROP_GUARD__ALLOW_PRIVATE: 'true',
      FALCODROP_CONFIG: '/x',
      FALCODROP_PIN_DIR: '/x',
      FALCODROP_STATE_DIR: '/x',
      FALCODROP_NODE: '/x',
      FALCODROP_DEBUG: '1',
      HTTP__PORT: '7',
    });
    expect(config).toMatchObject({
      automatic: 'enforce',
      rules: { maxAlertAgeSeconds: 0, guard: { allowPrivate: true } },
      service: { user: '1000' },
      http: { port: 2805, enabled: false, maxConnections: 5 },
    });
  });

  test.each<[name: string, value: string, says: RegExp, hint?: RegExp]>([
    ['FALCODROP_HTTP__PORT', '28O4', /: http\.port: expected a whole number.*not "28O4"$/, /FALCODROP_HTTP__PORT=2804/],
    ['FALCODROP_HTTP__PORT', '', /not an empty text/],
    ['FALCODROP_HTTP__ENABLED', 'yes', /expected true or false, not "yes"/],
    ['FALCODROP_HTTP__ADDRESS', 'localhost', /is no IP address/],
    ['FALCODROP_HTTP__TOKEN', 'x', /a secret may not stand in the environment/],
    ['FALCODROP_HTTP__PROT', '1', /names no setting/, /did you mean FALCODROP_HTTP__PORT\?/],
    ['FALCODROP_AUTOMATC', 'x', /names no setting/, /did you mean FALCODROP_AUTOMATIC\?/],
    ['FALCODROP_http__port', '1', /names no setting/, /did you mean FALCODROP_HTTP__PORT\?/],
    ['FALCODROP_STATEDIR', '/x', /names no setting/, /did you mean FALCODROP_STATE_DIR\?/],
    ['FALCODROP_WRAPPED_BY', 'somebody', /names no setting/, /joined by "__", as in FALCODROP_/],
    ['FALCODROP_HTTP', '1', /names no setting/, /FALCODROP_HTTP__ENABLED, /],
    ['FALCODROP_GUARD__PROTECTED', '192.0.2.1', /guard\.protected is a list/, /set it in the file/],
    ['FALCODROP___PROTO____X', '1', /names no setting/],
    ['FALCODROP_CONSTRUCTOR', '1', /names no setting/],
    ['FALCODROP_', '1', /names no setting/],
  ])('%s=%s', (name, value, says, hint) => {
    const error = problem('', { [name]: value });
    expect(error.code).toBe('config_invalid');
    expect(error.message).toMatch(says);
    expect(error.message.startsWith(`${name}: `), error.message).toBe(true);
    if (hint !== undefined) expect(error.hint).toMatch(hint);
  });

  test('names and values that would move a cursor are shown and not obeyed', () => {
    const error = problem('', { 'FALCODROP_\x1b[2J': 'x' });
    expect(error.message).not.toContain('\x1b');
  });
});

test('of several problems the first is thrown, with the number of the others', () => {
  const error = problem('zzz: 1\nautomatic: x\nhttp: { port: -1 }', { FALCODROP_YYY: '1' });
  expect(error.message).toMatch(/^f\.yaml:1:1: there is no setting zzz/);
  expect(error.hint).toMatch(/; falcodrop check tells 3 more$/);
});

describe('the file', () => {
  test('that was named must be there and readable; the default need not', () => {
    const missing = join(directory, 'missing.yaml');
    expect(() => loadConfig(missing, {})).toThrowError(expect.objectContaining({ code: 'file_unreadable' }));
    expect(() => loadConfig(directory, {})).toThrowError(expect.objectContaining({ code: 'file_unreadable' }));
    const large = join(directory, 'large.yaml');
    writeFileSync(large, '#'.repeat((1 << 20) + 1));
    expect(() => loadConfig(large, {})).toThrowError(expect.objectContaining({ code: 'config_invalid' }));
    const good = join(directory, 'good.yaml');
    writeFileSync(good, 'automatic: enforce\n');
    expect(loadConfig(good, {}).automatic).toBe('enforce');
  });

  test.each([
    [undefined, {}, undefined],
    ['/a', { FALCODROP_CONFIG: '/b' }, '/a'],
    [undefined, { FALCODROP_CONFIG: '/b' }, '/b'],
    [undefined, { FALCODROP_CONFIG: '' }, undefined],
  ])('flag %j, environment %j', (flag, environment, path) => {
    expect(configPath(flag, environment)).toBe(path);
    expect(defaultConfigPath).toBe('/etc/falcodrop/falcodrop.yaml');
  });
});
