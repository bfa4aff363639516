import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parseAddress } from '../../src/address/address.ts';
import { loadConfig, parseConfig } from '../../src/config/load.ts';
import { configPath, defaultConfigPath } from '../../src/config/path.ts';
import { expectedAt, scalars } from '../../src/config/schema.ts';
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
    });
  }
});

test('everything configured', () => {
  const config = parseConfig(
    `automatic: enforce
guard: { allow_private: true, protected: [192.0.2.0/24, "2001:db8::1"], widest_v4: 16, widest_v6: 48 }
service: { user: root, group: 0 }
host_aliases: [web.example.org, 3f2a9c1b7d4e]
max_alert_age: 1h
http: { enabled: false, address: "::1", port: 0, max_body: 65536, max_connections: 4 }
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
    ['automatic: armed', '1:1', /expected one of "monitor"\|"enforce"/],
    ['http:\n  prot: 2804', '2:3', /there is no setting http\.prot/, /did you mean port\?/],
    ['max-alert-age: 5m', '1:1', /there is no setting max-alert-age/, /did you mean max_alert_age\?/],
    ['guard:\n  widest4: 8', '2:3', /no setting guard\.widest4/, /did you mean widest_v4\?/],
    ['zzz: 1', '1:1', /no setting zzz/, /the settings here are automatic, guard/],
    ['__proto__: { automatic: enforce }', '1:1', /no setting __proto__/],
    ['constructor: 1', '1:1', /no setting constructor/],
    [
      'guard:\n  protected:\n  - 192.0.2.0/24\n  - 192.0.2.1/24',
      '4:5',
      /bits set beyond its length; write 192\.0\.2\.0\/24/,
    ],
    ['guard:\n  protected: [010.0.0.1]', '2:15', /leading zero/],
    ['guard: { widest_v4: 0 }', '1:10', /guard\.widest_v4/],
    ['max_alert_age: 5 minutes', '1:1', /not a duration; write a number and a unit/],
    ['max_alert_age: 5', '1:1', /max_alert_age: it is not what may stand here/, /a duration, as 90s, 5m or 1h, or 0/],
    ['service: { user: [a] }', '1:12', /service\.user/, /name or the number of a user/],
    ['foreign: keep', '1:1', /foreign/, /adopt or remove/],
    ['http: { port: 65536 }', '1:9', /http\.port/],
    ['http: { port: "2804" }', '1:9', /http\.port.*expected number/],
    ['http: { max_body: 2000000 }', '1:9', /http\.max_body/],
    ['http: { address: 0.0.0.0 }', '1:9', /must be a loopback address.*not authenticated/],
    ['http: { address: localhost }', '1:9', /must be a loopback address/],
    ['http: { address: 192.0.2.1 }', '1:9', /must be a loopback address/],
    ['http: 5', '1:1', /http/],
    ['service: { user: "a b" }', '1:12', /not a name of a user/],
    ['automatic: monitor\nautomatic: enforce', '2:1', /unique/],
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

describe('every setting of a wrong kind says what is expected, with an example', () => {
  const lists = ['guard.protected', 'host_aliases'];
  const levels = ['guard', 'service', 'http'];
  const places = [...scalars().map(({ path }) => path.join('.')), ...lists, ...levels];

  test('all there are', () => {
    expect(places).toHaveLength(20 - 2);
    for (const place of [...places, ...lists.map((list) => `${list}.0`)]) {
      const steps = place.split('.').map((step) => (step === '0' ? 0 : step));
      expect(expectedAt(steps), place).toMatch(/\bas \S|true or false/);
    }
  });

  test.each(places)('%s', (place) => {
    const [first = '', second] = place.split('.');
    for (const wrong of ['{ a: { b: 1 } }', '[[1]]', '-1.5']) {
      // A level of settings takes a map.
      if (levels.includes(place) && wrong.startsWith('{')) continue;
      const { message, hint } = problem(
        second === undefined ? `${first}: ${wrong}` : `${first}: { ${second}: ${wrong} }`,
      );
      expect(message).toContain(`${place}`);
      expect(message).not.toMatch(/Invalid input$/);
      expect(hint).toMatch(/^expected is /);
    }
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
      FALCODROP_WRAPPED_BY: 'somebody',
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
    ['FALCODROP_HTTP__PORT', '28O4', /^FALCODROP_HTTP__PORT: .*expected number/],
    ['FALCODROP_HTTP__PORT', '', /^FALCODROP_HTTP__PORT: /],
    ['FALCODROP_HTTP__ENABLED', 'yes', /^FALCODROP_HTTP__ENABLED: .*expected boolean/],
    ['FALCODROP_HTTP__PROT', '1', /names no setting/, /did you mean FALCODROP_HTTP__PORT\?/],
    ['FALCODROP_AUTOMATC', 'x', /names no setting/, /did you mean FALCODROP_AUTOMATIC\?/],
    ['FALCODROP_GUARD__PROTECTED', '192.0.2.1', /names no setting/],
    ['FALCODROP___PROTO____X', '1', /names no setting/],
    ['FALCODROP_HTTP__ADDRESS', '0.0.0.0', /^FALCODROP_HTTP__ADDRESS: .*loopback/],
  ])('%s=%s', (name, value, says, hint) => {
    const error = problem('', { [name]: value });
    expect(error.code).toBe('config_invalid');
    expect(error.message).toMatch(says);
    if (hint !== undefined) expect(error.hint).toMatch(hint);
  });
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
