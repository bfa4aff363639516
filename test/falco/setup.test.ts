import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { defaultUrl, planSetup, requireUrl, type SetupPlan } from '../../src/falco/setup.ts';
import { parseFalcoVersion } from '../../src/falco/version.ts';

const folder = mkdtempSync(join(tmpdir(), 'falcodrop-plan-'));
afterAll(() => rmSync(folder, { recursive: true }));
let dir = '';
let n = 0;
beforeEach(() => {
  dir = join(folder, `${n++}`);
  mkdirSync(join(dir, 'config.d'), { recursive: true });
});

/** As Falco's configuration names a variable of its environment. */
const environment = (name: string): string => `$\{${name}}`;
const packaged = readFileSync('falco/config.d/falcodrop.yaml', 'utf8');
const stock = (more = ''): string =>
  `config_files:\n  - ${dir}/config.d\nrules_files:\n  - ${dir}/falco_rules.yaml\n  - ${dir}/rules.d\n${more}`;
const write = (name: string, text: string): void => writeFileSync(join(dir, name), text);
function plan(text = '0.43.1', url = defaultUrl): SetupPlan {
  const version = parseFalcoVersion(text);
  if (version === null) throw new Error('a version');
  return planSetup({ dir, version, url });
}
const codes = ({ notes }: SetupPlan): string[] => notes.map(({ code }) => code);
const configOf = ({ files }: SetupPlan) => files.find(({ path }) => path === 'config.d/falcodrop.yaml');
const keysOf = (text: string | null | undefined): string[] => Object.keys(parse(text ?? '') as object);

const json = ['json_output', 'json_include_output_property', 'json_include_tags_property'];

describe('what fits which Falco', () => {
  test.each<[string, readonly string[] | null, readonly string[] | null]>([
    ['0.30.0', null, [...json, 'http_output']],
    ['0.31.1', null, [...json, 'http_output']],
    ['0.37.1', null, [...json, 'http_output']],
    ['0.38.0', [...json, 'http_output'], null],
    ['0.39.2', [...json, 'http_output', 'append_output'], null],
    ['0.40.0', [...json, 'http_output', 'append_output'], null],
    ['0.41.0', [...json, 'json_include_output_fields_property', 'http_output', 'append_output'], null],
    ['0.44.1', [...json, 'json_include_output_fields_property', 'http_output', 'append_output'], null],
    ['1.0.0', [...json, 'json_include_output_fields_property', 'http_output', 'append_output'], null],
  ])('%s', (version, laid, byHand) => {
    write('falco.yaml', stock('http_output: {enabled: false, url: ""}\n'));
    const made = plan(version);
    expect(made.files.map(({ path, mode }) => [path, mode])).toEqual([
      ...(laid === null ? [] : [['config.d/falcodrop.yaml', 0o644]]),
      ['rules.d/falcodrop_rules.yaml', 0o644],
    ]);
    expect(keysOf(configOf(made)?.text ?? made.byHand).toSorted()).toEqual([...(laid ?? byHand ?? [])].toSorted());
    expect(made.byHand === null).toBe(byHand === null);
    expect(made.http).toBe(laid === null ? 'by_hand' : 'laid');
    const output = (parse(configOf(made)?.text ?? made.byHand ?? '') as { http_output: object }).http_output;
    expect(Object.keys(output)).toEqual(['enabled', 'url', 'user_agent', ...(version < '0.37' ? [] : ['keep_alive'])]);
    expect(codes(made)).toEqual(byHand === null ? [] : ['by_hand']);
  });

  test('all of it is the file in falco/, byte for byte; the rules always are', () => {
    write('falco.yaml', stock());
    expect(configOf(plan())?.text).toBe(packaged);
    const rules = readFileSync('falco/rules.d/falcodrop_rules.yaml', 'utf8');
    for (const version of ['0.31.0', '0.44.0']) expect(plan(version).files.at(-1)?.text).toBe(rules);
  });

  test('what the keys would bring is in falco.yaml already', () => {
    write(
      'falco.yaml',
      `rules_file: [/etc/falco/rules.d]\njson_output: true\nhttp_output: {enabled: true, url: "http://localhost:2804/"}\n`,
    );
    expect(plan('0.31.1')).toMatchObject({ byHand: null, http: 'ours', notes: [] });
  });

  test('config_files does not name config.d: the keys are printed', () => {
    write('falco.yaml', `rules_files: [${dir}/rules.d]\n`);
    const made = plan();
    expect([codes(made), made.files.length, keysOf(made.byHand).length]).toEqual([['by_hand'], 1, 6]);
    expect(made.notes[0]?.message).toContain(`does not name ${dir}/config.d`);
  });
});

describe('an http_output that is there', () => {
  test.each<[string, 'ours' | 'elsewhere']>([
    ['http://127.0.0.1:2804/falco', 'ours'],
    ['http://localhost:2804/secret-path', 'ours'],
    ['http://user:pw@[::1]:2804/', 'ours'],
    ['http://127.0.0.1:2801/', 'elsewhere'],
    ['http://falcosidekick:2801', 'elsewhere'],
    ['https://user:pw@siem.example/hook?token=s3cr3t', 'elsewhere'],
    [environment('URL'), 'elsewhere'],
  ])('%s is %s', (url, expected) => {
    write('config.d/http.yaml', `http_output: {enabled: true, url: "${url}"}\n`);
    write('falco.yaml', stock());
    const made = plan();
    expect(made.http).toBe(expected);
    expect(keysOf(configOf(made)?.text)).not.toContain('http_output');
    expect(keysOf(configOf(made)?.text)).toContain('append_output');
    expect(codes(made)).toEqual(expected === 'ours' ? [] : ['chain']);
    if (expected === 'ours') return;
    const [{ message } = { message: '' }] = made.notes;
    expect(message).toContain('WEBHOOK_ADDRESS=http://127.0.0.1:2804/');
    expect(message).toContain(join(dir, 'config.d/http.yaml'));
    expect(message).not.toMatch(/pw|s3cr3t/);
  });

  test('our own file is not taken for somebody else’s', () => {
    write('falco.yaml', stock());
    write('config.d/falcodrop.yaml', packaged);
    expect(plan()).toMatchObject({ http: 'laid', notes: [] });
    expect(configOf(plan('0.43.1', 'http://127.0.0.1:9999/falco'))?.text).toContain('url: http://127.0.0.1:9999/falco');
  });

  test('in a file that comes after ours, off: it decides, and that is said', () => {
    write('falco.yaml', stock());
    write('config.d/z.yaml', 'http_output: {enabled: false}\njson_output: false\n');
    expect(codes(plan())).toEqual(['overridden', 'overridden']);
  });
});

describe('other settings that are there', () => {
  test('json_output is for all outputs', () => {
    write('falco.yaml', stock('syslog_output: {enabled: true}\nfile_output: {enabled: true, filename: /x}\n'));
    const [note] = plan().notes;
    expect(note).toMatchObject({
      code: 'json_for_all',
      message: expect.stringContaining('syslog_output, file_output') as string,
    });
    write('falco.yaml', stock('syslog_output: {enabled: true}\njson_output: true\n'));
    expect(codes(plan())).toEqual([]);
  });

  test.each(['rules_files', 'rules_file'])('%s without rules.d: the file is named, in the same key', (key) => {
    write('falco.yaml', `config_files: [${dir}/config.d]\n${key}: [${dir}/falco_rules.yaml]\n`);
    const text = configOf(plan())?.text ?? '';
    expect(parse(text)).toMatchObject({ [key]: [`${dir}/rules.d/falcodrop_rules.yaml`] });
    expect(text.startsWith(packaged.trimEnd())).toBe(true);
  });

  test('of a directory that is mounted as /etc/falco its inner name is used', () => {
    write('falco.yaml', 'config_files: [/etc/falco/config.d]\nrules_files: [/etc/falco/falco_rules.yaml]\n');
    expect(configOf(plan())?.text).toContain('- /etc/falco/rules.d/falcodrop_rules.yaml\n');
    write('falco.yaml', 'config_files: [/etc/falco/config.d]\nrules_files: [/etc/falco/rules.d/]\n');
    expect(configOf(plan())?.text).toBe(packaged);
  });

  test('where config.d replaces lists, an append_output and a list of rules stay', () => {
    const main = `config_files: [{path: ${dir}/config.d, strategy: override}]\nrules_files: [/x]\n`;
    write('falco.yaml', `${main}append_output: [{suggested_output: true}]\n`);
    const made = plan();
    expect(keysOf(configOf(made)?.text)).not.toContain('append_output');
    expect(keysOf(configOf(made)?.text)).not.toContain('rules_files');
    expect(codes(made)).toEqual(['append_output_left', 'rules_unread']);
  });

  test('where falco.yaml wins over config.d, its http_output is named', () => {
    const main = `config_files: [{path: ${dir}/config.d, strategy: add-only}]\nrules_files: [${dir}/rules.d]\n`;
    write('falco.yaml', `${main}http_output: {enabled: false}\n`);
    const made = plan();
    expect(codes(made)).toEqual(['overridden']);
    expect(made.notes[0]?.message).toContain('falco.yaml decides about http_output');
  });

  test('without falco.yaml, the defaults', () => {
    expect(codes(plan())).toEqual(['no_configuration']);
    expect(configOf(plan())?.text).toBe(packaged);
  });
});

describe('the URL', () => {
  test('with a secret in it is root’s alone to read', () => {
    write('falco.yaml', stock());
    for (const url of [
      'http://u:p@127.0.0.1:2804/falco',
      'http://127.0.0.1:2804/s3cr3t',
      'http://127.0.0.1:2804/falco?k=v',
    ]) {
      const made = plan('0.43.1', url);
      expect(configOf(made)?.mode).toBe(0o600);
      expect((parse(configOf(made)?.text ?? '') as { http_output: { url: string } }).http_output.url).toBe(url);
      expect(configOf(made)?.why).not.toMatch(/u:p|s3cr3t|k=v/);
    }
    expect(configOf(plan('0.43.1', 'http://[::1]:2805/falco'))?.mode).toBe(0o644);
  });

  test.each([
    '',
    '127.0.0.1:2804',
    'ftp://x/',
    'unix:///x',
    'http://x/\n',
    'http://x/ y',
    'http://x/"',
    `http://x/${environment('HOME')}`,
    'http://x/ü',
  ])('%j is none', (url) => {
    expect(() => requireUrl(url)).toThrow(expect.objectContaining({ code: 'usage' }));
  });
});
