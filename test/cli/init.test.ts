import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { uplinks } from '../../src/cli/init.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Link, Route } from '../../src/kernel/native.ts';
import { link, lo, route } from '../host/links.ts';
import { command, environmentOf, falcodrop, objects } from './falcodrop.ts';

describe('what packets from outside come in by', () => {
  const [eth0, eth1] = [link(2, 'eth0', null), link(3, 'eth1', null)];
  const via = (ifindex: number, destination = '0.0.0.0/0', table = 254): Route =>
    route(destination, [['192.0.2.1', ifindex]], { table });
  test.each<[string, Link[], Route[], string[][]]>([
    ['the interface with the default route', [lo, eth0, eth1], [via(2)], [['eth0']]],
    ['once, for both families', [lo, eth0], [via(2), via(2, '::/0')], [['eth0']]],
    ['a veth in a namespace', [lo, link(2, 'eth0', 'veth', { lower: 9, lowerElsewhere: true })], [via(2)], [['eth0']]],
    ['nothing without a default route', [lo, eth0], [route('192.0.2.0/24', [[null, 2]])], []],
    ['two', [lo, eth0, eth1], [via(2), via(3, '::/0')], [['eth0'], ['eth1']]],
    [
      'both ways of a multipath route',
      [eth0, eth1],
      [
        route('0.0.0.0/0', [
          ['192.0.2.1', 2],
          ['192.0.2.2', 3],
        ]),
      ],
      [['eth0'], ['eth1']],
    ],
    ['the card under a VLAN', [eth0, link(5, 'eth0.7', 'vlan', { lower: 2 })], [via(5)], [['eth0']]],
    [
      'once, also by its VLANs',
      [eth0, link(5, 'eth0.7', 'vlan', { lower: 2 }), link(6, 'eth0.8', 'vlan', { lower: 2 })],
      [via(5), via(6)],
      [['eth0']],
    ],
    [
      'the ports of a bond',
      [{ ...eth0, master: 4 }, { ...eth1, master: 4 }, link(4, 'bond0', 'bond')],
      [via(4)],
      [['eth0', 'eth1']],
    ],
    [
      'the card in a bridge, not the machines beside it',
      [{ ...eth0, master: 4 }, link(4, 'br0', 'bridge'), link(5, 'vnet0', 'tun', { master: 4 })],
      [via(4)],
      [['eth0']],
    ],
    [
      'not a tunnel over it',
      [eth0, link(7, 'wg0', 'wireguard', { type: 65_534 })],
      [via(2), via(7, '0.0.0.0/1')],
      [['eth0']],
    ],
    ['a tunnel alone is nothing', [link(7, 'wg0', 'wireguard', { type: 65_534 })], [via(7)], []],
  ])('%s', (_, links, routes, wanted) => {
    expect(uplinks({ links, addresses: [], routes })).toEqual(wanted);
  });
});

describe('what it writes', () => {
  let folder = '';
  let path = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'fd-init-'));
    path = join(folder, 'etc/falcodrop.yaml');
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const session = { SSH_CONNECTION: '203.0.113.5 50000 192.0.2.1 22' };
  const init = (args: readonly string[] = [], environment: NodeJS.ProcessEnv = session) => {
    // An Ethernet interface that is there wherever this runs is not known; one is found by the addon.
    const [name = ''] = ethernetNames();
    return falcodrop(['init', '--interface', name, '--config', path, ...args], environment);
  };
  const allowFile = (): string => join(folder, 'etc/allow.d/00-init');

  /** Of this machine: it is only named, nothing is done to it. */
  function ethernetNames(): string[] {
    return readdirSync('/sys/class/net').filter((name) => {
      try {
        return readFileSync(`/sys/class/net/${name}/type`, 'utf8').trim() === '1';
      } catch {
        return false; // another test's, gone meanwhile
      }
    });
  }

  test('a configuration that is right and watches, and the way in that is allowed', (context) => {
    const [name] = ethernetNames();
    if (name === undefined) return context.skip('this machine has no Ethernet interface');
    const { status, stdout, stderr } = init();
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(loadConfig(path, {})).toMatchObject({ interfaces: [name], automatic: 'monitor' });
    expect(readFileSync(path, 'utf8')).toMatch(
      /^# yaml-language-server: \$schema=\/.*\/docs\/falcodrop\.schema\.json\n/,
    );
    expect(statSync(path).mode & 0o777).toBe(0o640);
    expect(statSync(join(folder, 'etc')).mode & 0o777).toBe(0o755);
    expect(readFileSync(allowFile(), 'utf8')).toMatch(/^# .*\n203\.0\.113\.5 # [^\n]*\n$/);
    expect(statSync(allowFile()).mode & 0o777).toBe(0o644);
    expect(readdirSync(join(folder, 'etc')).toSorted()).toEqual(['allow.d', 'falcodrop.yaml']);
    for (const next of ['check', 'attach --check', 'attach', 'run'])
      expect(stdout).toContain(`falcodrop ${next} --config ${path}\n`);
  });

  test('never over one that is there; with --force the old ones stay beside it, each', () => {
    mkdirSync(join(folder, 'etc'));
    writeFileSync(path, 'mine');
    const refused = init();
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/is there already.*\n.*--force/);
    expect(readdirSync(join(folder, 'etc'))).toEqual(['falcodrop.yaml']);
    expect(readFileSync(path, 'utf8')).toBe('mine');

    const [first] = objects(init(['--force', '--json']).stdout);
    expect(first).toMatchObject({
      status: 'replaced',
      backup: `${path}.bak`,
      allowed: '203.0.113.5',
      allow_file: allowFile(),
    });
    writeFileSync(path, 'mine too');
    const [second] = objects(init(['--force', '--json']).stdout);
    expect(second).toMatchObject({ status: 'replaced', backup: `${path}.bak.2` });
    expect([`${path}.bak`, `${path}.bak.2`].map((file) => readFileSync(file, 'utf8'))).toEqual(['mine', 'mine too']);
    expect(loadConfig(path, {}).automatic).toBe('monitor');
  });

  test('a link is replaced and what it led to stays; a dangling one counts as there; a directory is left', () => {
    mkdirSync(join(folder, 'etc'));
    writeFileSync(join(folder, 'elsewhere'), 'theirs');
    symlinkSync(join(folder, 'elsewhere'), path);
    expect(init(['--force']).status).toBe(0);
    expect(lstatSync(path).isSymbolicLink()).toBe(false);
    expect(readFileSync(join(folder, 'elsewhere'), 'utf8')).toBe('theirs');
    rmSync(path);
    symlinkSync('/nonexistent/x', path);
    expect(init().status).toBe(1);
    rmSync(path);
    mkdirSync(path);
    expect(init(['--force'])).toMatchObject({ status: 1, stdout: '' });
    expect(lstatSync(path).isDirectory()).toBe(true);
  });

  test('allow lines that are there stay, and what is allowed already is not written twice', () => {
    mkdirSync(join(folder, 'etc/allow.d'), { recursive: true });
    writeFileSync(allowFile(), '198.51.100.7 # office');
    expect(init().status).toBe(0);
    const lines = readFileSync(allowFile(), 'utf8');
    expect(lines).toMatch(/^198\.51\.100\.7 # office\n203\.0\.113\.5 # /);
    expect(init(['--force']).stdout).toContain('allowed already');
    expect(readFileSync(allowFile(), 'utf8')).toBe(lines);
    writeFileSync(allowFile(), 'rubbish');
    const { status, stderr } = init(['--force']);
    expect(status).toBe(1);
    expect(stderr).toMatch(/00-init:1: /);
    expect(readFileSync(allowFile(), 'utf8')).toBe('rubbish');
  });

  test.each([
    ['a client over IPv6', '2001:db8::5 1 2001:db8::1 22', '2001:db8::5'],
    ['a link-local one with its zone', 'fe80::1%eth0 1 fe80::2%eth0 22', 'fe80::1'],
    ['this host itself', '127.0.0.1 1 127.0.0.1 22', null],
  ])('%s', (_, connection, allowed) => {
    const [object] = objects(init(['--json'], { SSH_CONNECTION: connection }).stdout);
    expect(object).toMatchObject({ status: 'written', allowed });
    expect(existsSync(allowFile())).toBe(allowed !== null);
  });

  test('--dry-run prints both files and writes nothing', () => {
    const { status, stdout } = init(['--dry-run']);
    expect(status).toBe(0);
    expect(stdout).toContain('\n203.0.113.5 # ');
    expect(stdout).toContain('\nautomatic: monitor\n');
    expect(readdirSync(folder)).toEqual([]);
    expect(objects(init(['--dry-run', '--json']).stdout)).toMatchObject([{ status: 'dry_run', config: path }]);
  });

  test.each([
    ['fdnowhere0', 4, /there is no interface/],
    ['lo', 1, /no Ethernet header/],
  ])('--interface %s', (name, wanted, says) => {
    const { status, stderr } = falcodrop(['init', '--interface', name, '--config', path], session);
    expect(status).toBe(wanted);
    expect(stderr).toMatch(says);
    expect(readdirSync(folder)).toEqual([]);
  });

  test('who may not write there is told so, and nothing is left', (context) => {
    if (process.geteuid?.() !== 0) return context.skip('needs another user to become');
    const [name = ''] = ethernetNames();
    const { status, stderr } = spawnSync(
      'setpriv',
      ['--reuid=12345', '--regid=12345', '--clear-groups', command, 'init', '--interface', name, '--config', path],
      { encoding: 'utf8', env: environmentOf(session) },
    );
    expect(status, stderr).toBe(5);
    expect(stderr).toMatch(/sudo falcodrop init/);
    expect(readdirSync(folder)).toEqual([]);
  });
});
