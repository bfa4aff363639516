import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { FalcodropError } from '../../src/errors.ts';
import {
  healthUrlOf,
  httpOutputOf,
  isOn,
  otherOutputsOf,
  readFalcoConfiguration,
  rulesKey,
  rulesPaths,
} from '../../src/falco/configuration.ts';
import { parseFalcoVersion } from '../../src/falco/version.ts';

const folder = mkdtempSync(join(tmpdir(), 'falcodrop-falco-'));
afterAll(() => rmSync(folder, { recursive: true }));
let dir = '';
let n = 0;
beforeEach(() => {
  dir = join(folder, `${n++}`);
  mkdirSync(join(dir, 'config.d'), { recursive: true });
});

/** As Falco's configuration names a variable of its environment. */
const environment = (name: string): string => `$\{${name}}`;
const write = (name: string, text: string): void => writeFileSync(join(dir, name), text);
const read = (text = '0.43.1') => {
  const version = parseFalcoVersion(text);
  if (version === null) throw new Error('a version');
  return readFalcoConfiguration(dir, version);
};
const settingsOf = (version?: string) =>
  Object.fromEntries([...read(version).settings].map(([key, { value }]) => [key, value]));
const include = () => `config_files: [${dir}/config.d]\n`;

describe('how files become one configuration', () => {
  beforeEach(() => {
    write('config.d/b.yaml', 'json_output: true\nrules_files: [/b]\nhttp_output: {enabled: true, url: "http://b/"}\n');
    write('config.d/a.conf', 'json_output: false\nrules_files: [/a]\npriority: debug\n');
  });

  test('by name, whatever their endings; scalars and maps replace, lists are appended', () => {
    write('falco.yaml', `${include()}rules_files: [/main]\nhttp_output: {enabled: false, mtls: true}\n`);
    expect(settingsOf()).toMatchObject({
      json_output: true,
      rules_files: ['/main', '/a', '/b'],
      http_output: { enabled: true, url: 'http://b/' },
      priority: 'debug',
    });
    expect(httpOutputOf(read())).toEqual({ url: 'http://b/', path: join(dir, 'config.d/b.yaml') });
    expect(read().fragments).toBe('append');
  });

  test('with override lists are replaced, with add-only nothing is', () => {
    const main = (strategy: string) =>
      write('falco.yaml', `config_files: [{path: ${dir}/config.d, strategy: ${strategy}}]\nrules_files: [/main]\n`);
    main('override');
    expect(settingsOf()).toMatchObject({ rules_files: ['/b'], json_output: true });
    main('add-only');
    expect(settingsOf()).toMatchObject({ rules_files: ['/main'], json_output: false });
    expect(read().fragments).toBe('add-only');
  });

  test('before 0.38, or where config_files does not name it, config.d is not read', () => {
    write('falco.yaml', include());
    expect(read('0.37.1')).toMatchObject({ fragments: null });
    expect(settingsOf('0.37.1')).not.toHaveProperty('json_output');
    write('falco.yaml', 'json_output: false\n');
    expect(read().fragments).toBeNull();
    expect(settingsOf()).toEqual({ json_output: false });
  });

  test('names in config_files that are not there are passed over; one file may be named', () => {
    write('falco.yaml', `config_files: [/nonexistent, ${dir}/config.d/b.yaml]\n`);
    expect(settingsOf()).toMatchObject({ json_output: true });
    expect(read().fragments).toBeNull();
  });

  test('/etc/falco means the directory that is read', () => {
    write('falco.yaml', 'config_files: [/etc/falco/config.d/]\n');
    expect(read()).toMatchObject({ fragments: 'append', isHere: false });
    expect(settingsOf()).toMatchObject({ json_output: true });
    write('falco.yaml', include());
    expect(read().isHere).toBe(true);
  });

  test('without falco.yaml nothing is known', () => {
    expect(read()).toMatchObject({ main: null, fragments: 'append', isHere: true });
    expect(settingsOf()).toEqual({});
  });
});

describe('what is broken is refused, and named', () => {
  const bomb = `a: &a [x, x, x, x, x, x, x, x, x]\n${'bcdefghi'
    .split('')
    .map((key, i) => `${key}: &${key} [${Array(9).fill(`*${'abcdefgh'[i]}`).join(', ')}]`)
    .join('\n')}\n`;
  test.each<[string, string, RegExp]>([
    ['no YAML', 'a: [', /falco\.yaml is not what Falco reads: /],
    ['a list', '- a\n', /it has no keys/],
    ['a text', 'falco', /it has no keys/],
    ['a key twice', 'json_output: true\njson_output: false\n', /"json_output" stands there twice/],
    ['an anchor that is not there', 'a: *b\n', /falco\.yaml is not what Falco reads/],
    ['aliases in aliases', bomb, /falco\.yaml is not what Falco reads/],
    ['levels', `a: ${'['.repeat(20_000)}`, /falco\.yaml is not what Falco reads/],
    ['NUL', 'a: "\u0000', /falco\.yaml is not what Falco reads/],
    ['a mebibyte and more', `# ${'x'.repeat(1 << 20)}\n`, /larger than 1024 KiB/],
  ])('%s', (_, text, message) => {
    write('falco.yaml', text);
    const thrown = thrownBy(() => read());
    expect(thrown).toMatchObject({ code: 'falco_config', message: expect.stringMatching(message) as string });
    expect(thrown.message).not.toContain('\n');
  });

  test('config_files in an included file, a pipe, too many files', () => {
    write('falco.yaml', include());
    write('config.d/x.yaml', 'config_files: [/x]\n');
    expect(thrownBy(() => read()).message).toContain('config.d/x.yaml');
    rmSync(join(dir, 'config.d/x.yaml'));
    expect(spawnSync('mkfifo', [join(dir, 'falco-pipe')]).status).toBe(0);
    rmSync(join(dir, 'falco.yaml'));
    symlinkSync('falco-pipe', join(dir, 'falco.yaml'));
    expect(thrownBy(() => read()).message).toContain('no regular file');
    rmSync(join(dir, 'falco.yaml'));
    write('falco.yaml', include());
    for (let i = 0; i < 257; i++) write(`config.d/${i}`, '');
    expect(thrownBy(() => read()).message).toContain('more than 256 files');
  });

  test('many keys take no time', () => {
    write('falco.yaml', Array.from({ length: 60_000 }, (_, i) => `k${i}: 1\n`).join(''));
    const begun = performance.now();
    expect(read().settings.size).toBe(60_000);
    expect(performance.now() - begun).toBeLessThan(10_000);
  });

  test('any text is read, or refused by name', () => {
    const line = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.constantFrom(
        'http_output:',
        '  enabled: on',
        `  url: ${environment('X')}`,
        'rules_files: [',
        ']',
        '- a',
        'a: &a',
        'b: *a',
        '? x',
        '!!map {',
        '}',
      ),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 12 }), (lines) => {
        write('falco.yaml', lines.join('\n'));
        try {
          const configuration = read();
          for (const ask of [httpOutputOf, otherOutputsOf, rulesPaths, healthUrlOf]) ask(configuration);
        } catch (error) {
          expect(error).toMatchObject({ code: 'falco_config' });
        }
      }),
      { numRuns: 300 },
    );
  });
});

function thrownBy(work: () => unknown): FalcodropError {
  try {
    work();
  } catch (error) {
    if (error instanceof FalcodropError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('what is read of it', () => {
  test.each([
    ['{enabled: true, url: http://x/}', 'http://x/'],
    ['{enabled: yes, url: http://x/}', 'http://x/'],
    ['{enabled: "On", url: http://x/}', 'http://x/'],
    ['{enabled: false, url: http://x/}', null],
    ['{url: http://x/}', null],
    [`{enabled: "${environment('HTTP')}", url: "${environment('URL')}"}`, environment('URL')],
    ['true', null],
    ['[]', null],
  ])('http_output: %s', (text, expected) => {
    write('falco.yaml', `http_output: ${text}\n`);
    expect(httpOutputOf(read())?.url ?? null).toBe(expected);
  });

  test.each([
    ['{enabled: true}', 'http://127.0.0.1:8765/healthz'],
    ['{enabled: true, listen_address: "::", listen_port: 1}', 'http://[::1]:1/healthz'],
    ['{enabled: true, listen_address: 192.0.2.1, ssl_enabled: true}', 'https://192.0.2.1:8765/healthz'],
    ['{enabled: true, k8s_healthz_endpoint: /well}', 'http://127.0.0.1:8765/well'],
    ['{enabled: true, listen_port: x}', null],
    ['{enabled: false}', null],
    ['', null],
  ])('webserver: %s', (text, expected) => {
    write('falco.yaml', `webserver: ${text}\n`);
    expect(healthUrlOf(read())).toBe(expected);
  });

  test('outputs, rules, words for true', () => {
    write('falco.yaml', 'rules_file: [/a, 7]\nfile_output: {enabled: True}\nsyslog_output: {enabled: false}\n');
    expect([otherOutputsOf(read()), rulesKey(read()), rulesPaths(read())]).toEqual([
      ['file_output'],
      'rules_file',
      ['/a'],
    ]);
    write('falco.yaml', 'rules_files: /one\n');
    expect([rulesKey(read()), rulesPaths(read())]).toEqual(['rules_files', ['/one']]);
    expect(['y', 'no', true, false, null, 1, 'true '].map(isOn)).toEqual([
      true,
      false,
      true,
      false,
      false,
      false,
      false,
    ]);
  });
});
