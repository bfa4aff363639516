import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { falcodrop, objects } from './falcodrop.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fd-check-'));
  mkdirSync(join(folder, 'conf.d'), { mode: 0o755 });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, text: string): void {
  writeFileSync(join(folder, name), text, { mode: 0o644 });
}

function check(args: readonly string[] = [], environment: NodeJS.ProcessEnv = {}) {
  const { status, stdout, stderr } = falcodrop(['check', '--config', join(folder, 'f.yaml'), ...args], environment);
  return { status, stdout: stdout.replaceAll(`${folder}/`, ''), stderr: stderr.replaceAll(`${folder}/`, '') };
}

/** A user and a group that are everywhere. */
const right = 'service: { user: root, group: root }\n';

test('what is right: which files hold, and 0', () => {
  write('f.yaml', right);
  write('conf.d/a.yaml', 'http: { port: 2805 }');
  expect(check()).toEqual({ status: 0, stdout: 'the configuration is right: f.yaml, conf.d/a.yaml\n', stderr: '' });
});

test('every problem at once with its place and the way out, and 2', () => {
  write('f.yaml', `${right}http:\n  prot: 1\nmax_alert_age: 5\n`);
  write('conf.d/a.yaml', 'a: [');
  const { status, stdout, stderr } = check([], { FALCODROP_HTTP__PROT: '1' });
  expect({ status, stdout }).toEqual({ status: 2, stdout: 'there are 4 problems\n' });
  expect(stderr.split('\n')).toEqual([
    'falcodrop: f.yaml:3:3: there is no setting http.prot',
    '  did you mean port?',
    'falcodrop: f.yaml:4:1: max_alert_age: expected a duration, or 0, not 5',
    '  for example max_alert_age: 5m',
    expect.stringMatching(/^falcodrop: conf\.d\/a\.yaml:1:5: /),
    'falcodrop: FALCODROP_HTTP__PROT: "FALCODROP_HTTP__PROT" names no setting',
    '  did you mean FALCODROP_HTTP__PORT?',
    '',
  ]);
});

test('in JSON: one object, nothing on stderr', () => {
  write('f.yaml', 'http:\n  prot: 1\n');
  const { status, stdout, stderr } = check(['--json', '--print'], { FALCODROP_ZZZ: '1' });
  expect({ status, stderr }).toEqual({ status: 2, stderr: '' });
  expect(objects(stdout)).toEqual([
    {
      valid: false,
      files: ['f.yaml'],
      problems: [
        {
          file: 'f.yaml',
          line: 2,
          column: 3,
          variable: null,
          setting: 'http.prot',
          message: 'there is no setting http.prot',
          hint: 'did you mean port?',
        },
        expect.objectContaining({ file: null, line: null, column: null, variable: 'FALCODROP_ZZZ', setting: null }),
      ],
      warnings: [],
    },
  ]);
});

test.each([
  ['no such file', () => undefined, /f\.yaml: there is no such file/],
  ['a directory', () => mkdirSync(join(folder, 'f.yaml')), /f\.yaml: it is a directory/],
])('%s is a problem like another', (_, make, says) => {
  make();
  const { status, stderr } = check();
  expect(status).toBe(2);
  expect(stderr).toMatch(says);
});

describe('--print', () => {
  test('is YAML with the origin of each value, and is right itself', () => {
    write('f.yaml', `${right}automatic: enforce\n`);
    write('conf.d/a.yaml', 'http:\n  port: 2805\n');
    const { status, stdout } = check(['--print'], { FALCODROP_HTTP__MAX_BODY: '2048' });
    expect(status).toBe(0);
    expect(stdout).toMatch(/^automatic: enforce +# f\.yaml:2$/m);
    expect(stdout).toMatch(/^ {2}port: 2805 +# conf\.d\/a\.yaml:2$/m);
    expect(stdout).toMatch(/^ {2}max_body: 2048 +# FALCODROP_HTTP__MAX_BODY$/m);
    expect(stdout).toMatch(/^ {2}enabled: true +# default$/m);
    write('f.yaml', stdout);
    rmSync(join(folder, 'conf.d/a.yaml'));
    expect(parse(check(['--print']).stdout)).toEqual(parse(stdout));
  });

  test('in JSON', () => {
    write('f.yaml', right);
    const [object] = objects(check(['--print', '--json'], { FALCODROP_HTTP__PORT: '7' }).stdout);
    expect(object).toMatchObject({
      valid: true,
      problems: [],
      settings: { automatic: 'monitor', http: { port: 7 }, service: { user: 'root' } },
      origins: {
        'http.port': { file: null, line: null, column: null, variable: 'FALCODROP_HTTP__PORT' },
        'service.user': { file: 'f.yaml', line: 1, column: 12, variable: null },
        automatic: { file: null, line: null, column: null, variable: null },
      },
    });
  });

  test('prints nothing of a configuration that is wrong', () => {
    write('f.yaml', 'zzz: 1');
    expect(check(['--print']).stdout).toBe('there is a problem\n');
  });
});

describe('warnings change nothing', () => {
  test.each<[string, string, RegExp]>([
    [
      'an interface',
      `${right}interfaces: [fdnowhere0]`,
      /^warning: interfaces: there is no interface fdnowhere0 now$/m,
    ],
    ['a user', 'service: { user: fd-nobody, group: root }', /there is no user fd-nobody/],
    ['a group', 'service: { user: root, group: fd-nobody }', /there is no group fd-nobody/],
    ['no way in', `${right}http: { enabled: false }`, /hears of no alert/],
  ])('%s that is not there', (_, text, says) => {
    write('f.yaml', text);
    const { status, stdout, stderr } = check();
    expect({ status, stdout }).toEqual({ status: 0, stdout: 'the configuration is right: f.yaml\n' });
    expect(stderr).toMatch(says);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  test('certificates of a Falco that are not there', () => {
    const tls = `ca: ${folder}/none.crt, cert: ${folder}, key: { credential: key }`;
    write(
      'f.yaml',
      `${right}\ngrpc: [{ address: "h:1", tls: { ${tls} } }, { address: "i:1", enabled: false, tls: { ${tls} } }]`,
    );
    const [object] = objects(check(['--json']).stdout);
    expect(object).toMatchObject({
      valid: true,
      warnings: [{ code: 'file_missing', message: 'grpc h:1: there is no file none.crt now' }],
    });
  });

  test('a file that everybody may write, and one of conf.d that is passed over', () => {
    write('f.yaml', right);
    chmodSync(join(folder, 'f.yaml'), 0o666);
    write('conf.d/b.yml', 'zzz: 1');
    const [object] = objects(check(['--json']).stdout);
    expect(object).toMatchObject({ valid: true, warnings: [{ code: 'passed_over' }, { code: 'file_writable' }] });
  });
});

test('allow files are checked too, line by line', (context) => {
  if (process.geteuid?.() !== 0) return context.skip('allow files must be root’s');
  write('f.yaml', right);
  mkdirSync(join(folder, 'allow.d'), { mode: 0o755 });
  write('allow.d/20-office', '# ours\n192.0.2.1\n192.0.2.1/24\n0.0.0.0/0\n');
  const { status, stderr } = check();
  expect(status).toBe(2);
  expect(stderr).toMatch(/^falcodrop: allow\.d\/20-office:3: .*bits set beyond/m);
  expect(stderr).toMatch(/^falcodrop: allow\.d\/20-office:4: 0\.0\.0\.0\/0 is wider/m);
});

describe('HTTP for the network', () => {
  test('without authentication it would not start: said with the ways out', () => {
    write('f.yaml', `${right}http:\n  address: 0.0.0.0\n`);
    const { status, stdout, stderr } = check();
    expect({ status, stdout }).toEqual({ status: 2, stdout: 'there is a problem\n' });
    expect(stderr).toMatch(
      /^falcodrop: f\.yaml:3:3: HTTP on 0\.0\.0\.0 would take alerts from whoever reaches it\n.*http\.token/,
    );
  });

  test('with a secret that can be guessed, or is not there, neither; a credential of the unit is not looked for', () => {
    const secret = (named: string) => write('f.yaml', `${right}http:\n  address: 0.0.0.0\n  token: ${named}\n`);
    secret(`{ file: ${folder}/token }`);
    expect(check().stderr).toMatch(/http\.token: token: there is no such file/);
    writeFileSync(join(folder, 'token'), 'guessed\n', { mode: 0o600 });
    const { status, stderr } = check();
    expect(status).toBe(2);
    expect(stderr).toMatch(/^falcodrop: f\.yaml:4:3: http\.token: it has less than 16 characters/);
    expect(stderr).not.toContain('guessed');
    writeFileSync(join(folder, 'token'), 'tokentokentokentoken\n', { mode: 0o600 });
    expect(check().status).toBe(0);
    secret('{ credential: http-token }');
    expect(check().status).toBe(0);
  });
});
