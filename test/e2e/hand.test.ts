/** The hand's verbs about what is wanted and was done, through the built command, on real maps and a real state directory. */
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import type { Owner } from '../../src/blocklist/claims.ts';
import { Ledger } from '../../src/blocklist/ledger/ledger.ts';
import type { AlertCause } from '../../src/blocklist/ledger/record.ts';
import { command, type Ended, objects } from '../cli/falcodrop.ts';
import { type Lab, openLab } from '../kernel/lab.ts';
import { makeAfresh } from './afresh.ts';

const uplink = 'up0';

let lab: Lab;
let edge = '';
let stateDir = '';

beforeAll(() => {
  lab = openLab();
  edge = lab.namespace('e');
  const peer = lab.namespace('p');
  lab.veth(
    { namespace: edge, name: uplink, exact: true, addresses: ['198.51.100.1/24'] },
    { namespace: peer, name: 'x0', exact: true, addresses: ['198.51.100.66/24'] },
  );
  stateDir = join(lab.directory, 'state');
  attachAnew = makeAfresh({ lab, namespace: edge, stateDir, attachAnew: attachFirst });
});
afterAll(() => lab.close());

interface Ways {
  readonly environment?: Readonly<Record<string, string>>;
  readonly input?: string;
}

function hand(args: readonly string[], { environment = {}, input }: Ways = {}): Ended {
  const settings = {
    TZ: 'UTC',
    FALCODROP_PIN_DIR: lab.pinDir,
    FALCODROP_STATE_DIR: stateDir,
    FALCODROP_CONFIG: '',
    SSH_CONNECTION: '',
    ...environment,
  };
  const argv = ['env', ...Object.entries(settings).map(([name, value]) => `${name}=${value}`), command, ...args];
  if (input === undefined) return lab.run(edge, ...(argv as [string, ...string[]]));
  const file = join(lab.directory, 'stdin');
  writeFileSync(file, input);
  return lab.run(edge, 'bash', '-c', `${argv.map((word) => `'${word}'`).join(' ')} <'${file}'`);
}

function json(status: number, args: readonly string[], ways: Ways = {}) {
  const done = hand([...args, '--json'], ways);
  expect({ status: done.status, stderr: done.stderr, stdout: done.stdout }).toMatchObject({ status });
  return { said: objects(done.stdout), errors: objects(done.stderr) };
}

function attachFirst(): void {
  if (existsSync(lab.pinDir)) expect(hand(['detach', '--all', '--purge']).status).toBe(0);
  rmSync(stateDir, { recursive: true, force: true });
  expect(hand(['attach', uplink, '--addresses', '4096', '--prefixes', '1024'])).toMatchObject({ status: 0 });
}

/** A fresh set with the interface attached. */
let attachAnew: () => void;

const file = (name: string, text: string): string => {
  const path = join(lab.directory, name);
  writeFileSync(path, text);
  return path;
};

const service = { uid: 0, gid: 0 };

/** What a daemon would have written, `agoMs` ago. The maps get it by a reconcile. */
function byPolicy(
  target: string,
  rule: string,
  { owner = 'policy:ssh', seconds = 3600, agoMs = 0 }: { owner?: Owner; seconds?: number; agoMs?: number } = {},
): void {
  const ledger = Ledger.open(stateDir, { service });
  const cause: AlertCause = {
    kind: 'alert',
    id: `alert-${target}`,
    rule,
    priority: 'Notice',
    hostname: 'edge',
    timeMs: Date.now() - agoMs,
    policy: owner.slice('policy:'.length),
    policyHash: null,
    alert: null,
  };
  const at = ledger.now() - agoMs;
  ledger.apply([
    { kind: 'wish', at, target: parsePrefix(target), owner, dropEnd: at + seconds * 1000, countEnd: 0, cause },
  ]);
  ledger.close();
}

const reconcile = () => expect(hand(['reconcile']).status).toBe(0);
const targetsOf = (said: readonly Record<string, unknown>[]) => said.map(({ target }) => target);
const listed = (...filters: string[]) => targetsOf(json(0, ['list', ...filters]).said);

describe('filters', () => {
  beforeEach(() => {
    attachAnew();
    byPolicy('203.0.113.1', 'Inbound SSH Connection', { agoMs: 3_600_000, seconds: 7200 });
    byPolicy('203.0.113.2', 'Netcat Remote Code Execution', { owner: 'policy:shell' });
    byPolicy('203.0.113.9', 'Inbound SSH Connection');
    reconcile();
    hand(['block', '203.0.113.9', '192.0.2.7', '--for', '2h', '--reason', 'scans']);
    hand(['block', '2001:db8::/48', '--monitor', '--forever']);
    hand(['import', file('feed', '192.0.2.128/25\n'), '--feed', 'spamhaus']);
  });

  test('choose by target, owner, rule, time and mode', () => {
    const all = ['192.0.2.7', '192.0.2.128/25', '203.0.113.1', '203.0.113.2', '203.0.113.9', '2001:db8::/48'];
    const cases: [string[], string[]][] = [
      [[], all],
      [
        ['--within', '203.0.113.0/24'],
        ['203.0.113.1', '203.0.113.2', '203.0.113.9'],
      ],
      [
        ['--owner', 'policy'],
        ['203.0.113.1', '203.0.113.2', '203.0.113.9'],
      ],
      [['--owner', 'policy:shell'], ['203.0.113.2']],
      [
        ['--owner', 'hand'],
        ['192.0.2.7', '203.0.113.9', '2001:db8::/48'],
      ],
      [['--owner', 'feed'], ['192.0.2.128/25']],
      [
        ['--rule', 'Inbound SSH Connection'],
        ['203.0.113.1', '203.0.113.9'],
      ],
      [['--rule', 'Inbound SSH Connection', '--since', '30m'], ['203.0.113.9']],
      [['--until', '30m'], ['203.0.113.1']],
      [['--mode', 'monitor'], ['2001:db8::/48']],
      [['--mode', 'enforce', '--within', '::/0'], []],
      [['--sort', 'end', '--limit', '1', '--owner', 'hand'], ['203.0.113.9']],
      [
        ['--sort', 'begin', '--limit', '2'],
        ['192.0.2.128/25', '2001:db8::/48'],
      ],
      [
        ['--limit', '2'],
        ['192.0.2.7', '192.0.2.128/25'],
      ],
    ];
    for (const [filters, targets] of cases) {
      const found = listed(...filters);
      // Both of one command began in the same millisecond, or not.
      if (filters.includes('end')) expect(targets.concat('192.0.2.7')).toContain(found[0]);
      else expect([filters, found]).toEqual([filters, targets]);
    }
  });

  test('list and show tell every claim, for people too', () => {
    const [entry] = json(0, ['list', '--within', '203.0.113.9']).said;
    expect(entry).toMatchObject({
      target: '203.0.113.9',
      owners: ['hand', 'policy'],
      claims: [
        { owner: 'hand', mode: 'enforce', reason: 'scans', rule: null, by: { verb: 'block', uid: 0 } },
        { owner: 'policy:ssh', mode: 'enforce', reason: null, rule: 'Inbound SSH Connection', by: null },
      ],
    });
    const text = hand(['list', '--within', '203.0.113.9']).stdout;
    expect(text).toMatch(/203\.0\.113\.9 +enforce .* 2 claims/);
    expect(text).toMatch(/enforce .* policy:ssh .* Inbound SSH Connection/);
    expect(json(0, ['show', '203.0.113.9']).said[0]?.entries).toMatchObject([
      { claims: [{ owner: 'hand' }, { owner: 'policy:ssh' }] },
    ]);
    expect(hand(['show', '203.0.113.9']).stdout).toContain('policy:ssh');
  });

  test.each([
    ['--owner', 'root', 'usage'],
    ['--owner', 'policy:', 'usage'],
    ['--since', 'soon', 'time_invalid'],
    ['--within', '203.0.113.1/24', 'prefix_host_bits'],
    ['--limit', '0', 'usage'],
    ['--mode', 'drop', 'usage'],
    ['--sort', 'name', 'usage'],
  ])('%s %s is refused', (option, value, code) => {
    expect(json(2, ['list', option, value]).errors).toMatchObject([{ code }]);
  });

  test('without a ledger the maps are told, and what only it knows is an error', () => {
    const name = join(stateDir, 'ledger.db');
    linkSync(name, `${name}.second`);
    try {
      const said = json(0, ['list', '--owner', 'hand']).said;
      expect(said).toMatchObject([{ claims: null }, { claims: null }, { claims: null }]);
      expect(hand(['list']).stderr).toContain('the ledger can not be used');
      expect(json(1, ['list', '--rule', 'x']).errors).toMatchObject([{ code: 'ledger_unsafe_path' }]);
    } finally {
      unlinkSync(`${name}.second`);
    }
  });

  test('unblock by filters ends those claims alone', () => {
    const filters = ['--owner', 'policy', '--rule', 'Inbound SSH Connection'];
    expect(json(2, ['unblock', ...filters]).errors).toMatchObject([
      { code: 'question_without_terminal', message: expect.stringContaining('End 2 blocks?') as string },
    ]);
    const foretold = json(0, ['unblock', ...filters, '--dry-run']).said;
    expect(foretold).toMatchObject([{ target: '203.0.113.1', status: 'would_unblock' }, { target: '203.0.113.9' }]);
    expect(listed()).toHaveLength(6);
    expect(targetsOf(json(0, ['unblock', ...filters, '--yes']).said)).toEqual(['203.0.113.1', '203.0.113.9']);
    expect(listed()).toEqual(['192.0.2.7', '192.0.2.128/25', '203.0.113.2', '203.0.113.9', '2001:db8::/48']);
    expect(listed('--owner', 'policy')).toEqual(['203.0.113.2']);
    expect(json(0, ['unblock', ...filters, '--yes']).said).toEqual([]);
    reconcile();
    expect(listed()).toHaveLength(5);
  });

  test('a feed’s claim is ended when it is said', () => {
    expect(json(4, ['unblock', '192.0.2.128/25']).errors).toMatchObject([
      { code: 'not_blocked', hint: expect.stringContaining('--all-claims') as string },
    ]);
    expect(json(0, ['unblock', '--all', '--yes']).said).toHaveLength(5);
    expect(listed()).toEqual(['192.0.2.128/25']);
    expect(json(0, ['unblock', '192.0.2.128/25', '--all-claims', '--dry-run']).said).toMatchObject([
      { status: 'would_unblock' },
    ]);
    expect(json(0, ['unblock', '192.0.2.128/25', '--all-claims']).said).toMatchObject([{ remaining: [] }]);
    expect(listed()).toEqual([]);
  });

  test('what a feed wants too stays, and it is said', () => {
    hand(['block', '192.0.2.128/25', '--for', '1h']);
    expect(json(0, ['unblock', '192.0.2.128/25']).said).toMatchObject([{ remaining: ['feed:spamhaus'] }]);
    expect(json(0, ['list', '--within', '192.0.2.128/25']).said).toMatchObject([{ ends_at: null, state: 'enforce' }]);
  });

  test('targets, filters and --all exclude each other', () => {
    for (const args of [
      ['--all', '--owner', 'hand'],
      ['192.0.2.7', '--within', '192.0.2.0/24'],
      ['--all', '192.0.2.7'],
      [],
    ]) {
      expect(json(2, ['unblock', ...args]).errors).toMatchObject([{ code: 'usage' }]);
    }
    expect(json(0, ['unblock', '203.0.113.9', '--owner', 'hand']).said).toMatchObject([{ remaining: ['policy:ssh'] }]);
  });
});

describe('--dry-run', () => {
  beforeEach(() => attachAnew());

  test('block says what it would do, and does nothing', () => {
    const would = (...args: string[]) => json(0, ['block', '203.0.113.66', '--dry-run', ...args]).said[0]?.would;
    expect(would()).toBe('block');
    expect(listed()).toEqual([]);
    expect(json(0, ['history']).said).toEqual([]);
    hand(['block', '203.0.113.66', '--for', '2h']);
    expect(would()).toBe('nothing');
    expect(would('--for', '3h')).toBe('extend');
    expect(would('--replace')).toBe('replace');
    expect(would('--monitor')).toBe('extend');
    expect(json(3, ['block', '127.0.0.1', '--dry-run']).errors).toMatchObject([{ code: 'refused' }]);
    expect(hand(['block', '203.0.113.66', '--dry-run']).stdout).toMatch(/^203\.0\.113\.66 would be unchanged, until /);
    expect(json(0, ['history']).said).toHaveLength(1);
  });

  test('detach', () => {
    expect(json(0, ['detach', '--all', '--dry-run']).said).toEqual([{ interface: uplink, would: 'detach' }]);
    expect(json(4, ['detach', 'up9', '--dry-run']).errors).toMatchObject([{ code: 'not_attached' }]);
    expect(json(0, ['status']).said).toMatchObject([{ interfaces: [{ interface: uplink }] }]);
  });
});

describe('history', () => {
  beforeEach(() => attachAnew());

  test('who, what, why, the newest first', () => {
    const environment = { SUDO_USER: 'alice', SSH_CONNECTION: '192.0.2.99 50000 198.51.100.1 22' };
    hand(['block', '203.0.113.66', '--reason', 'scans \u001b[2J'], { environment });
    hand(['block', '203.0.113.66', '--for', '2h', '--reason', 'goes on']);
    hand(['unblock', '203.0.113.66']);
    byPolicy('203.0.113.66', 'Inbound SSH Connection');
    const { said } = json(0, ['history']);
    expect(said.map(({ action, owner, reason, rule }) => [action, owner, reason, rule])).toEqual([
      ['made', 'policy:ssh', null, 'Inbound SSH Connection'],
      ['withdrawn', 'hand', null, null],
      ['extended', 'hand', 'goes on', null],
      ['made', 'hand', 'scans \u001b[2J', null],
    ]);
    expect(said[3]).toMatchObject({
      by: { verb: 'block', sudo_user: 'alice', ssh_client: '192.0.2.99' },
      mode: 'enforce',
    });
    expect(said[0]).toMatchObject({ policy: 'ssh', alert: { id: 'alert-203.0.113.66', hostname: 'edge' } });
    expect(said[2]?.ends_at_before).toBe(said[3]?.ends_at);
    const text = hand(['history']).stdout;
    expect(text).toMatch(/made +203\.0\.113\.66 +hand .* alice \(uid \d+\) from 192\.0\.2\.99 +scans \\u001b\[2J/);
    expect(json(0, ['history', '--limit', '1']).said).toHaveLength(1);
    expect(json(0, ['history', '--owner', 'policy']).said).toHaveLength(1);
    expect(json(0, ['history', '--until', '1h']).said).toEqual([]);
    expect(hand(['history', '--until', '1h']).stdout).toBe('nothing of that is in the history\n');
  });

  test('of a target: with what holds it, what lies in it, and the set that claims it', () => {
    hand(['block', '203.0.113.66', '203.0.113.0/24', '203.0.113.67']);
    hand(['import', file('set', '203.0.0.0/16\n192.0.2.1\n'), '--feed', 'wide']);
    hand(['import', file('other', '192.0.2.2\n'), '--feed', 'other']);
    const of = (target: string) => json(0, ['history', target]).said.map((row) => row.target ?? row.owner);
    expect(of('203.0.113.66')).toEqual(['feed:wide', '203.0.113.0/24', '203.0.113.66']);
    expect(of('203.0.113.0/24')).toEqual(['feed:wide', '203.0.113.67', '203.0.113.0/24', '203.0.113.66']);
    expect(of('192.0.2.1')).toEqual(['feed:wide']);
    expect(of('192.0.2.9')).toEqual([]);
    expect(json(2, ['history', '203.0.113.66', '--within', '::/0']).errors).toMatchObject([{ code: 'usage' }]);
  });

  test('needs no pins, and without a ledger says so', () => {
    hand(['block', '203.0.113.66']);
    hand(['detach', '--all', '--purge']);
    expect(json(0, ['history']).said).toMatchObject([{ target: '203.0.113.66' }]);
    expect(json(0, ['export']).said).toMatchObject([{ target: '203.0.113.66' }]);
    rmSync(stateDir, { recursive: true });
    expect(json(1, ['history']).errors).toMatchObject([{ code: 'ledger_missing' }]);
  });

  test('--utc', () => {
    hand(['block', '203.0.113.66']);
    const environment = { TZ: 'Asia/Kolkata' };
    expect(hand(['history'], { environment }).stdout).toContain('WHEN (+05:30)');
    expect(hand(['history', '--utc'], { environment }).stdout).toContain('WHEN (+00:00)');
    expect(hand(['list', '--utc'], { environment }).stdout).toContain('ENDS (+00:00)');
  });
});

describe('import and export', () => {
  beforeEach(() => attachAnew());

  const summary = (status: number, ...args: string[]) => json(status, ['import', ...args]).said.at(-1);

  test('a plain list; again it is unchanged', () => {
    const path = file('plain', '# abuse\n203.0.113.66  # scans\n\n  203.0.113.0/24\r\n2001:db8::1\n203.0.113.66\n');
    expect(summary(0, path, '--for', '1d', '--reason', 'report 7')).toMatchObject({
      status: 'changed',
      lines: 4,
      targets: 3,
      blocked: 3,
      unchanged: 0,
    });
    expect(json(0, ['list']).said).toMatchObject([
      { target: '203.0.113.0/24', state: 'enforce', claims: [{ owner: 'hand', reason: 'report 7' }] },
      { target: '203.0.113.66' },
      { target: '2001:db8::1' },
    ]);
    const again = hand(['import', path, '--for', '1d']);
    expect(again).toMatchObject({ status: 0, stdout: 'unchanged: 3 unchanged\n' });
    // A set is one row.
    expect(json(0, ['history']).said).toMatchObject([{ action: 'made', target: null, count: 3, reason: 'report 7' }]);
    expect(summary(0, path, '--for', '2d')).toMatchObject({ extended: 3 });
    expect(json(0, ['import', '-', '--json'], { input: '203.0.113.99' }).said).toMatchObject([{ blocked: 1 }]);
  });

  test('with a bad line nothing is done, and each is named up to a limit', () => {
    const bad = Array.from({ length: 30 }, (_, n) => `300.0.0.${n}`).join('\n');
    const { said, errors } = json(2, ['import', file('bad', `203.0.113.66\n${bad}\n203.0.113.1/24\n`)]);
    expect(said).toEqual([]);
    expect(errors).toHaveLength(21);
    expect(errors[0]).toMatchObject({ code: 'import_invalid', message: expect.stringMatching(/^line 2: /) as string });
    expect(errors[20]).toMatchObject({ message: '11 more lines are wrong; nothing was done' });
    expect(listed()).toEqual([]);
    for (const line of [
      '{"target":1}',
      '{"target":"203.0.113.1","mode":"off"}',
      '{',
      '203.0.113.1 203.0.113.2',
      '\u0000',
    ]) {
      expect(json(2, ['import', '-'], { input: line }).errors[0]).toMatchObject({ code: 'import_invalid' });
    }
  });

  test('what the guard refuses is named and left out', () => {
    const { said, errors } = json(3, ['import', file('guard', '203.0.113.66\n127.0.0.1\n198.51.100.1\n')]);
    expect(errors).toMatchObject([
      { code: 'refused', reason: 'own_address' },
      { code: 'refused', reason: 'own_address' },
    ]);
    expect(said).toMatchObject([{ blocked: 1, refused: 2 }]);
    expect(listed()).toEqual(['203.0.113.66']);
  });

  test('a feed is what its file says', () => {
    const first = file('feed1', '192.0.2.1\n192.0.2.2\n192.0.2.3 ; SBL1\n');
    const second = file('feed2', '192.0.2.2\n192.0.2.4\n');
    const args = ['--feed', 'drop', '--replace'];
    expect(summary(0, first, ...args)).toMatchObject({ blocked: 3, withdrawn: 0 });
    hand(['block', '192.0.2.1', '--for', '2h']);
    const foretold = json(0, ['import', second, ...args, '--dry-run']).said;
    expect(foretold.map(({ would, target }) => [would, target])).toEqual([
      ['withdraw', '192.0.2.1'],
      ['withdraw', '192.0.2.3'],
      ['block', '192.0.2.4'],
      [undefined, undefined],
    ]);
    expect(listed('--owner', 'feed')).toHaveLength(3);
    expect(summary(0, second, ...args)).toMatchObject({ blocked: 1, withdrawn: 2, unchanged: 1 });
    expect(listed('--owner', 'feed:drop')).toEqual(['192.0.2.2', '192.0.2.4']);
    // The hand's own claim goes on.
    expect(json(0, ['list', '--within', '192.0.2.1']).said).toMatchObject([{ owners: ['hand'] }]);
    expect(summary(0, second, ...args)).toMatchObject({ status: 'unchanged', unchanged: 2 });
    expect(summary(0, second, ...args, '--for', '1d')).toMatchObject({ replaced: 2 });
    expect(summary(0, second, ...args, '--for', '1d')).toMatchObject({ status: 'unchanged' });
    const empty = file('empty', '# nothing today\n');
    expect(json(2, ['import', empty, ...args]).errors).toMatchObject([{ code: 'question_without_terminal' }]);
    expect(summary(0, empty, ...args, '--yes')).toMatchObject({ withdrawn: 2 });
    expect(listed()).toEqual(['192.0.2.1']);
    reconcile();
    expect(listed()).toEqual(['192.0.2.1']);
  });

  test('usage', () => {
    const path = file('one', '203.0.113.66\n');
    for (const args of [[path, '--replace'], [path, '--for', '1h', '--forever'], [path, '--feed', 'a b'], []]) {
      expect(json(2, ['import', ...args]).errors).toMatchObject([{ code: 'usage' }]);
    }
    expect(json(1, ['import', '/nonexistent/file']).errors).toMatchObject([{ code: 'file_unreadable' }]);
    expect(listed()).toEqual([]);
  });

  test('what is exported comes back as it was', () => {
    hand(['block', '203.0.113.66', '--for', '2h', '--reason', 'scans']);
    hand(['block', '203.0.113.66', '--monitor', '--for', '3h']);
    hand(['block', '2001:db8::/48', '--forever']);
    hand(['import', file('feed', '192.0.2.128/25\n192.0.2.1\n'), '--feed', 'drop']);
    byPolicy('203.0.113.9', 'Inbound SSH Connection');
    reconcile();
    const exported = hand(['export']).stdout;
    const before = objects(exported);
    expect(before.map(({ target, owner, mode }) => [target, owner, mode])).toEqual([
      ['192.0.2.1', 'feed:drop', 'enforce'],
      ['192.0.2.128/25', 'feed:drop', 'enforce'],
      ['203.0.113.9', 'policy:ssh', 'enforce'],
      ['203.0.113.66', 'hand', 'enforce'],
      ['203.0.113.66', 'hand', 'monitor'],
      ['2001:db8::/48', 'hand', 'enforce'],
    ]);
    expect(json(0, ['import', '-'], { input: exported }).said).toMatchObject([{ status: 'unchanged', unchanged: 6 }]);
    attachAnew();
    expect(json(0, ['import', '-'], { input: exported }).said).toMatchObject([{ blocked: 6 }]);
    const after = objects(hand(['export']).stdout);
    const same = (lines: readonly Record<string, unknown>[]) =>
      lines.map(({ target, owner, mode, reason, ends_at }) => [
        target,
        owner,
        mode,
        reason,
        ends_at === null ? null : Math.round(Date.parse(String(ends_at)) / 5000),
      ]);
    expect(same(after)).toEqual(same(before));
    expect(json(0, ['list', '--owner', 'feed']).said).toHaveLength(2);
    expect(objects(hand(['export', '--owner', 'policy']).stdout)).toHaveLength(1);
  });

  test('what ended already, and contradictions', () => {
    const lines = [
      { target: '203.0.113.1', ends_at: '2020-01-01T00:00:00Z' },
      { target: '203.0.113.2', ends_at: null },
      { target: '203.0.113.2', ends_at: new Date(Date.now() + 60_000).toISOString() },
      { target: '203.0.113.2', mode: 'monitor', ends_at: null },
    ];
    const input = lines.map((line) => JSON.stringify(line)).join('\n');
    expect(json(0, ['import', '-'], { input }).said).toMatchObject([{ ended: 1, targets: 1, blocked: 2 }]);
    expect(json(0, ['list']).said).toMatchObject([{ target: '203.0.113.2', drop_seconds: null, count_seconds: null }]);
  });

  test('more than the map holds is refused before anything is done', () => {
    const many = Array.from({ length: 1025 }, (_, n) => `2001:db8:${(n + 16).toString(16)}::/48`).join('\n');
    const { errors } = json(1, ['import', file('many', many)]);
    expect(errors).toMatchObject([{ code: 'map_full', message: expect.stringContaining('blocked_cidr_v6') as string }]);
    expect(listed()).toEqual([]);
  });
});

describe('undo', () => {
  beforeEach(() => attachAnew());

  test('takes back what policies did in the window, as one action', () => {
    byPolicy('203.0.113.1', 'Old', { agoMs: 3_600_000, seconds: 7200 });
    byPolicy('203.0.113.2', 'Inbound SSH Connection');
    byPolicy('203.0.113.3', 'Inbound SSH Connection', { agoMs: 3_600_000, seconds: 7200 });
    byPolicy('203.0.113.3', 'Inbound SSH Connection', { seconds: 86_400 });
    byPolicy('203.0.113.4', 'Other', { owner: 'policy:shell' });
    reconcile();
    hand(['block', '203.0.113.2', '203.0.113.7', '--for', '2h']);
    const foretold = json(0, ['undo', '--dry-run']).said;
    expect(foretold).toMatchObject([
      { target: '203.0.113.2', status: 'withdrawn', dry_run: true, rule: 'Inbound SSH Connection' },
      { target: '203.0.113.3', status: 'set_back', mode: 'enforce' },
      { target: '203.0.113.4', status: 'withdrawn', owner: 'policy:shell' },
    ]);
    expect(listed()).toHaveLength(5);
    expect(json(2, ['undo']).errors).toMatchObject([{ code: 'question_without_terminal' }]);
    expect(json(0, ['undo', '--yes']).said).toHaveLength(3);
    const after = json(0, ['list']).said;
    expect(targetsOf(after)).toEqual(['203.0.113.1', '203.0.113.2', '203.0.113.3', '203.0.113.7']);
    expect(after[1]).toMatchObject({ owners: ['hand'] });
    expect(Number(after[2]?.ends_in_seconds)).toBeLessThanOrEqual(3600);
    expect(Number(after[2]?.ends_in_seconds)).toBeGreaterThan(3500);
    const undone = json(0, ['history', '--owner', 'policy']).said.filter(({ action }) => action === 'undone');
    expect(targetsOf(undone).sort()).toEqual(['203.0.113.2', '203.0.113.3', '203.0.113.4']);
    expect(undone[0]).toMatchObject({ by: { verb: 'undo' }, reason: 'undo of what was done since 15m' });
    expect(json(0, ['undo', '--yes']).said).toEqual([]);
    reconcile();
    expect(listed()).toHaveLength(4);
  });

  test('of one policy, one rule, a longer window; and only of policies', () => {
    byPolicy('203.0.113.1', 'Old', { agoMs: 3_600_000, seconds: 7200 });
    byPolicy('203.0.113.4', 'Other', { owner: 'policy:shell' });
    reconcile();
    expect(targetsOf(json(0, ['undo', '--owner', 'policy:shell', '--dry-run']).said)).toEqual(['203.0.113.4']);
    expect(targetsOf(json(0, ['undo', '--since', '2h', '--rule', 'Old', '--dry-run']).said)).toEqual(['203.0.113.1']);
    expect(hand(['undo', '--within', '192.0.2.0/24']).stdout).toMatch(/^nothing to undo/);
    expect(json(2, ['undo', '--owner', 'hand']).errors).toMatchObject([{ code: 'usage' }]);
  });
});

describe('backup and restore', () => {
  beforeEach(() => attachAnew());

  test('a copy while it is in use, and back', () => {
    hand(['block', '203.0.113.66', '--for', '2h', '--reason', 'kept']);
    const copy = join(lab.directory, `copy-${Date.now()}`);
    expect(json(0, ['backup', copy]).said).toMatchObject([{ file: copy, claims: 1, history: 1 }]);
    expect(statSync(copy).mode & 0o7777).toBe(0o600);
    expect(json(1, ['backup', copy]).errors).toMatchObject([{ code: 'ledger_backup' }]);
    hand(['unblock', '203.0.113.66']);
    hand(['block', '203.0.113.67', '--for', '2h']);
    expect(json(0, ['restore', copy, '--dry-run']).said).toMatchObject([{ claims: 1, status: 'unchanged' }]);
    expect(json(2, ['restore', copy]).errors).toMatchObject([{ code: 'question_without_terminal' }]);
    expect(targetsOf(objects(hand(['export']).stdout))).toEqual(['203.0.113.67']);
    const restored = hand(['restore', copy, '--yes']);
    expect(restored.status).toBe(0);
    expect(restored.stderr).toContain('falcodrop reconcile');
    expect(targetsOf(objects(hand(['export']).stdout))).toEqual(['203.0.113.66']);
    reconcile();
    // What is blocked and not in the backup is adopted: drops do not end by a restore.
    expect(listed()).toEqual(['203.0.113.66', '203.0.113.67']);
    expect(json(0, ['list', '--within', '203.0.113.66']).said).toMatchObject([{ claims: [{ reason: 'kept' }] }]);
    const restoring = json(0, ['history']).said.find(({ action }) => action === 'restored');
    expect(restoring).toMatchObject({ detail: copy, count: 1 });
    const told = objects(readFileSync(join(stateDir, 'audit.jsonl'), 'utf8'));
    expect(told.find((line) => line['event.action'] === 'restored')).toMatchObject({
      'falcodrop.history.id': restoring?.id,
    });
    expect(json(0, ['backup', copy, '--replace']).said).toMatchObject([{ claims: 2 }]);
    expect(readdirSync(stateDir).filter((name) => /^(backup|restore)\./.test(name))).toEqual([]);
  });

  test('through a pipe', () => {
    hand(['block', '203.0.113.66']);
    const copy = join(lab.directory, 'piped');
    const settings = `FALCODROP_PIN_DIR=${lab.pinDir} FALCODROP_STATE_DIR=${stateDir}`;
    expect(lab.run(edge, 'bash', '-c', `${settings} ${command} backup - >${copy}`).status).toBe(0);
    expect(json(0, ['restore', copy, '--dry-run']).said).toMatchObject([{ claims: 1 }]);
  });

  test('a bad file changes nothing, and is the one that is named', () => {
    hand(['block', '203.0.113.66']);
    const cases: [string, string][] = [
      [file('garbage', 'x'.repeat(10_000)), 'ledger_not_database'],
      [file('nothing', ''), 'ledger_not_database'],
      ['/nonexistent/backup', 'file_unreadable'],
      [lab.directory, 'file_unreadable'],
    ];
    for (const [path, code] of cases) {
      const { errors } = json(1, ['restore', path, '--yes']);
      expect(errors).toMatchObject([{ code, message: expect.stringContaining(path) as string }]);
      expect(errors[0]?.message).not.toContain(stateDir);
    }
    expect(listed()).toEqual(['203.0.113.66']);
    expect(readdirSync(stateDir).filter((name) => name.startsWith('restore.'))).toEqual([]);
  });

  test('to where nothing can be written leaves nothing', () => {
    expect(json(1, ['backup', '/nonexistent/copy']).errors).toMatchObject([{ code: 'ledger_backup' }]);
    rmSync(stateDir, { recursive: true });
    const copy = join(lab.directory, 'no-ledger');
    expect(json(1, ['backup', copy]).errors).toMatchObject([{ code: 'ledger_missing' }]);
    expect(existsSync(copy)).toBe(false);
  });

  test('of root, whose ledger is the service’s: a failure leaves nothing, and what was there stays', () => {
    if (existsSync(lab.pinDir)) hand(['detach', '--all', '--purge']);
    rmSync(stateDir, { recursive: true, force: true });
    const config = file('service.yaml', 'service:\n  user: "54321"\n  group: "54322"\n');
    const environment = { FALCODROP_CONFIG: config };
    expect(hand(['attach', uplink], { environment }).status).toBe(0);
    hand(['block', '203.0.113.66'], { environment });
    const copies = join(lab.directory, `copies-${Date.now()}`);
    mkdirSync(copies, { mode: 0o700 });
    const copy = join(copies, 'copy');
    expect(json(0, ['backup', copy], { environment }).said).toMatchObject([{ claims: 1, history: 1 }]);
    const before = readFileSync(copy);
    writeFileSync(join(stateDir, 'ledger.db'), 'no ledger '.repeat(2000));
    rmSync(join(stateDir, 'ledger.db-wal'), { force: true });
    for (const args of [[join(copies, 'other')], [copy, '--replace']]) {
      expect(json(1, ['backup', ...args], { environment }).errors).toMatchObject([
        { code: 'ledger_not_database', hint: expect.stringContaining('drops go on') as string },
      ]);
    }
    expect(readdirSync(copies)).toEqual(['copy']);
    expect(readFileSync(copy).equals(before)).toBe(true);
    symlinkSync(copy, join(copies, 'link'));
    expect(json(1, ['backup', join(copies, 'link'), '--replace'], { environment }).errors).toMatchObject([
      { code: 'ledger_backup', message: expect.stringContaining('symbolic link') as string },
    ]);
  });
});

describe('the audit file', () => {
  const lines = () => objects(readFileSync(join(stateDir, 'audit.jsonl'), 'utf8'));

  test('has a line for what every verb did', () => {
    attachAnew();
    hand(['block', '203.0.113.66', '--reason', 'scans']);
    hand(['block', '203.0.113.66', '--for', '2h']);
    hand(['block', '203.0.113.66']);
    hand(['unblock', '203.0.113.66']);
    hand(['import', file('feed', '192.0.2.1\n192.0.2.2\n'), '--feed', 'drop']);
    reconcile();
    hand(['detach', uplink]);
    expect(lines()[0]).toMatchObject({ 'event.action': 'attached', 'observer.ingress.interface.name': uplink });
    expect(lines().at(-1)).toMatchObject({ 'event.action': 'detached', 'falcodrop.verb': 'detach', 'user.id': '0' });
    const told = lines()
      .filter((line) => line['source.address'] !== undefined || line['falcodrop.count'] !== undefined)
      .map((line) => [line['event.action'], line['source.ip'] ?? line['falcodrop.count'], line['falcodrop.owner']]);
    expect(told).toEqual([
      ['made', '203.0.113.66', 'hand'],
      ['extended', '203.0.113.66', 'hand'],
      ['withdrawn', '203.0.113.66', 'hand'],
      ['made', 2, 'feed:drop'],
    ]);
    const rows = json(0, ['history'])
      .said.map(({ action, count }) => [action, count])
      .reverse();
    expect(rows).toEqual([
      ['made', 1],
      ['extended', 1],
      ['withdrawn', 1],
      ['made', 2],
    ]);
    expect(statSync(join(stateDir, 'audit.jsonl')).mode & 0o7777).toBe(0o640);
  });

  test('the hand’s as the service: its files are the service’s', () => {
    if (existsSync(lab.pinDir)) hand(['detach', '--all', '--purge']);
    rmSync(stateDir, { recursive: true, force: true });
    const config = file('service.yaml', 'service:\n  user: "54321"\n  group: "54322"\n');
    const environment = { FALCODROP_CONFIG: config };
    expect(hand(['attach', uplink], { environment }).status).toBe(0);
    chownSync(lab.directory, 0, 0);
    hand(['block', '203.0.113.66'], { environment });
    const path = file('secret', '203.0.113.67\n');
    chmodSync(path, 0o600);
    expect(json(0, ['import', path], { environment }).said).toMatchObject([{ blocked: 1 }]);
    const copy = join(lab.directory, `root-copy-${Date.now()}`);
    expect(json(0, ['backup', copy], { environment }).said).toMatchObject([{ claims: 2 }]);
    expect(statSync(copy)).toMatchObject({ uid: 0, gid: 0 });
    expect(json(0, ['restore', copy, '--yes'], { environment }).said).toMatchObject([{ status: 'restored' }]);
    expect(json(0, ['history'], { environment }).said.length).toBeGreaterThan(2);
    for (const name of ['audit.jsonl', 'ledger.db']) {
      expect(statSync(join(stateDir, name))).toMatchObject({ uid: 54_321, gid: 54_322 });
    }
    hand(['detach', '--all', '--purge'], { environment });
    // The pins are gone: the ledger says itself whose it is.
    expect(json(0, ['export'], { environment }).said).toHaveLength(2);
  });
});
