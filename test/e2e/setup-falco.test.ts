/** `falcodrop setup falco`, the built command, beside a stand-in of Falco. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { native } from '../../src/kernel/native.ts';
import { command, environmentOf, objects, root } from '../cli/falcodrop.ts';
import { refusedText } from '../falco/stand-in.ts';
import { type FalcoDir, makeFalcoDir } from './falco-dir.ts';

const config = 'config.d/falcodrop.yaml';
const rules = 'rules.d/falcodrop_rules.yaml';

let falco: FalcoDir;
beforeEach(() => {
  falco = makeFalcoDir();
});
afterEach(() => falco.close());

const setup = ['setup', 'falco'];
const apply = [...setup, '--apply'];
const remove = [...setup, '--remove'];
/** Without a falco: nothing is asked and nothing validated. */
const without = { PATH: '/usr/bin:/bin' };
const given = ['--falco-version', '0.43.1'];
interface ToldFile {
  readonly status: string;
  readonly backup: string;
}
const filesOf = (said: Record<string, unknown> | undefined): ToldFile[] => (said?.files ?? []) as ToldFile[];
const statuses = (said: Record<string, unknown> | undefined) => filesOf(said).map(({ status }) => status);

describe('told', () => {
  test('what fits, where it goes and why; nothing is changed', () => {
    const before = falco.tree();
    const { status, stdout, stderr } = falco.run(setup);
    expect(status).toBe(0);
    expect(stdout).toContain(`Falco 0.43.1 (${falco.standIns.falco}), which reads ${falco.dir}\n`);
    expect(stdout).toContain(
      `missing    ${falco.dir}/${config}: JSON alerts, addresses on every network rule, posted to`,
    );
    expect(stdout).toContain('- rule: Connection to Canary Port');
    expect(stderr).toContain('falcodrop setup falco --apply lays it down');
    expect(falco.tree()).toEqual(before);
  });

  test('in keys that are frozen: add, never rename', () => {
    for (const words of [setup, [...setup, '--diff'], apply, apply, remove]) {
      const { status, said } = falco.json(words);
      expect(status).toBe(0);
      expect(Object.keys(said ?? {})).toEqual([
        ...['status', 'falco_version', 'falco', 'falco_dir', 'http_output', 'files', 'by_hand'],
        ...['validated', 'restart', 'notes'],
      ]);
      expect(filesOf(said)).toHaveLength(2);
      for (const file of filesOf(said)) {
        expect(Object.keys(file)).toEqual(['path', 'status', 'why', 'text', 'diff', 'backup']);
      }
    }
  });

  test('as a diff that makes what apply lays', () => {
    falco.write(rules, '- list: mine\n  items: [1]\n');
    const diff = falco.run([...setup, '--diff']);
    expect(diff.status).toBe(0);
    expect(diff.stdout).toMatch(/^--- \/dev\/null\n\+\+\+ .*falcodrop\.yaml\n@@ -0,0 \+1,\d+ @@\n/);
    expect(diff.stdout).toContain('\n-- list: mine\n');
    const patched = spawnSync('patch', ['-p0', '-d', '/'], { input: diff.stdout, encoding: 'utf8' });
    expect(patched).toMatchObject({ status: 0 });
    expect(falco.run([...setup, '--diff']).stdout).toBe('');
    expect(falco.json(apply).said).toMatchObject({ status: 'unchanged' });
  });

  test('for an old Falco: the keys for falco.yaml, which is never written to', () => {
    const main = falco.read('falco.yaml');
    const { said } = falco.json(apply, { STAND_IN_VERSION: '0.31.1' });
    expect(said).toMatchObject({
      status: 'laid',
      falco_version: '0.31.1',
      http_output: 'by_hand',
      notes: [{ code: 'by_hand' }],
    });
    expect(said?.by_hand).toContain('url: http://127.0.0.1:2804/falco');
    expect(falco.has(config)).toBe(false);
    expect(falco.read('falco.yaml')).toBe(main);
    expect(falco.run(setup, { STAND_IN_VERSION: '0.31.1' }).stdout).toContain('falco.yaml, by hand\n');
  });

  test.each<[string, NodeJS.ProcessEnv, readonly string[], number, string]>([
    ['no falco', without, setup, 4, 'falco_missing'],
    ['a falco that is named and not there', {}, [...setup, '--falco', '/nonexistent/falco'], 4, 'falco_missing'],
    ['too old a Falco', { STAND_IN_VERSION: '0.29.1' }, apply, 1, 'falco_unfit'],
    ['a Falco that does not tell its version', { STAND_IN_VERSION: 'fails' }, setup, 1, 'falco_unfit'],
    ['no version', without, [...setup, '--falco-version', 'new'], 2, 'usage'],
    ['two ways', {}, [...apply, '--remove'], 2, 'usage'],
    ['no URL', {}, [...setup, '--url', 'nowhere'], 2, 'usage'],
    ['another word', {}, ['setup', 'falcon'], 2, 'usage'],
    ['one word more', {}, [...setup, 'x'], 2, 'usage'],
  ])('%s', (_, environment, words, status, code) => {
    expect(falco.json(words, environment)).toMatchObject({ status, said: undefined, error: { code } });
    expect(falco.has('falcodrop')).toBe(false);
  });

  test('without falco, for the version that is given', () => {
    expect(falco.json([...setup, ...given], without)).toMatchObject({
      status: 0,
      said: { falco: null, falco_version: '0.43.1', http_output: 'laid' },
    });
    expect(falco.json([...apply, ...given], without).said).toMatchObject({
      validated: [],
      notes: [{ code: 'not_validated' }],
    });
  });

  test('the port is that of falcodrop’s configuration', () => {
    const path = join(falco.folder, 'falcodrop.yaml');
    writeFileSync(path, 'http: { port: 2905 }\n');
    expect(falco.run([...setup, '--config', path]).stdout).toContain('url: http://127.0.0.1:2905/falco');
    writeFileSync(path, 'http: { enabled: false }\n');
    expect(falco.json([...setup, '--config', path]).said).toMatchObject({ notes: [{ code: 'http_off' }] });
  });

  test.each([
    ['path: { file: /s/path }', '--url "http://127.0.0.1:2804/$(cat /s/path)"'],
    ['basic: { file: /s/basic }, port: 2905', '--url "http://$(cat /s/basic)@127.0.0.1:2905/"'],
    ['token: { file: /s/token }', 'Falco can send no token'],
    ['path: { credential: p }, address: "::1"', '--url "http://[::1]:2804/SECRET"'],
    [
      'tls: { cert: { file: /s/c }, key: { file: /s/k }, client_ca: { file: /s/a } }',
      '--url "https://127.0.0.1:2804/"',
    ],
  ])('where falcodrop asks who sends, a URL without that is not laid: %s', (http, hint) => {
    const path = join(falco.folder, 'falcodrop.yaml');
    writeFileSync(path, `http: { ${http} }\n`);
    const before = falco.tree();
    expect(falco.json([...apply, '--config', path])).toMatchObject({
      status: 2,
      error: { code: 'usage', hint: expect.stringContaining(hint) as string },
    });
    expect(falco.tree()).toEqual(before);
    const [note] = (falco.json([...setup, '--config', path]).said?.notes ?? []) as Record<string, string>[];
    expect(note).toMatchObject({ code: 'url_refused', message: expect.stringContaining(hint) as string });
    expect(falco.json([...apply, '--config', path, '--url', 'http://127.0.0.1:2804/whole']).status).toBe(0);
  });

  test('from the bundle alone, without the tree', () => {
    const dist = join(falco.folder, 'dist');
    cpSync(join(root, 'dist'), dist, { recursive: true });
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(dist, 'main.js'), ...setup, ...given, '--falco-dir', falco.dir],
      {
        encoding: 'utf8',
        cwd: falco.folder,
        env: environmentOf({ FALCODROP_CONFIG: '', ...without }),
      },
    );
    expect({ status, stderr }).toMatchObject({ status: 0 });
    expect(stdout).toContain('falcodrop_canary_ports');
  });
});

describe('laid down', () => {
  test('validated before and after, root’s, 0644; a second time unchanged, and Falco is not asked', () => {
    const umask = process.umask(0o077);
    const { status, said } = falco.json(apply);
    process.umask(umask);
    expect([status, said?.status, statuses(said)]).toEqual([0, 'laid', ['laid', 'laid']]);
    expect(said).toMatchObject({
      validated: ['falco --validate', 'falco --dry-run'],
      restart: 'systemctl restart falco-modern-bpf',
      http_output: 'laid',
    });
    const main = join(falco.dir, 'falco.yaml');
    expect(falco.calls()).toEqual([
      ['--version'],
      ['-c', main, '--dry-run'],
      ['-c', main, '--validate', expect.stringMatching(/\/etc\/falcodrop\/stage-\d+\.d\/falcodrop_rules\.yaml$/)],
      ['-c', main, '--dry-run'],
    ]);
    for (const path of [config, rules]) {
      expect(statSync(join(falco.dir, path))).toMatchObject({ mode: 0o100644, uid: 0, gid: 0 });
    }
    expect(statSync(join(falco.dir, 'falcodrop')).mode & 0o777).toBe(0o700);
    const after = falco.tree();
    expect(falco.json(apply)).toMatchObject({ status: 0, said: { status: 'unchanged', validated: [], restart: null } });
    expect(falco.calls()).toEqual([['--version']]);
    expect(falco.tree()).toEqual(after);
    // Nothing of ours that Falco would read beside the two files.
    expect([readdirSync(join(falco.dir, 'config.d')), readdirSync(join(falco.dir, 'rules.d'))]).toEqual([
      ['falcodrop.yaml'],
      ['falcodrop_rules.yaml'],
    ]);
  });

  test('beside an http_output to somewhere else, which stays: what to chain is said', () => {
    falco.write('config.d/sidekick.yaml', 'http_output: {enabled: true, url: "http://u:pw@127.0.0.1:2801/"}\n');
    const { stdout, stderr, status } = falco.run(apply);
    expect(status).toBe(0);
    expect(falco.read(config)).not.toContain('\nhttp_output:');
    expect(stderr).toContain('WEBHOOK_ADDRESS=http://127.0.0.1:2804/');
    expect(stdout + stderr).not.toContain('pw@');
  });

  test('over a file of somebody else: asked for, and kept', () => {
    falco.write(rules, '- list: mine\n  items: [1]\n', 0o600);
    const before = falco.tree();
    const { status, error } = falco.json(apply);
    expect([status, error?.code]).toEqual([2, 'question_without_terminal']);
    expect(falco.tree()).toEqual(before);
    const { said } = falco.json([...apply, '--yes']);
    const [, told] = filesOf(said);
    expect(told).toMatchObject({ status: 'replaced', backup: expect.stringContaining('/falcodrop/backup/') as string });
    expect(statSync(told?.backup ?? '').mode & 0o777).toBe(0o600);
    expect(falco.json(remove).said).toMatchObject({
      status: 'removed',
      files: [{ status: 'removed' }, { status: 'restored' }],
    });
    expect(falco.tree()).toEqual(before);
  });

  test('over what an earlier falcodrop laid: updated, without a question, and taken away whole', () => {
    const before = falco.tree();
    falco.run([...apply, '--url', 'http://127.0.0.1:2905/falco']);
    expect(statuses(falco.json(apply).said)).toEqual(['updated', 'unchanged']);
    expect(falco.json(remove).status).toBe(0);
    expect(falco.tree()).toEqual(before);
  });

  test('a secret in the URL is root’s alone', () => {
    falco.run([...apply, '--url', 'http://127.0.0.1:2804/s3cr3t']);
    expect(statSync(join(falco.dir, config)).mode & 0o777).toBe(0o600);
  });

  test.each<[string, NodeJS.ProcessEnv, readonly string[], string]>([
    ['Falco does not start as it is', { STAND_IN_FAILS: '--dry-run' }, [], 'before anything was changed'],
    ['Falco refuses the rules', { STAND_IN_FAILS: '--validate' }, [], 'refuses our rules'],
    [
      'Falco does not start with it',
      {},
      ['--url', `http://127.0.0.1:2804/${refusedText}`],
      'which was taken away again',
    ],
  ])('%s: nothing is left of it', (_, environment, words, message) => {
    falco.write(config, 'json_output: false\n', 0o640);
    rmSync(join(falco.dir, 'rules.d'), { recursive: true });
    const before = falco.tree();
    const { status, stderr } = falco.run([...apply, '--yes', ...words], environment);
    expect(status).toBe(1);
    expect(stderr).toContain(message);
    expect(stderr).not.toContain('\u001b');
    expect(falco.tree()).toEqual(before);
    const { error } = falco.json([...apply, '--yes', ...words], environment);
    expect(error).toMatchObject({ code: 'falco_validate' });
  });

  test('of a directory that is mounted elsewhere: only its rules are validated', () => {
    falco.write('falco.yaml', 'config_files: [/etc/falco/config.d]\nrules_files: [/etc/falco/rules.d]\n');
    const { said } = falco.json(apply);
    expect(said).toMatchObject({ validated: ['falco --validate'], notes: [{ code: 'not_validated' }] });
    expect(falco.calls().map(([word]) => word)).toEqual(['--version', '--validate']);
  });
});

describe('taken away', () => {
  test('nothing, where nothing was laid', () => {
    const before = falco.tree();
    expect(falco.json(remove)).toMatchObject({ status: 0, said: { status: 'unchanged', files: [], restart: null } });
    expect(falco.tree()).toEqual(before);
  });

  test('a file that was changed since: asked for, and kept', () => {
    falco.run(apply);
    falco.write(rules, '- list: mine\n  items: [1]\n');
    const before = falco.tree();
    expect(falco.json(remove)).toMatchObject({ status: 2, error: { code: 'question_without_terminal' } });
    expect(falco.tree()).toEqual(before);
    const { said } = falco.json([...remove, '--yes']);
    expect(statuses(said)).toEqual(['removed', 'removed']);
    const [, { backup } = { backup: '' }] = filesOf(said);
    expect(spawnSync('cat', [backup], { encoding: 'utf8' }).stdout).toBe('- list: mine\n  items: [1]\n');
    expect([falco.has(config), falco.has(rules)]).toEqual([false, false]);
    expect(falco.json(remove)).toMatchObject({ status: 0, said: { status: 'unchanged' } });
  });

  test('files that are gone already', () => {
    const before = falco.tree();
    falco.run(apply);
    rmSync(join(falco.dir, rules));
    expect(falco.json(remove).status).toBe(0);
    expect(falco.tree()).toEqual(before);
  });

  test('what who was killed had recorded and not laid', () => {
    falco.write(rules, '- list: mine\n  items: [1]\n');
    const before = falco.tree();
    falco.run([...apply, '--yes']);
    const kept = filesOf(falco.json(remove).said);
    expect(kept.map(({ status }) => status)).toEqual(['removed', 'restored']);
    // As if it had been killed between its record and the file: the backup is a second name of what is still there.
    const { said } = falco.json([...apply, '--yes']);
    const backup = filesOf(said)[1]?.backup ?? '';
    rmSync(join(falco.dir, rules));
    linkSync(backup, join(falco.dir, rules));
    expect(falco.json(remove)).toMatchObject({ status: 0 });
    expect(falco.tree()).toEqual(before);
  });

  test('a record that is none of ours is not believed', () => {
    falco.run(apply);
    for (const text of [
      '{',
      '{"version":1,"files":[{"path":"../../etc/passwd","sha256":"","previous":null}],"folders":[]}',
    ]) {
      falco.write('falcodrop/laid.json', text);
      expect(falco.json(remove)).toMatchObject({ status: 1, error: { code: 'falco_config' } });
      expect(falco.has(config)).toBe(true);
    }
  });

  test('after apply the tree is what it was, whatever it was', () => {
    const text = fc.constantFrom(null, '', '- list: x\n  items: [1]\n', 'json_output: true\n');
    fc.assert(
      fc.property(
        text,
        text,
        fc.boolean(),
        fc.boolean(),
        fc.constantFrom(0o644, 0o600),
        fc.constantFrom('0.37.0', '0.38.0', '0.44.1'),
        (ours, others, noConfig, noRules, mode, version) => {
          const each = makeFalcoDir();
          try {
            if (ours !== null && ours !== 'json_output: true\n') each.write(rules, ours, mode);
            if (ours !== null && !ours.startsWith('-')) each.write(config, ours, mode);
            if (others !== null) each.write('rules.d/others.yaml', others, mode);
            if (noConfig && !each.has(config)) rmSync(join(each.dir, 'config.d'), { recursive: true });
            if (noRules && !each.has(rules) && others === null) rmSync(join(each.dir, 'rules.d'), { recursive: true });
            const before = each.tree();
            const words = ['--falco-version', version, '--yes'];
            expect(each.run([...apply, ...words], without)).toMatchObject({ status: 0 });
            expect(each.has(rules)).toBe(true);
            expect(each.run([...remove, '--yes'], without)).toMatchObject({ status: 0 });
            expect(each.tree()).toEqual(before);
          } finally {
            each.close();
          }
        },
      ),
      { numRuns: 12 },
    );
  });
});

describe('what is not touched', () => {
  test.each(['apply', 'remove'])('a symbolic link in the place of a file: --%s', (way) => {
    if (way === 'remove') falco.run(apply);
    const victim = join(falco.folder, 'victim');
    writeFileSync(victim, 'mine\n');
    rmSync(join(falco.dir, rules), { force: true });
    symlinkSync(victim, join(falco.dir, rules));
    const before = falco.tree();
    expect(falco.json([...setup, `--${way}`, '--yes'])).toMatchObject({
      status: 1,
      error: { code: 'falco_unsafe_path' },
    });
    expect(falco.tree()).toEqual(before);
    expect(spawnSync('cat', [victim], { encoding: 'utf8' }).stdout).toBe('mine\n');
  });

  test.each<[string, () => void]>([
    [
      'a folder that is a symbolic link',
      () => {
        renameSync(join(falco.dir, 'config.d'), join(falco.folder, 'elsewhere'));
        symlinkSync(join(falco.folder, 'elsewhere'), join(falco.dir, 'config.d'));
      },
    ],
    ['a folder of somebody else', () => chownSync(join(falco.dir, 'rules.d'), 65534, 65534)],
    ['a directory of somebody else', () => chownSync(falco.dir, 65534, 65534)],
    [
      'a folder of ours that is somebody else’s',
      () => {
        mkdirSync(join(falco.dir, 'falcodrop'));
        chownSync(join(falco.dir, 'falcodrop'), 65534, 65534);
      },
    ],
    [
      'a file in the place of a folder',
      () => {
        rmSync(join(falco.dir, 'config.d'), { recursive: true });
        falco.write('config.d', '');
      },
    ],
  ])('%s', (_, make) => {
    make();
    const before = falco.tree();
    expect(falco.json([...apply, '--yes'])).toMatchObject({ status: 1, error: { code: 'falco_unsafe_path' } });
    expect(falco.tree()).toEqual(before);
  });

  test.each<[string, string, string]>([
    ['no YAML', 'http_output: {', 'falco_config'],
    ['a hostile one', 'a: &a [*a, *a]\n"\u001b[31m": 1\n"\u001b[31m": 2\n', 'falco_config'],
  ])('falco.yaml that is broken: %s', (_, text, code) => {
    falco.write('falco.yaml', text);
    const before = falco.tree();
    const { status, stderr } = falco.run(apply);
    expect([status, falco.json(apply).error?.code]).toEqual([1, code]);
    expect(stderr).toContain('falco.yaml');
    expect(stderr).not.toContain('\u001b');
    expect(falco.tree()).toEqual(before);
  });

  test('a directory that is not there', () => {
    const { status, stderr } = spawnSync(command, [...setup, '--falco-dir', '/nonexistent/falco', '--json'], {
      encoding: 'utf8',
      env: environmentOf(falco.standIns.environment),
    });
    expect([status, objects(stderr)[0]?.code]).toEqual([4, 'falco_missing']);
  });

  test('whoever is not root', () => {
    const nobody = (words: readonly string[]) =>
      spawnSync(
        'setpriv',
        [
          '--reuid=65534',
          '--regid=65534',
          '--clear-groups',
          '--inh-caps=-all',
          '--bounding-set=-all',
          command,
          ...words,
          '--json',
        ],
        {
          encoding: 'utf8',
          env: environmentOf({ ...falco.standIns.environment, FALCODROP_CONFIG: '', STAND_IN_LOG: undefined }),
        },
      );
    const before = falco.tree();
    const refused = nobody([...apply, '--falco-dir', falco.dir]);
    expect([refused.status, objects(refused.stderr)[0]]).toMatchObject([
      5,
      { code: 'not_permitted', message: expect.stringContaining(falco.dir) as string, hint: 'sudo falcodrop setup …' },
    ]);
    expect(falco.tree()).toEqual(before);
    expect(nobody([...setup, '--falco-dir', falco.dir]).status).toBe(0);
  });

  test('a directory that can only be read', () => {
    const { status, stderr } = spawnSync(
      'unshare',
      [
        '--mount',
        'sh',
        '-c',
        'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"',
        'sh',
        falco.dir,
      ].concat([command, ...apply, '--falco-dir', falco.dir, '--json']),
      { encoding: 'utf8', env: environmentOf({ ...falco.standIns.environment, FALCODROP_CONFIG: '' }) },
    );
    expect([status, objects(stderr)[0]]).toMatchObject([
      1,
      { code: 'failed', message: expect.stringContaining('read-only') as string },
    ]);
  });
});

describe('two at once', () => {
  test('one waits for the other; both end well', async () => {
    const ended = await Promise.all(
      [1, 2, 3].map(async () => {
        const child = spawn(command, [...apply, ...given, '--falco-dir', falco.dir, '--json'], {
          env: environmentOf({ FALCODROP_CONFIG: '', ...without }),
        });
        let said = '';
        child.stdout.on('data', (bytes: Buffer) => {
          said += bytes.toString();
        });
        const [status] = (await once(child, 'close')) as [number];
        return [status, objects(said)[0]?.status];
      }),
    );
    expect(ended.toSorted()).toEqual([
      [0, 'laid'],
      [0, 'unchanged'],
      [0, 'unchanged'],
    ]);
  });

  test('who is not let in says so', () => {
    falco.run(apply);
    const lock = native().tryLock(join(falco.dir, 'falcodrop/.lock'), 'exclusive');
    try {
      expect(falco.json(remove)).toMatchObject({ status: 1, error: { code: 'lock_busy' } });
    } finally {
      lock?.release();
    }
    expect(existsSync(join(falco.dir, config))).toBe(true);
  });
});
