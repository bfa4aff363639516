import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Examined, examineConfig, loadConfig } from '../../src/config/load.ts';
import { formatPlace } from '../../src/config/problem.ts';
import { distrust } from '../../src/config/trust.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fd-config-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(files: Readonly<Record<string, string | Buffer>>): string {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text, { mode: 0o644 });
  }
  return join(folder, 'f.yaml');
}

const origin = ({ held }: Examined, setting: string): string => {
  const found = held.find(({ path }) => path.join('.') === setting);
  return found === undefined ? 'none' : formatPlace(found.place).replace(`${folder}/`, '');
};
const says = ({ problems }: Examined): string[] =>
  problems.map(({ place, message }) => `${formatPlace(place)}: ${message}`.replaceAll(`${folder}/`, ''));

test('files of conf.d are laid over by name, key by key; lists are replaced whole; then the environment, then flags', () => {
  const path = write({
    'f.yaml':
      'automatic: enforce\nhttp: { port: 1, max_connections: 9 }\nhost_aliases: [a, b]\nmanagement: [192.0.2.0/24]\n',
    'conf.d/20.yaml': 'http:\n  port: 20\nhost_aliases: [c]\n',
    'conf.d/3.yaml': 'http: { port: 3, max_body: 4096 }\n',
    'conf.d/10.yaml': 'http: { port: 10 }\nstdin: true\nmanagement:\n',
    'conf.d/.hidden.yaml': 'zzz: 1',
    'conf.d/notes.txt': 'zzz: 1',
    'conf.d/30.yml': 'zzz: 1',
  });
  // an empty list is said with [], and nothing is no list
  expect(says(examineConfig(path, {}))).toEqual([
    expect.stringMatching(/^conf\.d\/10\.yaml:3:1: management: expected a list/),
  ]);
  writeFileSync(join(folder, 'conf.d/10.yaml'), 'http: { port: 10 }\nstdin: true\nmanagement: []\nguard:\n');

  const environment = { FALCODROP_HTTP__MAX_CONNECTIONS: '7', FALCODROP_STDIN: 'false' };
  const flags = [{ flag: '--stdin', path: ['stdin'], value: true }];
  const examined = examineConfig(path, environment, flags);
  expect(says(examined)).toEqual([]);
  expect(examined.config).toMatchObject({
    automatic: 'enforce',
    http: { port: 3, maxBody: 4096, maxConnections: 7 },
    hostAliases: ['c'],
    management: [],
    lines: { stdin: true },
  });
  expect(examined.files.map((file) => file.replace(`${folder}/`, ''))).toEqual([
    'f.yaml',
    'conf.d/10.yaml',
    'conf.d/20.yaml',
    'conf.d/3.yaml',
  ]);
  expect(examined.passedOver).toEqual([join(folder, 'conf.d/30.yml')]);
  expect(
    [
      'automatic',
      'http.port',
      'http.max_body',
      'http.max_connections',
      'host_aliases',
      'management',
      'stdin',
      'http.address',
    ].map((setting) => origin(examined, setting)),
  ).toEqual([
    'f.yaml:1:1',
    'conf.d/3.yaml:1:9',
    'conf.d/3.yaml:1:18',
    'FALCODROP_HTTP__MAX_CONNECTIONS',
    'conf.d/20.yaml:3:1',
    'conf.d/10.yaml:3:1',
    '--stdin',
    'default',
  ]);
});

test('every problem of every file and of the environment is told at once, also what a later file overrules', () => {
  const path = write({
    'f.yaml': 'http: { port: 70000 }\nzzz: 1\n',
    'conf.d/a.yaml': 'http: { port: 80 }\n',
    'conf.d/b.yaml': 'a: [',
    'conf.d/c.yaml': Buffer.from([0xff, 0xfe, 0x00]),
  });
  expect(says(examineConfig(path, { FALCODROP_ZZZ: '1' }))).toEqual([
    expect.stringMatching(/^f\.yaml:1:9: http\.port: expected/),
    expect.stringMatching(/^f\.yaml:2:1: there is no setting zzz/),
    expect.stringMatching(/^conf\.d\/b\.yaml:1:5: /),
    expect.stringMatching(/^conf\.d\/c\.yaml: it is not UTF-8/),
    expect.stringMatching(/^FALCODROP_ZZZ: /),
  ]);
});

test('without the file itself those of conf.d hold, when it was not named', () => {
  const path = write({ 'conf.d/a.yaml': 'stdin: true' });
  expect(says(examineConfig(path, {}))).toEqual(['f.yaml: there is no such file']);
});

describe('whatever lies at a path', () => {
  test.each<[string, (path: string) => void, RegExp]>([
    ['a directory', (path) => mkdirSync(path), /it is a directory/],
    ['a pipe that nobody writes to', (path) => spawnSync('mkfifo', [path]), /no regular file/],
    ['a device without an end', (path) => symlinkSync('/dev/zero', path), /no regular file/],
    ['a loop of links', (path) => symlinkSync('f.yaml', path), /loop of symbolic links/],
    ['a link to nothing', (path) => symlinkSync('none', path), /there is no such file/],
    ['a large file', (path) => writeFileSync(path, '#'.repeat((1 << 20) + 1)), /larger than/],
  ])('%s is said, and not waited for', (_, make, message) => {
    const path = join(folder, 'f.yaml');
    make(path);
    const [problem] = examineConfig(path, {}).problems;
    expect(problem?.message).toMatch(message);
    expect(() => loadConfig(path, {})).toThrowError(message);
  });

  test.each([
    ['file/f.yaml', /leads through what is no directory/],
    ['x'.repeat(300), /longer than paths may be/],
  ])('%s', (name, message) => {
    writeFileSync(join(folder, 'file'), '');
    expect(() => loadConfig(join(folder, name), {})).toThrowError(message);
  });

  test('conf.d that is no directory, or holds a pipe', () => {
    const path = write({ 'f.yaml': '', 'conf.d': '' });
    expect(says(examineConfig(path, {}))).toEqual(['conf.d: its path leads through what is no directory']);
    rmSync(join(folder, 'conf.d'));
    mkdirSync(join(folder, 'conf.d'));
    spawnSync('mkfifo', [join(folder, 'conf.d/x.yaml')]);
    expect(says(examineConfig(path, {}))).toEqual(['conf.d/x.yaml: it is no regular file']);
  });

  test('more than 256 files in conf.d', () => {
    const path = write({
      'f.yaml': '',
      ...Object.fromEntries(Array.from({ length: 257 }, (_, n) => [`conf.d/${n}.yaml`, ''])),
    });
    expect(says(examineConfig(path, {}))).toEqual(['conf.d: it holds more than 256 files']);
  });
});

describe('files that nobody named are root’s or the reader’s, and nobody else writes them', () => {
  const stats = (uid: number, gid: number, mode: number) => ({ uid, gid, mode }) as never;
  test.each<[uid: number, gid: number, mode: number, reader: number, says: RegExp | null]>([
    [0, 0, 0o644, 0, null],
    [0, 999, 0o640, 0, null],
    [0, 0, 0o664, 0, null],
    [0, 999, 0o660, 0, /a group may write it \(gid 999\)/],
    [0, 0, 0o646, 0, /everybody may write it/],
    [999, 0, 0o600, 0, /neither root's nor yours \(uid 999\)/],
    [0, 0, 0o644, 999, null],
    [999, 999, 0o664, 999, null],
    [999, 999, 0o666, 999, /everybody/],
    [1000, 999, 0o644, 999, /neither/],
  ])('uid %i gid %i mode %o read by %i', (uid, gid, mode, reader, wanted) => {
    const problem = distrust('/f', stats(uid, gid, mode), reader);
    if (wanted === null) expect(problem).toBe(null);
    else
      expect(problem).toMatchObject({
        message: expect.stringMatching(wanted),
        hint: expect.stringMatching(/ch(own|mod)/),
      });
  });

  test('a fragment, and a folder of fragments', (context) => {
    if (process.geteuid?.() !== 0) return context.skip('only root can give files away');
    const path = write({ 'f.yaml': '', 'conf.d/a.yaml': 'automatic: enforce' });
    expect(says(examineConfig(path, {}))).toEqual([]);
    chownSync(join(folder, 'conf.d/a.yaml'), 12_345, 0);
    expect(says(examineConfig(path, {}))).toEqual([
      expect.stringMatching(/^conf\.d\/a\.yaml: .*neither root's nor yours/),
    ]);
    chownSync(join(folder, 'conf.d/a.yaml'), 0, 0);
    chmodSync(join(folder, 'conf.d'), 0o777);
    expect(says(examineConfig(path, {}))).toEqual(['conf.d: everybody may write it']);
  });
});
