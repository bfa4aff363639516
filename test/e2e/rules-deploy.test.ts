/** `falcodrop rules deploy`, the built command, beside stand-ins of Falco and systemctl. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { native } from '../../src/kernel/native.ts';
import { command, environmentOf, objects } from '../cli/falcodrop.ts';
import { crashText, invalidText, refusedText } from '../falco/stand-in.ts';
import { type FalcoDir, makeFalcoDir } from './falco-dir.ts';

let falco: FalcoDir;
let bundle = '';
beforeEach(() => {
  falco = makeFalcoDir();
  bundle = join(falco.folder, 'bundle');
  mkdirSync(bundle);
  falco.write('rules.d/50-others.yaml', '- list: others\n  items: [1]\n', 0o640);
  utimesSync(join(falco.dir, 'rules.d/50-others.yaml'), 1_700_000_000, 1_700_000_000);
});
afterEach(() => falco.close());

const unit = 'falco-modern-bpf.service';
const list = (name: string, more = ''): string => `- list: ${name}\n  items: [1]\n# ${more}\n`;
const put = (name: string, text: string): void => writeFileSync(join(bundle, name), text);
const deploy = (...words: string[]): string[] => ['rules', 'deploy', bundle, '--wait', '1s', ...words];
const rulesThere = (): string[] => readdirSync(join(falco.dir, 'rules.d')).toSorted();
const restarts = (): number => {
  const path = join(falco.standIns.state, 'restarts');
  return lstatSync(path, { throwIfNoEntry: false }) === undefined
    ? 0
    : readFileSync(path, 'utf8').trim().split('\n').length;
};
/** What Falco reads, whatever is kept beside it. */
const live = (): Record<string, string> =>
  Object.fromEntries(Object.entries(falco.tree()).filter(([path]) => path !== '' && !path.startsWith('falcodrop')));
const backups = (): string[] => {
  const folder = join(falco.dir, 'falcodrop/former-rules');
  return lstatSync(folder, { throwIfNoEntry: false }) === undefined ? [] : readdirSync(folder);
};

describe('a bundle', () => {
  test('is validated in the order of Falco, put in place, and Falco is restarted with it', () => {
    put('10-mine.yaml', list('mine'));
    put('README.md', 'x');
    const others = falco.tree()['rules.d/50-others.yaml'];
    const { status, said } = falco.json(deploy());
    expect({ status, said }).toMatchObject({
      status: 0,
      said: {
        status: 'deployed',
        falco_version: '0.43.1',
        files: [{ name: '10-mine.yaml', status: 'added' }],
        passed_over: ['README.md'],
        validated: ['falco --validate', 'falco --dry-run'],
        restarted: `systemctl restart ${unit}`,
        health: [unit],
      },
    });
    expect(Object.keys(said ?? {})).toEqual([
      ...['status', 'falco_version', 'falco', 'falco_dir', 'files', 'passed_over', 'validated', 'backup'],
      ...['restarted', 'health'],
    ]);
    expect(rulesThere()).toEqual(['10-mine.yaml', '50-others.yaml']);
    expect(falco.tree()['rules.d/50-others.yaml']).toBe(others);
    expect(readdirSync(String(said?.backup))).toEqual(['50-others.yaml']);
    const [, validate = []] = falco.calls();
    expect(validate.filter((word) => word.endsWith('.yaml')).map((path) => basename(path))).toEqual([
      ...['falco.yaml', 'falco_rules.yaml', '10-mine.yaml', '50-others.yaml'],
    ]);
    expect(restarts()).toBe(1);
  });

  test('a second time is unchanged: nothing is asked, written or restarted', () => {
    put('10-mine.yaml', list('mine'));
    falco.run(deploy());
    falco.calls();
    const before = falco.tree();
    expect(falco.json(deploy())).toMatchObject({ status: 0, said: { status: 'unchanged', restarted: null } });
    const archive = join(falco.folder, 'x.tar.gz');
    expect(spawnSync('tar', ['-czf', archive, '-C', falco.folder, 'bundle']).status).toBe(0);
    expect(falco.json(['rules', 'deploy', archive])).toMatchObject({ status: 0, said: { status: 'unchanged' } });
    expect(falco.calls()).toEqual([['--version'], ['--version']]);
    expect(restarts()).toBe(1);
    expect(falco.tree()).toEqual(before);
  });

  test('replaces the last one: what it has no more is removed, what others have stays', () => {
    put('10-mine.yaml', list('mine'));
    put('20-more.yaml', list('more'));
    falco.run(deploy());
    rmSync(join(bundle, '20-more.yaml'));
    put('10-mine.yaml', list('mine', 'again'));
    put('30-new.yaml', list('new'));
    expect(falco.json(deploy()).said?.files).toEqual([
      { name: '10-mine.yaml', status: 'changed' },
      { name: '30-new.yaml', status: 'added' },
      { name: '20-more.yaml', status: 'removed' },
    ]);
    expect(rulesThere()).toEqual(['10-mine.yaml', '30-new.yaml', '50-others.yaml']);
    expect(backups()).toHaveLength(2);
  });

  test('--dry-run validates and changes nothing; --no-restart does not restart', () => {
    put('10-mine.yaml', list('mine'));
    const before = falco.tree();
    expect(falco.json(deploy('--dry-run')).said).toMatchObject({ status: 'planned', validated: ['falco --validate'] });
    expect(falco.tree()).toEqual(before);
    expect(falco.json(deploy('--no-restart')).said).toMatchObject({ status: 'deployed', restarted: null, health: [] });
    expect(restarts()).toBe(0);
  });

  test('is restarted by the command that is given, without a shell', () => {
    put('10-mine.yaml', list('mine'));
    const words = deploy('--restart', `/usr/bin/touch ${falco.folder}/$(x) ${falco.folder}/;`, '--health', 'none');
    expect(falco.json(words)).toMatchObject({ status: 0, said: { health: [] } });
    expect(readdirSync(falco.folder)).toEqual(expect.arrayContaining(['$(x)', ';']));
    expect(restarts()).toBe(0);
  });

  test('makes rules.d where there is none', () => {
    rmSync(join(falco.dir, 'rules.d'), { recursive: true });
    put('10-mine.yaml', list('mine'));
    expect(falco.json(deploy()).status).toBe(0);
    expect(rulesThere()).toEqual(['10-mine.yaml']);
    expect(lstatSync(join(falco.dir, 'rules.d')).mode & 0o7777).toBe(0o755);
  });

  test('keeps what else lies in rules.d: folders, links, owners', () => {
    falco.write('rules.d/sub/x.txt', 'x', 0o600);
    symlinkSync('../falco_rules.yaml', join(falco.dir, 'rules.d/60-link.yaml'));
    chownSync(join(falco.dir, 'rules.d/50-others.yaml'), 65534, 65534);
    const before = live();
    put('10-mine.yaml', list('mine'));
    expect(falco.json(deploy()).status).toBe(0);
    const after = live();
    expect(after).toMatchObject(Object.fromEntries(Object.entries(before).filter(([path]) => path !== 'rules.d')));
    const [, validate = []] = falco.calls();
    expect(validate.at(-1)).toMatch(/60-link\.yaml$/);
  });

  test('ten former ones are kept', () => {
    const [first, last] = ['20200101T000000Z', '20200112T000000Z'];
    for (let day = 1; day <= 12; day++) {
      falco.write(`falcodrop/former-rules/202001${String(day).padStart(2, '0')}T000000Z/a.yaml`, '');
    }
    for (const path of ['falcodrop', 'falcodrop/former-rules']) chmodSync(join(falco.dir, path), 0o700);
    put('10-mine.yaml', list('mine'));
    expect(falco.run(deploy('--no-restart')).status).toBe(0);
    expect(backups()).toContain(last);
    expect(backups()).not.toContain(first);
    expect(backups()).toHaveLength(10);
  });
});

describe('what fails is rolled back', () => {
  test.each<[string, string, NodeJS.ProcessEnv, readonly string[], string, RegExp, number]>([
    ['Falco refuses a rule', invalidText, {}, [], 'falco_validate', /10-mine\.yaml: Invalid/, 0],
    [
      'Falco would not start',
      refusedText,
      {},
      [],
      'falco_restart',
      /falco --dry-run fails with these rules.*rolled back/,
      0,
    ],
    [
      'Falco dies of them',
      crashText,
      {},
      [],
      'falco_restart',
      /falco-modern-bpf\.service is failed; rolled back: .* Falco runs with them/,
      2,
    ],
    [
      'Falco is never well',
      '',
      {},
      ['--health', 'http://127.0.0.1:1/'],
      'falco_restart',
      /ECONNREFUSED, after 1 s; rolled back: .* not well with them either/,
      2,
    ],
    [
      'the command fails',
      '',
      {},
      ['--restart', '/usr/bin/false', '--health', 'none'],
      'falco_restart',
      /could not be restarted: \/usr\/bin\/false: it ended with 1; rolled back/,
      0,
    ],
    [
      'there is no such command',
      '',
      {},
      ['--restart', '/nonexistent/x'],
      'falco_restart',
      /there is no such program/,
      0,
    ],
  ])('%s', (_, text, environment, words, code, message, times) => {
    put('10-mine.yaml', list('mine'));
    expect(falco.run(deploy('--no-restart')).status).toBe(0);
    put('10-mine.yaml', list('mine', text));
    put('20-more.yaml', list('more'));
    const before = [live(), backups(), falco.read('falcodrop/deployed.json')];
    const { status, stderr } = falco.run(deploy(...words), environment);
    expect(status).toBe(1);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain('\u001b');
    expect(stderr).not.toContain('.rules.d.falcodrop');
    expect([live(), backups(), falco.read('falcodrop/deployed.json')]).toEqual(before);
    expect(restarts()).toBe(times);
    expect(falco.json(deploy(...words), environment).error).toMatchObject({ code });
  });

  test('a restart that fails: tried again with the former rules, and said when that fails too', () => {
    put('10-mine.yaml', list('mine'));
    writeFileSync(join(falco.standIns.state, 'fail-restart'), '');
    const before = live();
    const { status, stderr } = falco.run(deploy());
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /could not be restarted: .*Job for .* failed; rolled back: .*but Falco could not be restarted with them/,
    );
    expect(live()).toEqual(before);
    expect(restarts()).toBe(2);
  });

  test('who is interrupted while it waits', async () => {
    put('10-mine.yaml', list('mine'));
    const before = live();
    const words = [...deploy('--health', 'http://127.0.0.1:1/', '--wait', '5m'), '--falco-dir', falco.dir, '--json'];
    const child = spawn(command, words, {
      env: environmentOf({ FALCODROP_CONFIG: '', ...falco.standIns.environment }),
    });
    let said = '';
    child.stderr.on('data', (bytes: Buffer) => {
      said += bytes.toString();
    });
    const ended = once(child, 'close') as Promise<[number]>;
    await expect.poll(restarts, { timeout: 30_000 }).toBe(1);
    child.kill('SIGTERM');
    // It restarts Falco with what was there, whose health does not come here; a second signal ends that.
    await expect.poll(restarts, { timeout: 30_000 }).toBe(2);
    expect(live()).toEqual(before);
    child.kill('SIGTERM');
    expect([await ended, objects(said)]).toMatchObject([
      [1, null],
      [{ code: 'falco_restart', message: expect.stringMatching(/^it was interrupted; rolled back/) as string }],
    ]);
  });

  test('who is killed: what lies beside rules.d is kept, and the next one goes through', async () => {
    put('10-mine.yaml', list('mine'));
    const words = [...deploy('--health', 'http://127.0.0.1:1/', '--wait', '5m'), '--falco-dir', falco.dir];
    const child = spawn(command, words, {
      env: environmentOf({ FALCODROP_CONFIG: '', ...falco.standIns.environment }),
    });
    const ended = once(child, 'close');
    await expect.poll(restarts, { timeout: 30_000 }).toBe(1);
    child.kill('SIGKILL');
    await ended;
    expect(readdirSync(join(falco.dir, '.rules.d.falcodrop'))).toEqual(['50-others.yaml']);
    // All is in place already, and yet not known to be well: it is not "unchanged".
    expect(falco.json(deploy())).toMatchObject({
      status: 0,
      said: { status: 'deployed', files: [{ status: 'unchanged' }] },
    });
    expect(falco.has('.rules.d.falcodrop')).toBe(false);
    expect(backups()).toHaveLength(2);
    expect(falco.json(deploy()).said).toMatchObject({ status: 'unchanged' });
  });
});

describe('nothing is done', () => {
  beforeEach(() => put('10-mine.yaml', list('mine')));
  const units = (text: string): void => writeFileSync(join(falco.standIns.state, 'units'), text);

  test.each<[string, () => void, readonly string[], number, string]>([
    ['without a unit', () => units(''), [], 1, 'falco_restart'],
    ['with two units', () => units('falco-kmod.service\nfalco-bpf.service\n'), [], 1, 'falco_restart'],
    [
      'where Falco does not read rules.d',
      () => falco.write('falco.yaml', `rules_files: [${falco.dir}/falco_rules.yaml]\n`),
      [],
      1,
      'falco_unfit',
    ],
    ['with a falco.yaml that is broken', () => falco.write('falco.yaml', '- x'), [], 1, 'falco_config'],
    ['with no health URL', () => undefined, ['--health', 'x'], 2, 'usage'],
    ['with an empty command', () => undefined, ['--restart', ' '], 2, 'usage'],
    ['with a time that is none', () => undefined, ['--wait', 'soon'], 2, 'duration_invalid'],
    ['with a bundle that has none', () => rmSync(join(bundle, '10-mine.yaml')), [], 2, 'bundle_invalid'],
    ['with a link in the bundle', () => symlinkSync('/etc/shadow', join(bundle, 'x.yaml')), [], 2, 'bundle_invalid'],
    [
      'with another falcodrop_rules.yaml than was set up',
      () => {
        falco.run(['setup', 'falco', '--apply']);
        put('falcodrop_rules.yaml', list('x'));
      },
      [],
      2,
      'bundle_invalid',
    ],
    [
      'with a rules.d that is a link',
      () => {
        renameSync(join(falco.dir, 'rules.d'), join(falco.folder, 'elsewhere'));
        symlinkSync(join(falco.folder, 'elsewhere'), join(falco.dir, 'rules.d'));
      },
      [],
      1,
      'falco_unsafe_path',
    ],
    [
      'with a rules.d of somebody else',
      () => chownSync(join(falco.dir, 'rules.d'), 65534, 65534),
      [],
      1,
      'falco_unsafe_path',
    ],
    ['with a pipe in rules.d', () => spawnSync('mkfifo', [join(falco.dir, 'rules.d/x')]), [], 1, 'falco_unsafe_path'],
  ])('%s', (_, make, words, status, code) => {
    make();
    const before = live();
    expect(falco.json(deploy(...words))).toMatchObject({ status, said: undefined, error: { code } });
    expect(live()).toEqual(before);
    expect(restarts()).toBe(0);
  });

  test('without a falco, a bundle, or a verb', () => {
    expect(falco.json(deploy(), { PATH: '/usr/bin:/bin' })).toMatchObject({
      status: 4,
      error: { code: 'falco_missing' },
    });
    expect(falco.json(['rules', 'deploy', '/nonexistent/x'])).toMatchObject({
      status: 2,
      error: { code: 'bundle_invalid' },
    });
    expect(falco.json(['rules', 'deploy'])).toMatchObject({ status: 2, error: { code: 'usage' } });
    expect(falco.json(['rules', 'lint', bundle])).toMatchObject({ status: 2, error: { code: 'usage' } });
  });

  test('by whoever is not root', () => {
    const { status, stderr } = spawnSync(
      'setpriv',
      [
        '--reuid=65534',
        '--regid=65534',
        '--clear-groups',
        '--inh-caps=-all',
        '--bounding-set=-all',
        command,
        ...deploy(),
      ].concat([...['--falco-dir', falco.dir, '--json']]),
      {
        encoding: 'utf8',
        env: environmentOf({ ...falco.standIns.environment, FALCODROP_CONFIG: '', STAND_IN_LOG: undefined }),
      },
    );
    expect([status, objects(stderr)[0]]).toMatchObject([5, { code: 'not_permitted', hint: 'sudo falcodrop rules …' }]);
  });

  test('while another is at it', () => {
    expect(falco.run(deploy()).status).toBe(0);
    const lock = native().tryLock(join(falco.dir, 'falcodrop/.lock'), 'exclusive');
    try {
      expect(falco.json(deploy())).toMatchObject({ status: 1, error: { code: 'lock_busy' } });
    } finally {
      lock?.release();
    }
  });

  test('where rules.d is a mount of its own', () => {
    const script = 'mount --bind "$1" "$1" && shift && exec "$@"';
    const { status, stderr } = spawnSync(
      'unshare',
      [
        '--mount',
        'sh',
        '-c',
        script,
        'sh',
        join(falco.dir, 'rules.d'),
        command,
        ...deploy(),
        '--falco-dir',
        falco.dir,
        '--json',
      ],
      { encoding: 'utf8', env: environmentOf({ ...falco.standIns.environment, FALCODROP_CONFIG: '' }) },
    );
    expect([status, objects(stderr)[0]]).toMatchObject([
      1,
      { code: 'failed', message: expect.stringContaining('a mount of its own') as string },
    ]);
    expect(rulesThere()).toEqual(['50-others.yaml']);
    expect(falco.has('.rules.d.falcodrop')).toBe(false);
  });
});
