/** What root allows, through the built command: files, kernel and packets; and all the ways in which a file can be wrong. */
import type { ChildProcess } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { formatPorts } from '../../src/address/port.ts';
import { formatPrefix } from '../../src/address/prefix.ts';
import { applyAllows, readAllows } from '../../src/kernel/allows.ts';
import { monotonicNs, secondsLeft } from '../../src/kernel/clock.ts';
import { PinnedSet } from '../../src/kernel/set.ts';
import { until } from '../kernel/lab.ts';
import { dropped, type Edge, openEdge } from './edge.ts';

const service = [54321, 54321] as const;
const attackers = ['203.0.113.66', '203.0.113.67', '203.0.113.200', '192.0.2.9', '2001:db8:9::1', '2001:db8:9::2'];

let edge: Edge;
let folder = '';

beforeAll(() => {
  edge = openEdge({ service });
  folder = join(dirname(edge.configFile), 'allow.d');
  edge.attach();
  edge.must(['block', '203.0.113.0/24', '203.0.113.66', '2001:db8:9::/48', '192.0.2.9', '--for', '2h']);
});
afterAll(() => edge.lab.close());
beforeEach(() => {
  rmSync(folder, { recursive: true, force: true });
  rmSync(join(edge.stateDir, 'root/allows.json'), { force: true });
  configure('');
  edge.must(['protect']);
  expect(drops()).toEqual(attackers);
});

function configure(more: string): void {
  writeFileSync(edge.configFile, `service: { user: "${service[0]}", group: "${service[1]}" }\n${more}`);
}

const withSet = <T>(work: (set: PinnedSet) => T): T => {
  const set = new PinnedSet(edge.lab.pinDir);
  try {
    return work(set);
  } finally {
    set.close();
  }
};
const statusOf = (child: ChildProcess) => new Promise<number | null>((resolve) => child.once('close', resolve));
const drops = () => [...dropped(edge.lab.pinDir, attackers)];
/** By hand and by file: the host's gateway and name servers left out. */
const gateway = '198.51.100.254';
const held = (): Map<string, number | null> =>
  withSet(
    (set) =>
      new Map(readAllows(set).map(({ prefix, until: end }) => [formatPrefix(prefix), secondsLeft(end, monotonicNs())])),
  );

function allowFile(name: string, ...lines: string[]): string {
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const path = join(folder, name);
  writeFileSync(path, `${lines.join('\n')}\n`);
  return path;
}
const replace = (path: string, make: () => void): void => {
  rmSync(path);
  make();
};
const hand = () => readFileSync(join(folder, '10-hand'), 'utf8');

describe('allow add, remove and list', () => {
  test('frees at once what it covers, says what it overrules, and stands in file, kernel, history and audit', () => {
    const [said] = edge.json(0, ['allow', 'add', '203.0.113.64/26', '--for', '8h', '--reason', 'pentest #4711']).said;
    expect(said).toMatchObject({
      target: '203.0.113.64/26',
      status: 'allowed',
      in_kernel: true,
      ends_in_seconds: 28_800,
    });
    expect(said?.notes).toMatchObject([
      { code: 'overrules', message: expect.stringMatching(/^overrules 1 block, .*203\.0\.113\.66$/) as string },
      { code: 'frees', message: expect.stringMatching(/203\.0\.113\.0\/24/) as string },
    ]);
    expect(drops()).toEqual(attackers.slice(2));
    expect(hand()).toMatch(
      /^# Written by .*\n203\.0\.113\.64\/26 until=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ # pentest #4711\n$/,
    );
    expect(statSync(join(folder, '10-hand'))).toMatchObject({ uid: 0, mode: 0o100644 });
    const left = held().get('203.0.113.64/26') ?? 0;
    expect(left).toBeGreaterThan(28_780);
    expect(left).toBeLessThanOrEqual(28_801);
    // The claim is still there, and shown as what it is.
    expect(edge.json(0, ['show', '203.0.113.66']).said).toMatchObject([{ verdict: 'allowed', entries: [{}, {}] }]);
    const listed = edge.json(0, ['list']).said.map(({ target, allowed_by }) => [target, allowed_by]);
    expect(listed).toContainEqual(['203.0.113.66', '203.0.113.64/26']);
    expect(listed).toContainEqual(['203.0.113.0/24', null]);
    expect(edge.must(['list'])).toMatch(/203\.0\.113\.66 +allowed/);
    expect(edge.json(0, ['history', '203.0.113.64/26', '--limit', '1']).said).toMatchObject([
      {
        action: 'allowed',
        target: '203.0.113.64/26',
        detail: expect.stringMatching(/pentest #4711$/) as string,
        by: { uid: 0 },
      },
    ]);
    expect(readFileSync(join(edge.stateDir, 'audit.jsonl'), 'utf8')).toMatch(
      /"event.action":"allowed".*"source.address":"203.0.113.64\/26"/,
    );

    expect(edge.json(0, ['allow', 'list']).said).toMatchObject([
      {
        target: '203.0.113.64/26',
        file: join(folder, '10-hand'),
        line: 2,
        in_kernel: true,
        reason: 'pentest #4711',
        force: false,
      },
    ]);
    const [removed] = edge.json(0, ['allow', 'remove', '203.0.113.64/26']).said;
    expect(removed).toMatchObject({
      status: 'removed',
      notes: [{ code: 'drops_again', message: expect.stringMatching(/203\.0\.113\.66/) as string }],
    });
    expect(drops()).toEqual(attackers);
    expect(hand()).toMatch(/^# Written by .*\n$/);
    expect(edge.json(0, ['history', '203.0.113.64/26', '--limit', '1']).said).toMatchObject([{ action: 'disallowed' }]);
    expect(edge.json(4, ['allow', 'remove', '203.0.113.64/26']).errors).toMatchObject([{ code: 'not_allowed' }]);
  });

  test('real packets: a ping is answered as soon as the command has ended, and no more when it is taken back', () => {
    edge.lab.exec(edge.outside, 'ip', 'addr', 'add', '203.0.113.66/32', 'dev', 'x0');
    const ping = () =>
      edge.lab.run(edge.outside, 'ping', '-q', '-c', '2', '-i', '0.2', '-W', '1', '-I', '203.0.113.66', '198.51.100.1')
        .status;
    expect(ping()).toBe(1);
    edge.must(['allow', 'add', '203.0.113.66']);
    expect(ping()).toBe(0);
    edge.must(['allow', 'remove', '203.0.113.66']);
    expect(ping()).toBe(1);
  });

  test('the longest wins; remove begins anew; several at once, each told', () => {
    edge.must(['allow', 'add', '203.0.113.66', '--for', '2h']);
    expect(edge.json(0, ['allow', 'add', '203.0.113.66', '--for', '1h']).said).toMatchObject([{ status: 'unchanged' }]);
    expect(held().get('203.0.113.66')).toBeGreaterThan(7100);
    expect(edge.json(0, ['allow', 'add', '203.0.113.66', '192.0.2.9', '203.0.113.66']).said).toMatchObject([
      { target: '203.0.113.66', status: 'extended', ends_at: null },
      { target: '192.0.2.9', status: 'allowed' },
    ]);
    expect(held().get('203.0.113.66')).toBeNull();
    expect(hand().match(/203\.0\.113\.66/g)).toHaveLength(1);
    const { said, errors } = edge.json(4, ['allow', 'remove', '203.0.113.66', '203.0.113.99']);
    expect(said).toMatchObject([{ target: '203.0.113.66', status: 'removed' }]);
    expect(errors).toMatchObject([{ code: 'not_allowed' }]);
  });

  test('--until: the clock time that comes next, a moment, nothing that has passed', () => {
    const environment = { TZ: 'UTC' };
    edge.must(['allow', 'add', '192.0.2.9', '--until', '00:00'], { environment });
    const seconds = held().get('192.0.2.9') ?? 0;
    const midnight = new Date().setUTCHours(24, 0, 0, 0);
    expect(Math.abs((midnight - Date.now()) / 1000 - seconds)).toBeLessThan(5);
    const at = new Date(Date.now() + 90 * 86_400_000).toISOString();
    edge.must(['allow', 'add', '203.0.113.67', '--until', at]);
    expect(Math.abs((held().get('203.0.113.67') ?? 0) - 90 * 86_400)).toBeLessThan(5);
    for (const wrong of ['2020-01-01T00:00:00Z', 'now', '15m', 'tomorrow', '9999-12-31T00:00:00Z']) {
      expect(edge.json(2, ['allow', 'add', '203.0.113.200', '--until', wrong]).errors).toMatchObject([
        { code: 'time_invalid' },
      ]);
    }
    expect(edge.json(2, ['allow', 'add', '203.0.113.200', '--until', at, '--for', '1h']).errors).toMatchObject([
      { code: 'usage' },
    ]);
    expect(held().has('203.0.113.200')).toBe(false);
  });

  test.each([
    ['0.0.0.0/0', 3],
    ['::/0', 3],
    ['::ffff:0.0.0.0/96', 3],
  ])('%s only with --force, loudly, every time', (target, status) => {
    expect(edge.json(status, ['allow', 'add', target]).errors).toMatchObject([{ code: 'allow_wide' }]);
    expect(existsSync(join(folder, '10-hand'))).toBe(false);
    const done = edge.run(['allow', 'add', target, '--force']);
    expect(done).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/^warning: .* is very wide: while it is allowed/m) as string,
    });
    expect(edge.run(['protect'])).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/^warning: .* is very wide/m) as string,
    });
    expect(edge.run(['allow', 'add', target, '--force']).stderr).toMatch(/warning: .* is very wide/);
    expect(hand()).toMatch(/ force\n$/);
    edge.must(['allow', 'remove', target]);
    expect(drops()).toEqual(attackers);
  });

  test('what has ended is dropped when the file is next written; everything else stays as it stands', () => {
    allowFile(
      '10-hand',
      '# ours',
      '',
      '192.0.2.1 until=2020-01-01T00:00:00Z # old',
      '  192.0.2.2   # kept as it is',
      '# end',
    );
    const other = allowFile('20-site', '192.0.2.3 until=2020-01-01T00:00:00Z');
    edge.must(['allow', 'add', '192.0.2.9']);
    expect(hand()).toBe('# ours\n\n  192.0.2.2   # kept as it is\n# end\n192.0.2.9\n');
    expect(readFileSync(other, 'utf8')).toBe('192.0.2.3 until=2020-01-01T00:00:00Z\n');
    expect([...held().keys()]).not.toContain('192.0.2.3');
  });

  test('a hostile reason ends no line and moves no cursor', () => {
    edge.must(['allow', 'add', '192.0.2.9', '--reason', 'x\n0.0.0.0/0 force\r\u001b[2J\u202e']);
    expect(hand().trimEnd().split('\n')).toHaveLength(2);
    expect([...held().keys()]).not.toContain('0.0.0.0/0');
    const told = edge.must(['allow', 'list']);
    for (const hostile of ['\u001b', '\u202e', '\r']) expect(told).not.toContain(hostile);
  });

  test('wrong words', () => {
    for (const args of [
      ['allow'],
      ['allow', 'ad', '192.0.2.9'],
      ['allow', 'add'],
      ['allow', 'list', '192.0.2.9'],
      ['allow', 'list', '--for', '1h'],
      ['allow', 'remove', '192.0.2.9', '--force'],
      ['guard', 'lst'],
    ]) {
      expect({ args, status: edge.run(args).status }).toEqual({ args, status: 2 });
    }
    expect(edge.json(2, ['allow', 'add', '192.0.2.9', '203.0.113.9/24']).errors).toMatchObject([
      { code: 'prefix_host_bits' },
    ]);
    expect(held().has('192.0.2.9')).toBe(false);
  });

  test('not root: 5, and nothing is done', () => {
    for (const as of [service, [65_534, 65_534] as const]) {
      for (const args of [
        ['allow', 'add', '192.0.2.9'],
        ['allow', 'remove', '192.0.2.9'],
        ['protect'],
        ['protect', '--dry-run'],
        ['mode', 'off'],
      ]) {
        expect(edge.json(5, args, { as }).errors).toMatchObject([
          { code: 'not_permitted', hint: expect.stringMatching(/^sudo falcodrop/) as string },
        ]);
      }
    }
    // The service's group may look.
    allowFile('20-site', '192.0.2.9');
    expect(edge.json(0, ['allow', 'list'], { as: service }).said).toMatchObject([
      { target: '192.0.2.9', in_kernel: false },
    ]);
    expect(drops()).toEqual(attackers);
  });

  test('without maps the file is written, and attach brings it into the kernel before its first packet', () => {
    edge.purge();
    const { said } = edge.json(0, ['allow', 'add', '203.0.113.66']);
    expect(said).toMatchObject([{ status: 'allowed', in_kernel: false, notes: [{ code: 'nothing_attached' }] }]);
    expect(edge.json(1, ['protect']).errors).toMatchObject([{ code: 'pin_dir_missing' }]);
    edge.attach();
    expect(held().has('203.0.113.66')).toBe(true);
    expect(held().has(gateway)).toBe(true);
    expect(drops()).toEqual(attackers.filter((source) => source !== '203.0.113.66'));
  });

  test('an unusable ledger, state directory or daemon is no hindrance', () => {
    const stateDir = join(edge.lab.directory, 'no-state');
    writeFileSync(stateDir, 'a file');
    const done = edge.run(['allow', 'add', '192.0.2.9'], { environment: { FALCODROP_STATE_DIR: stateDir } });
    expect(done).toMatchObject({ status: 0, stderr: expect.stringMatching(/history/) as string });
    expect(drops()).not.toContain('192.0.2.9');
  });
});

describe('protect', () => {
  test('files, management, gateways, name servers; ports; then unchanged', () => {
    configure('management: [192.0.2.0/25, "2001:db8:9::1"]\nnever_drop_ports: [tcp/22, udp/51820]\n');
    allowFile('20-site', '203.0.113.67 # the office', '203.0.113.66 until=2020-01-01T00:00:00Z');
    const [foreseen] = edge.json(0, ['protect', '--dry-run']).said;
    expect(drops()).toEqual(attackers);
    const [done] = edge.json(0, ['protect']).said;
    expect(foreseen).toEqual({ ...done, dry_run: true });
    expect(done).toMatchObject({
      status: 'changed',
      never_drop_ports: 'tcp/22,udp/51820',
      removed: [],
      refused_files: [],
    });
    expect(drops()).toEqual(['203.0.113.66', '203.0.113.200', '2001:db8:9::2']);
    expect(formatPorts(withSet((set) => set.settings.neverDrop))).toBe('tcp/22,udp/51820');
    expect(held().get(gateway)).toBeNull();
    expect(edge.json(0, ['protect']).said).toMatchObject([
      { status: 'unchanged', added: [], changed: [], removed: [], never_drop_ports: null },
    ]);
    expect(edge.must(['protect'])).toMatch(/^unchanged: \d+ prefixes are allowed$/m);
    configure('');
    rmSync(folder, { recursive: true });
    expect(edge.must(['protect'])).toMatch(/192\.0\.2\.0\/25 allowed no more\n203\.0\.113\.67 allowed no more\n/);
    expect(formatPorts(withSet((set) => set.settings.neverDrop))).toBe('');
    expect(drops()).toEqual(attackers);
  });

  test('a gateway that goes takes its place with it', () => {
    expect(edge.run(['block', gateway]).status).toBe(3);
    edge.lab.exec(edge.namespace, 'ip', 'route', 'replace', 'default', 'via', '198.51.100.66');
    try {
      const [done] = edge.json(0, ['protect']).said;
      expect(done).toMatchObject({ added: [{ target: '198.51.100.66', ends_at: null }], removed: [gateway] });
    } finally {
      edge.lab.exec(edge.namespace, 'ip', 'route', 'replace', 'default', 'via', gateway);
      edge.must(['protect']);
    }
  });

  test('a gateway that root blocks by force is dropped, until he unblocks it', () => {
    expect(held().has(gateway)).toBe(true);
    edge.must(['block', gateway, '--force', '--for', '1h']);
    expect([...dropped(edge.lab.pinDir, [gateway])]).toEqual([gateway]);
    expect(edge.json(0, ['protect']).said).toMatchObject([{ status: 'unchanged' }]);
    edge.must(['unblock', gateway]);
    expect(held().has(gateway)).toBe(true);
    // What is allowed by hand passes, whatever is forced.
    edge.must(['allow', 'add', gateway]);
    expect(edge.json(0, ['block', gateway, '--force', '--for', '1h']).said).toMatchObject([
      { notes: [{ code: 'forced' }, { code: 'allowed' }] },
    ]);
    expect([...dropped(edge.lab.pinDir, [gateway])]).toEqual([]);
    edge.must(['unblock', gateway]);
  });

  test('what another hand did to the tries is mended: more, less, shorter, longer', () => {
    const at = new Date(Date.now() + 3_600_000).toISOString().replace(/\.\d+/, '');
    allowFile('20-site', '203.0.113.66', '203.0.113.67', `192.0.2.9 until=${at}`);
    edge.must(['protect']);
    withSet((set) => {
      const all = new Map(readAllows(set, false).map((entry) => [formatPrefix(entry.prefix), entry]));
      const entry = (name: string) => {
        const found = all.get(name);
        if (found === undefined) throw new Error(`${name} is not there`);
        return found;
      };
      const soon = monotonicNs() + 9_000_000_000n;
      applyAllows(set, [
        { kind: 'remove', ...entry('203.0.113.66') },
        { kind: 'lower', prefix: entry('203.0.113.67').prefix, until: soon },
        { kind: 'raise', prefix: entry('192.0.2.9').prefix, until: monotonicNs() + 86_400_000_000_000n },
        {
          kind: 'add',
          prefix: { ...entry('192.0.2.9').prefix, address: { family: 4, bytes: Uint8Array.of(10, 0, 0, 1) } },
          until: soon,
        },
      ]);
    });
    const [done] = edge.json(0, ['protect']).said;
    expect(done).toMatchObject({
      added: [{ target: '203.0.113.66' }],
      changed: [
        { target: '192.0.2.9', ends_in_seconds: expect.any(Number) as number },
        { target: '203.0.113.67', ends_at: null },
      ],
      removed: ['10.0.0.1'],
    });
    expect(held().get('192.0.2.9')).toBeLessThan(3601);
  });

  test.each<[string, (path: string) => void, RegExp]>([
    ['a bad line', (path) => writeFileSync(path, '203.0.113.67\nnonsense\n0.0.0.0/0\n'), /20-site:2: .*nonsense/],
    ['a link', (path) => replace(path, () => symlinkSync('/etc/hostname', path)), /is a symbolic link/],
    ['a directory', (path) => replace(path, () => mkdirSync(path)), /is not a file/],
    ['a pipe', (path) => replace(path, () => edge.lab.exec(null, 'mkfifo', path)), /is not a file/],
    ['a file that the service may write', (path) => chmodSync(path, 0o664), /not root's alone/],
    ["somebody else's file", (path) => chownSync(path, 54321, 54321), /not root's alone/],
    ['a file too long', (path) => edge.lab.exec(null, 'truncate', '-s', '5M', path), /larger than 4 MiB/],
  ])('%s: refused whole, what it said before stays, others go on', (_, spoil, why) => {
    const path = allowFile('20-site', '203.0.113.66');
    edge.must(['protect']);
    spoil(path);
    allowFile('30-other', '192.0.2.9');
    const { said, errors } = edge.json(1, ['protect']);
    expect(said).toMatchObject([{ added: [{ target: '192.0.2.9' }], removed: [], refused_files: [path], kept: false }]);
    expect(errors[0]).toMatchObject({ code: 'allow_file_invalid', message: expect.stringMatching(why) as string });
    expect(errors[0]?.message).toContain(path);
    expect(errors[0]?.hint).toMatch(/what it said before stays/);
    expect(drops()).toEqual(attackers.filter((source) => source !== '203.0.113.66' && source !== '192.0.2.9'));
    // Others are taken away meanwhile, and a new set of maps gets it too.
    rmSync(join(folder, '30-other'));
    expect(edge.json(1, ['protect']).said).toMatchObject([{ removed: ['192.0.2.9'] }]);
    edge.purge();
    const attached = edge.run(['attach', 'up0', '--addresses', '4096', '--prefixes', '1024']);
    expect(attached).toMatchObject({ status: 0, stderr: expect.stringMatching(why) as string });
    expect(drops()).toEqual(attackers.filter((source) => source !== '203.0.113.66'));
  });

  test('each bad line is named; nothing is taken away where nobody remembers what the file said', () => {
    allowFile('20-site', '203.0.113.66');
    edge.must(['protect']);
    rmSync(join(edge.stateDir, 'root/allows.json'));
    allowFile('20-site', 'x', '203.0.113.67', 'y');
    const { said, errors } = edge.json(1, ['protect']);
    expect(said).toMatchObject([{ status: 'unchanged', kept: true }]);
    expect(errors.map(({ message }) => /20-site:\d/.exec(String(message))?.[0])).toEqual(['20-site:1', '20-site:3']);
    expect(drops()).not.toContain('203.0.113.66');
    expect(drops()).toContain('203.0.113.67');
    // Not into our own file either.
    allowFile('10-hand', 'z');
    expect(edge.json(1, ['allow', 'add', '192.0.2.9']).errors).toMatchObject([{ code: 'allow_file_invalid' }]);
    expect(hand()).toBe('z\n');
  });

  test('a configuration that is wrong: what is known is added, and nothing taken away', () => {
    configure('management: [192.0.2.9]\n');
    edge.must(['protect']);
    configure('managment: [192.0.2.9]\n');
    allowFile('20-site', '203.0.113.66');
    const { said, errors } = edge.json(2, ['protect']);
    expect(said).toMatchObject([{ added: [{ target: '203.0.113.66' }], removed: [], kept: true }]);
    expect(errors).toMatchObject([{ code: 'config_invalid' }]);
    expect(drops()).not.toContain('192.0.2.9');
  });

  test('a folder that others may write, or that is a link, is no folder of ours', () => {
    allowFile('20-site', '203.0.113.66');
    edge.must(['protect']);
    chmodSync(folder, 0o777);
    expect(edge.json(1, ['protect']).errors).toMatchObject([{ code: 'file_unreadable' }]);
    expect(edge.json(1, ['allow', 'add', '192.0.2.9']).errors).toMatchObject([{ code: 'file_unreadable' }]);
    expect(drops()).not.toContain('203.0.113.66');
    chmodSync(folder, 0o755);
    const real = join(edge.lab.directory, 'elsewhere');
    mkdirSync(real, { recursive: true });
    rmSync(folder, { recursive: true });
    symlinkSync(real, folder);
    expect(edge.json(1, ['allow', 'add', '192.0.2.9']).errors).toMatchObject([{ code: 'file_unreadable' }]);
    expect(readdirSync(real)).toEqual([]);
  });

  test('what editors and package managers leave behind is no allow file', () => {
    for (const name of ['20-site~', '20-site.bak', '.20-site.swp', '#20-site#', '20-site.dpkg-old', '20-site.rpmnew'])
      allowFile(name, '203.0.113.66');
    expect(edge.json(0, ['protect']).said).toMatchObject([{ status: 'unchanged' }]);
  });

  test('more than the kernel holds: a clear error, and nothing is lost', () => {
    allowFile('20-site', '203.0.113.66');
    edge.must(['protect']);
    const before = [...held().keys()].toSorted();
    allowFile('30-many', ...Array.from({ length: 16_384 }, (_, i) => `10.${i >> 8}.${i & 255}.1`));
    expect(edge.json(1, ['protect']).errors).toMatchObject([
      { code: 'allows_full', message: expect.stringMatching(/nothing was changed/) as string },
    ]);
    expect(edge.json(1, ['allow', 'add', '192.0.2.9']).errors).toMatchObject([
      {
        code: 'allows_full',
        message: expect.stringMatching(/The allow file is written; the kernel does not have it/) as string,
      },
    ]);
    expect([...held().keys()].toSorted()).toEqual(before);
  });

  test('two at once, and many adds: all of them are in file and kernel', async () => {
    const targets = Array.from({ length: 8 }, (_, i) => `192.0.2.${100 + i}`);
    const running = [
      ...targets.map((target) =>
        edge.lab.spawn(edge.namespace, edge.argv(['allow', 'add', target]), { stdio: 'ignore' }),
      ),
      ...[1, 2, 3].map(() => edge.lab.spawn(edge.namespace, edge.argv(['protect']), { stdio: 'ignore' })),
    ];
    expect(await Promise.all(running.map(statusOf))).toEqual(running.map(() => 0));
    for (const target of targets) {
      expect(hand()).toContain(`${target}\n`);
      expect(held().has(target)).toBe(true);
    }
  });

  test('killed at any step, and again: never less than before, and the next run ends it', () => {
    allowFile('20-site', '203.0.113.66', '203.0.113.67');
    edge.must(['protect']);
    for (const fault of ['allow.written', 'protect.stepping', 'protect.allowed']) {
      const done = edge.run(['allow', 'add', '203.0.113.200', '192.0.2.9'], { fault });
      expect({ fault, status: done.status }).toEqual({ fault, status: null });
      for (const source of ['203.0.113.66', '203.0.113.67']) expect(drops()).not.toContain(source);
      edge.must(['protect']);
      expect(drops()).toEqual(['2001:db8:9::1', '2001:db8:9::2']);
      edge.must(['allow', 'remove', '203.0.113.200', '192.0.2.9']);
      expect(readdirSync(folder).toSorted()).toEqual(['.lock', '10-hand', '20-site']);
    }
  });

  test('a lock that somebody holds is waited for', async () => {
    const holder = edge.lab.spawn(
      null,
      ['flock', '-x', `${edge.lab.pinDir}/root`, 'sh', '-c', 'echo held; read line'],
      {
        stdio: ['pipe', 'pipe', 'inherit'],
      },
    );
    await new Promise<void>((resolve) => holder.stdout?.once('data', () => resolve()));
    allowFile('20-site', '192.0.2.9');
    const waiting = edge.lab.spawn(edge.namespace, edge.argv(['protect']), { stdio: 'ignore' });
    let status: number | null | undefined;
    waiting.once('close', (code) => {
      status = code;
    });
    // The panic switch does not wait for long.
    const done = edge.run(['mode', 'off']);
    expect(done).toMatchObject({ status: 0, stderr: expect.stringMatching(/set all the same/) as string });
    expect(status).toBeUndefined();
    expect(held().has('192.0.2.9')).toBe(false);
    holder.stdin?.end('\n');
    await until('protect to end', () => status !== undefined);
    expect(status).toBe(0);
    edge.must(['mode', 'enforce']);
    expect(drops()).not.toContain('192.0.2.9');
    // The service can not hold it.
    expect(statSync(join(edge.lab.pinDir, 'root'))).toMatchObject({ uid: 0, mode: 0o40700 });
  });
});

test('guard list: all of it, from where, and whether the kernel has it', () => {
  configure(
    'management: [192.0.2.0/25]\nnever_drop_ports: [tcp/22]\nguard: { protected: [192.0.2.200], allow_private: true }\n',
  );
  const path = allowFile('20-site', '203.0.113.66 # office', '203.0.113.67 until=2020-01-01T00:00:00Z');
  const of = (said: readonly Record<string, unknown>[], source: string) =>
    said.filter((each) => each.source === source);
  const ways = { environment: { SSH_CONNECTION: '203.0.113.5 50000 198.51.100.1 22' } };
  const before = edge.json(0, ['guard', 'list'], ways).said;
  expect(of(before, 'file')).toMatchObject([
    { target: '203.0.113.66', detail: `${path}:1: office`, in_kernel: false, ends_at: null },
    { target: '203.0.113.67', in_kernel: false, ends_in_seconds: 0 },
  ]);
  expect(of(before, 'management')).toMatchObject([{ target: '192.0.2.0/25', in_kernel: false }]);
  expect(of(before, 'gateway')).toMatchObject([{ target: gateway, in_kernel: true }]);
  expect(of(before, 'port')).toMatchObject([{ target: 'tcp/22', in_kernel: false }]);
  expect(of(before, 'caller')).toMatchObject([{ target: '203.0.113.5', in_kernel: null }]);
  expect(of(before, 'configuration')).toMatchObject([{ target: '192.0.2.200', in_kernel: null }]);
  expect(of(before, 'own_address').map(({ target }) => target)).toEqual(
    expect.arrayContaining(['198.51.100.1', '2001:db8:1::1']),
  );
  expect(of(before, 'builtin').map(({ target }) => target)).toContain('224.0.0.0/4');
  expect(of(before, 'builtin').map(({ target }) => target)).not.toContain('10.0.0.0/8');
  expect(edge.run(['guard', 'list']).stderr).toMatch(/note: 3 of them the kernel does not have yet: falcodrop protect/);
  edge.must(['protect']);
  const after = edge.json(0, ['guard', 'list']).said;
  expect(of(after, 'file')).toMatchObject([{ in_kernel: true }, { in_kernel: false }]);
  expect([...of(after, 'management'), ...of(after, 'port')]).toMatchObject([{ in_kernel: true }, { in_kernel: true }]);
  expect(edge.run(['guard', 'list']).stderr).toBe('');
});
