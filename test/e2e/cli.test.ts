/** The built command against real maps and interfaces, in a network namespace of its own. */
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import { endAfter, monotonicNs } from '../../src/kernel/clock.ts';
import {
  encodeBlock,
  encodeSettings,
  FALCODROP_FORMAT,
  forEver,
  mode as modes,
  trieKey,
} from '../../src/kernel/layout.ts';
import { native } from '../../src/kernel/native.ts';
import { command, type Ended, objects } from '../cli/falcodrop.ts';
import { ended, type Lab, openLab, until } from '../kernel/lab.ts';
import { makeAfresh } from './afresh.ts';

const uplink = 'up0';
const spare = 'up1';

let lab: Lab;
let edge = '';
let peer = '';
let stateDir = '';

beforeAll(() => {
  lab = openLab();
  edge = lab.namespace('e');
  peer = lab.namespace('p');
  lab.veth(
    { namespace: edge, name: uplink, exact: true, addresses: ['198.51.100.1/24', '2001:db8:1::1/64'] },
    {
      namespace: peer,
      name: 'x0',
      exact: true,
      addresses: ['198.51.100.66/24', '198.51.100.254/24', '2001:db8:1::66/64'],
    },
  );
  lab.veth({ namespace: edge, name: spare, exact: true }, { namespace: peer, name: 'x1', exact: true });
  lab.exec(edge, 'ip', 'route', 'add', 'default', 'via', '198.51.100.254');
  stateDir = join(lab.directory, 'state');
  attachAnew = makeAfresh({ lab, namespace: edge, stateDir, attachAnew: attachFirst });
});
afterAll(() => lab.close());

interface Ways {
  readonly environment?: Readonly<Record<string, string>>;
  /** Numbers of user and group, without any capability. */
  readonly as?: readonly [uid: number, gid: number];
}

function argvOf(args: readonly string[], { environment = {}, as }: Ways): [string, ...string[]] {
  const settings = {
    TZ: 'UTC',
    FALCODROP_PIN_DIR: lab.pinDir,
    FALCODROP_STATE_DIR: stateDir,
    FALCODROP_CONFIG: '',
    SSH_CONNECTION: '',
    ...environment,
  };
  const drop =
    as === undefined
      ? []
      : ['setpriv', `--reuid=${as[0]}`, `--regid=${as[1]}`, '--clear-groups', '--inh-caps=-all', '--bounding-set=-all'];
  return ['env', ...Object.entries(settings).map(([name, value]) => `${name}=${value}`), ...drop, command, ...args];
}

function hand(args: readonly string[], ways: Ways = {}): Ended {
  return lab.run(edge, ...argvOf(args, ways));
}

/** Must end with that status; `said` holds every object of stdout, `errors` those of stderr. */
function json(status: number, args: readonly string[], ways: Ways = {}) {
  const done = hand([...args, '--json'], ways);
  expect({ status: done.status, stderr: done.stderr, stdout: done.stdout }).toMatchObject({ status });
  return { said: objects(done.stdout), errors: objects(done.stderr) };
}

const keysOf = (value: unknown): string[] => Object.keys(value as object);
const pinned = (name: string) => join(lab.pinDir, 'current', name);

function attachFirst(...options: string[]): void {
  if (existsSync(lab.pinDir)) expect(hand(['detach', '--all', '--purge']).status).toBe(0);
  // What is in the ledger comes back with the next attach.
  lab.exec(null, 'rm', '-rf', stateDir);
  expect(hand(['attach', uplink, '--addresses', '4096', '--prefixes', '1024', ...options])).toMatchObject({
    status: 0,
  });
}

/** A fresh set with one interface attached. */
let attachAnew: () => void;

describe('before anything is attached', () => {
  test.each([
    ['list'],
    ['show', '192.0.2.1'],
    ['block', '192.0.2.1'],
    ['unblock', '192.0.2.1'],
    ['unblock', '--all', '--yes'],
  ])('%s %s: says how to begin', (...args) => {
    const { said, errors } = json(1, args);
    expect(said).toEqual([]);
    expect(errors).toMatchObject([
      { code: 'pin_dir_missing', hint: expect.stringContaining('falcodrop attach') as string },
    ]);
  });

  test('status tells what is not covered, and ends with 0', () => {
    const { said } = json(0, ['status']);
    expect(said).toMatchObject([
      {
        format: null,
        mode: null,
        maps: [],
        interfaces: [],
        coverage: [{ interface: uplink, covered: false, reason: 'not_attached', through: [] }],
      },
    ]);
    expect(hand(['status']).stdout).toContain(`not attached: falcodrop attach ${uplink}`);
  });

  test('the guard needs no maps', () => {
    expect(json(3, ['block', '127.0.0.1']).errors).toMatchObject([{ code: 'refused', reason: 'own_address' }]);
  });

  test('attach --check changes nothing', () => {
    const { said } = json(0, ['attach', uplink, '--check']);
    expect(said).toMatchObject([
      { interface: uplink, driver: 'veth', mtu: 1500, up: true, holder: null, would: 'attach' },
    ]);
    expect(existsSync(lab.pinDir)).toBe(false);
    expect(lab.exec(edge, 'ip', '-d', 'link', 'show', uplink)).not.toContain('xdp');
  });

  test('attach --check foresees pins that can not be made; attach says the same and makes nothing', () => {
    const plain = join(lab.directory, 'plain/pins');
    for (const [place, code, status] of [
      [plain, 'not_bpffs', 1],
      [join(lab.bpffs, 'a.b'), 'usage', 2],
    ] as const) {
      const environment = { FALCODROP_PIN_DIR: place };
      expect(json(0, ['attach', uplink, '--check'], { environment }).said).toMatchObject([{ would: 'refuse' }]);
      const { errors } = json(status, ['attach', uplink], { environment });
      expect(errors).toMatchObject([{ code, message: expect.stringContaining(place) as string }]);
      expect(existsSync(place)).toBe(false);
    }
    // Never a mount over what is there already.
    const { errors } = json(1, ['attach', uplink], { environment: { FALCODROP_PIN_DIR: plain } });
    expect(errors[0]?.hint).toContain(`mount -t bpf bpf ${plain})`);
  });

  test('detach --all has nothing to do', () => {
    expect(json(0, ['detach', '--all', '--purge']).said).toEqual([]);
    expect(hand(['detach', '--all']).stdout).toBe('nothing was attached\n');
    expect(json(1, ['detach', uplink]).errors).toMatchObject([{ code: 'pin_dir_missing' }]);
  });

  test('an attach that is refused leaves nothing', () => {
    expect(json(4, ['attach', 'nope0']).errors).toMatchObject([{ code: 'interface_missing' }]);
    lab.exec(edge, 'ip', 'tuntap', 'add', 'tun0', 'mode', 'tun');
    expect(json(1, ['attach', 'tun0']).errors).toMatchObject([{ code: 'no_ethernet_header' }]);
    expect(json(0, ['attach', 'tun0', '--check']).said).toMatchObject([{ would: 'refuse' }]);
    lab.exec(edge, 'ip', 'link', 'del', 'tun0');
    expect(existsSync(lab.pinDir)).toBe(false);
  });
});

describe('attach and detach', () => {
  test('one after the other, the worst status last', () => {
    attachAnew();
    const { said, errors } = json(4, ['attach', uplink, 'nope0', spare]);
    expect(said).toMatchObject([
      { interface: uplink, status: 'unchanged', xdp: 'native' },
      { interface: spare, status: 'attached', xdp: 'native' },
    ]);
    expect(errors).toMatchObject([{ code: 'interface_missing' }]);
    expect(json(2, ['detach', uplink, '--purge']).errors).toMatchObject([{ code: 'usage' }]);
    expect(json(4, ['detach', spare, 'lo', spare]).said).toMatchObject([{ interface: spare, status: 'detached' }]);
    expect(json(4, ['detach', spare]).errors).toMatchObject([{ code: 'not_attached' }]);
    expect(json(0, ['detach', '--all']).said).toMatchObject([{ interface: uplink, status: 'detached' }]);
    expect(hand(['detach', '--all', '--purge']).status).toBe(0);
    expect(existsSync(lab.pinDir)).toBe(false);
  });

  test('a name of an interface is shown, not obeyed', () => {
    attachAnew();
    const hostile = 'z\u001b[7m\u202e';
    lab.exec(edge, 'ip', 'link', 'add', hostile, 'type', 'veth', 'peer', 'name', 'z1');
    lab.exec(edge, 'ip', 'addr', 'add', '192.0.2.77/24', 'dev', hostile);
    try {
      const texts = [['attach', hostile, '--check'], ['attach', hostile], ['status'], ['show', '203.0.113.9']].map(
        (args) => hand(args).stdout,
      );
      texts.push(hand(['detach', hostile]).stdout, hand(['status']).stdout);
      for (const text of texts) {
        expect(text).toContain('z\\u001b[7m\\u202e');
        // biome-ignore lint/suspicious/noControlCharactersInRegex: that they are absent is what is tested
        expect(text).not.toMatch(/[\u001b\u202e]/);
      }
    } finally {
      lab.exec(edge, 'ip', 'link', 'del', hostile);
    }
  });

  test('sizes, modes and words that make no sense', () => {
    attachFirst('--xdp', 'generic');
    expect(json(1, ['attach', uplink, '--addresses', '5']).errors).toMatchObject([{ code: 'sizes_differ' }]);
    expect(json(1, ['attach', uplink, '--xdp', 'native']).errors).toMatchObject([{ code: 'xdp_other_mode' }]);
    expect(json(0, ['attach', uplink, '--check', '--xdp', 'native']).said).toMatchObject([
      { would: 'refuse', holder: { ours: true, mode: 'generic' } },
    ]);
    for (const size of ['0', '-1', '1e3', '99999999999']) {
      expect(json(2, ['attach', uplink, `--addresses=${size}`]).errors).toMatchObject([{ code: 'usage' }]);
    }
    for (const args of [['detach'], ['detach', '--all', uplink], ['attach']]) {
      expect(json(2, args).errors).toMatchObject([{ code: 'usage' }]);
    }
  });

  test('maps of another format: nothing is written to them, and they can be purged', () => {
    attachAnew();
    const settings = native().openMap(pinned('settings'));
    settings.update(
      Buffer.alloc(4),
      encodeSettings({ format: FALCODROP_FORMAT + 1, mode: 0, deadline: 0n, modeAfter: 0, sampling: 1, neverDrop: [] }),
    );
    settings.close();
    for (const args of [
      ['list'],
      ['block', '203.0.113.66'],
      ['unblock', '--all', '--yes'],
      ['attach', uplink],
      ['status'],
    ]) {
      expect(json(1, args).errors).toMatchObject([{ code: 'layout_mismatch' }]);
    }
    expect(json(0, ['detach', '--all', '--purge']).said).toMatchObject([{ interface: uplink, status: 'detached' }]);
    expect(existsSync(lab.pinDir)).toBe(false);
  });

  test('over a stranger’s program: refused, the stranger named and left alone', () => {
    attachAnew();
    const object = join(import.meta.dirname, '../../dist/falcodrop.bpf.o');
    lab.exec(edge, 'ip', 'link', 'set', spare, 'xdpgeneric', 'obj', object, 'section', 'xdp');
    const { errors } = json(1, ['attach', spare]);
    expect(errors[0]?.message).toMatch(/already has an XDP program: \w+, id \d+, generic mode, attached over netlink/);
    expect(json(0, ['attach', spare, '--check']).said).toMatchObject([
      { would: 'refuse', holder: { mode: 'generic', link: false, ours: false } },
    ]);
    expect(lab.exec(edge, 'ip', 'link', 'show', spare)).toContain('xdpgeneric');
    lab.exec(edge, 'ip', 'link', 'set', spare, 'xdpgeneric', 'off');
  });

  test('the interface of the own SSH session asks', () => {
    if (existsSync(lab.pinDir)) hand(['detach', '--all', '--purge']);
    const environment = { SSH_CONNECTION: '198.51.100.66 50000 198.51.100.1 22' };
    const { errors } = json(2, ['attach', uplink], { environment });
    expect(errors).toMatchObject([
      { code: 'question_without_terminal', hint: expect.stringContaining('--yes') as string },
    ]);
    expect(existsSync(lab.pinDir)).toBe(false);
    expect(json(0, ['attach', spare], { environment }).said).toMatchObject([{ status: 'attached' }]);
    expect(json(0, ['attach', uplink, '--yes'], { environment }).said).toMatchObject([{ status: 'attached' }]);
    expect(json(0, ['attach', uplink], { environment }).said).toMatchObject([{ status: 'unchanged' }]);
    expect(json(2, ['detach', '--all'], { environment }).errors).toMatchObject([{ code: 'question_without_terminal' }]);
  });
});

describe('blocks', () => {
  beforeEach(() => attachAnew());

  test('the longest wins, --replace shortens', () => {
    const target = '203.0.113.66';
    expect(json(0, ['block', target, '--for', '2h']).said).toMatchObject([
      { target, status: 'blocked', ends_in_seconds: 7200 },
    ]);
    expect(json(0, ['block', target]).said).toMatchObject([{ status: 'unchanged' }]);
    expect(json(0, ['block', target, '--for', '1d']).said).toMatchObject([
      { status: 'extended', ends_in_seconds: 86_400 },
    ]);
    expect(json(0, ['block', target, '--for', '5m', '--replace']).said).toMatchObject([
      { status: 'replaced', ends_in_seconds: 300 },
    ]);
    expect(json(0, ['block', target, '--forever']).said).toMatchObject([{ ends_at: null, ends_in_seconds: null }]);
    expect(json(0, ['list']).said).toMatchObject([{ target, ends_at: null, owners: ['hand'] }]);
  });

  test('as people read them', () => {
    const end = '\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d \\+00:00';
    const sentences: [string[], string][] = [
      [['203.0.113.66'], `203\\.0\\.113\\.66 blocked until ${end} \\(in 1h\\)`],
      [['203.0.113.66', '--for', '5m'], `203\\.0\\.113\\.66 unchanged, ends ${end} \\(in (1h|59m \\d+s)\\)`],
      [['203.0.113.66', '--for', '2h'], `203\\.0\\.113\\.66 extended to ${end} \\(in 2h\\)`],
      [['203.0.113.66', '--for', '90s', '--replace'], `203\\.0\\.113\\.66 replaced: ends ${end} \\(in 1m 30s\\)`],
      [
        ['203.0.113.67', '--monitor'],
        `203\\.0\\.113\\.67 watched \\(monitor\\) until ${end} \\(in 1h\\), nothing is dropped`,
      ],
      [['::ffff:203.0.113.68', '--forever'], '203\\.0\\.113\\.68 blocked for ever'],
    ];
    for (const [args, sentence] of sentences) {
      expect(hand(['block', ...args])).toEqual({
        status: 0,
        stdout: expect.stringMatching(new RegExp(`^${sentence}\n$`)),
        stderr: '',
      });
    }
  });

  test('arguments are all read before anything is done', () => {
    for (const bad of ['010.0.0.1', 'fe80::1%eth0', '203.0.113.1/24', 'example.org', '', '203.0.113.1/33']) {
      expect(json(2, ['block', '203.0.113.66', bad]).said).toEqual([]);
    }
    expect(json(2, ['block', '203.0.113.66', '--for', '1 hour']).errors).toMatchObject([{ code: 'duration_invalid' }]);
    expect(json(2, ['block', '203.0.113.66', '--for', '1h', '--forever']).errors).toMatchObject([{ code: 'usage' }]);
    expect(json(0, ['list']).said).toEqual([]);
  });

  test('several targets: each is done or refused for itself', () => {
    const { said, errors } = json(3, [
      'block',
      '203.0.113.66',
      '198.51.100.1',
      '198.51.100.254',
      '10.1.2.3',
      '198.51.100.0/24',
      '2001:db8:5::/48',
    ]);
    expect(said.map(({ target }) => target)).toEqual(['203.0.113.66', '2001:db8:5::/48']);
    expect(errors.map(({ code, reason }) => [code, reason])).toEqual([
      ['refused', 'own_address'],
      ['refused', 'gateway'],
      ['refused', 'private'],
      ['refused', 'own_address'],
    ]);
    expect(keysOf(errors[0])).toEqual(['code', 'message', 'hint', 'reason']);
  });

  test('from where one is logged in is refused; root may force, but not loopback', () => {
    const environment = { SSH_CONNECTION: '192.0.2.7 50000 198.51.100.1 22' };
    expect(json(3, ['block', '192.0.2.0/24'], { environment }).errors).toMatchObject([{ reason: 'ssh_session' }]);
    const { said } = json(0, ['block', '192.0.2.7', '--force'], { environment });
    expect(said).toMatchObject([{ status: 'blocked', notes: [{ code: 'forced' }] }]);
    expect(json(3, ['block', '127.0.0.0/8', '0.0.0.0/0', '::1', '--force']).errors).toHaveLength(3);
  });

  test('unblock: what is not there, what a wider block still drops', () => {
    hand(['block', '203.0.113.66', '203.0.113.0/24']);
    expect(json(4, ['unblock', '203.0.113.99']).errors).toMatchObject([
      {
        code: 'not_blocked',
        message: expect.stringContaining('203.0.113.0/24 still drops it') as string,
        hint: 'falcodrop unblock 203.0.113.0/24',
      },
    ]);
    expect(json(4, ['unblock', '198.51.100.77', '203.0.113.66']).said).toMatchObject([
      { target: '203.0.113.66', status: 'unblocked', still_dropped_by: '203.0.113.0/24' },
    ]);
    expect(json(0, ['unblock', '203.0.113.0/24']).said).toMatchObject([{ still_dropped_by: null }]);
    expect(json(0, ['list']).said).toEqual([]);
  });

  test('unblock --all asks', () => {
    hand(['block', '203.0.113.66', '2001:db8:9::/48']);
    expect(json(2, ['unblock', '--all']).errors).toMatchObject([{ code: 'question_without_terminal' }]);
    expect(json(2, ['unblock']).errors).toMatchObject([{ code: 'usage' }]);
    expect(json(2, ['unblock', '--all', '203.0.113.66', '--yes']).errors).toMatchObject([{ code: 'usage' }]);
    expect(json(0, ['list']).said).toHaveLength(2);
    expect(json(0, ['unblock', '--all', '--yes']).said.map(({ target }) => target)).toEqual([
      '203.0.113.66',
      '2001:db8:9::/48',
    ]);
    expect(hand(['unblock', '--all', '--yes'])).toMatchObject({ status: 0, stdout: 'nothing was blocked\n' });
  });

  test('a terminal is asked, and its answer is obeyed', () => {
    hand(['block', '203.0.113.66']);
    const typed = (answer: string) => {
      const [, ...argv] = argvOf(['unblock', '--all'], {});
      const line = `env ${argv.map((word) => `'${word}'`).join(' ')}`;
      return lab.run(edge, 'bash', '-c', `printf '${answer}\\n' | script -qec "${line}" /dev/null`);
    };
    const declined = typed('n');
    expect(declined.stdout).toContain('End all 1 blocks? [y/N]');
    expect(declined.stdout).toContain('nothing was done');
    expect(declined.status).toBe(1);
    expect(json(0, ['list']).said).toHaveLength(1);
    expect(typed('y').status).toBe(0);
    expect(json(0, ['list']).said).toEqual([]);
  });

  test('colour on a terminal alone, and not with NO_COLOR', () => {
    hand(['block', '203.0.113.66']);
    const onTerminal = (environment: Readonly<Record<string, string>>) => {
      const [, ...argv] = argvOf(['list'], { environment: { TERM: 'xterm', ...environment } });
      return lab.run(edge, 'script', '-qec', `env ${argv.map((word) => `'${word}'`).join(' ')}`, '/dev/null').stdout;
    };
    expect(onTerminal({})).toContain('\x1b[31menforce');
    expect(onTerminal({ NO_COLOR: '1' })).not.toContain('\x1b');
    expect(hand(['list']).stdout).not.toContain('\x1b');
  });

  test('a full map refuses, and names itself', () => {
    const blocks = Array.from({ length: 1025 }, (_, n) => `2001:db8:${(n + 16).toString(16)}::/48`);
    const { said, errors } = json(1, ['block', ...blocks]);
    expect(said).toHaveLength(1024);
    expect(errors).toMatchObject([{ code: 'map_full', message: expect.stringContaining('blocked_cidr_v6') as string }]);
  });
});

describe('show', () => {
  beforeEach(() => attachAnew());

  test('an address, what covers it, and packets it sent', () => {
    hand(['block', '198.51.100.66', '198.51.100.64/30']);
    expect(lab.run(peer, 'ping', '-n', '-c', '1', '-W', '1', '-I', '198.51.100.66', '198.51.100.1').status).not.toBe(0);
    const { said } = json(0, ['show', '198.51.100.66']);
    expect(said).toMatchObject([
      {
        target: '198.51.100.66',
        verdict: 'dropped',
        decided_by: '198.51.100.66',
        interfaces: [uplink],
        entries_inside: 0,
      },
    ]);
    expect(said[0]?.entries).toMatchObject([
      { target: '198.51.100.66', packets: 1, last_seen_at: expect.stringMatching(/Z$/) as string, seen_by_xdp: true },
      { target: '198.51.100.64/30', packets: 0, last_seen_at: null },
    ]);
    expect(hand(['show', '198.51.100.66']).stdout).toMatch(/^198\.51\.100\.66 is dropped until /);
    expect(hand(['show', '198.51.100.65']).stdout).toMatch(
      /^198\.51\.100\.65 is dropped by 198\.51\.100\.64\/30 until /,
    );
    const [status] = json(0, ['status']).said;
    expect(status).toMatchObject({
      interfaces: [{ interface: uplink, counters: { drop_address: { packets: 1, bytes: 98 } } }],
    });
    expect(json(0, ['unblock', '198.51.100.66']).said).toMatchObject([{ packets: 1, bytes: 98 }]);
  });

  test('what is not blocked, or only inside', () => {
    hand(['block', '203.0.113.66']);
    const { said, errors } = json(4, ['show', '203.0.113.0/24']);
    expect(said).toMatchObject([{ verdict: 'not_blocked', decided_by: null, entries: [], entries_inside: 1 }]);
    expect(errors).toMatchObject([{ code: 'not_blocked' }]);
    expect(hand(['show', '203.0.113.67'])).toMatchObject({
      status: 4,
      stdout: expect.stringContaining('is not blocked') as string,
    });
  });

  test('an allow outranks, and the global mode', () => {
    hand(['block', '203.0.113.66']);
    const allowed = native().openMap(pinned('allowed_cidr_v4'));
    const value = Buffer.alloc(16);
    value.writeBigUInt64LE(endAfter(monotonicNs(), 600), 0);
    value.writeUInt8(28, 8);
    allowed.update(trieKey(parsePrefix('203.0.113.64/28')), value);
    expect(json(0, ['show', '203.0.113.66']).said).toMatchObject([
      { verdict: 'allowed', allows: [{ prefix: '203.0.113.64/28', ends_in_seconds: 600 }] },
    ]);
    expect(json(0, ['block', '203.0.113.66', '--for', '2h']).said).toMatchObject([{ notes: [{ code: 'allowed' }] }]);
    allowed.delete(trieKey(parsePrefix('203.0.113.64/28')));
    allowed.close();

    const settings = native().openMap(pinned('settings'));
    const say = (mode: number) =>
      settings.update(
        Buffer.alloc(4),
        encodeSettings({ format: FALCODROP_FORMAT, mode, deadline: 0n, modeAfter: 0, sampling: 1, neverDrop: [] }),
      );
    say(modes.MODE_MONITOR);
    expect(json(0, ['show', '203.0.113.66']).said).toMatchObject([{ verdict: 'counted', mode: 'monitor' }]);
    say(modes.MODE_OFF);
    expect(json(0, ['show', '203.0.113.66']).said).toMatchObject([{ verdict: 'off', mode: 'off' }]);
    expect(hand(['block', '203.0.113.67']).stderr).toBe('note: the global mode is off: nothing is dropped now\n');
    settings.close();
  });

  test('a prefix that a foreign tool inserted is not looked at', () => {
    const target = parsePrefix('203.0.113.0/24');
    const trie = native().openMap(pinned('blocked_cidr_v4'));
    const ends = { dropUntil: forEver, countUntil: 0n, action: 0, owners: 0, scope: 0 };
    trie.update(trieKey(target), encodeBlock({ ...ends, prefixLength: 24, packets: 0n, bytes: 0n, lastSeen: 0n }));
    trie.close();
    expect(json(4, ['show', '203.0.113.66']).said).toMatchObject([
      { verdict: 'not_blocked', entries: [{ seen_by_xdp: false }] },
    ]);
    expect(hand(['show', '203.0.113.66']).stdout).toContain(
      'inserted by a foreign tool: the XDP program does not look',
    );
  });

  test('with nothing attached blocks are in force nowhere, and it is said', () => {
    hand(['block', '203.0.113.66']);
    hand(['detach', '--all']);
    expect(json(0, ['show', '203.0.113.66']).said).toMatchObject([{ verdict: 'not_attached', interfaces: [] }]);
    expect(json(0, ['block', '203.0.113.67']).said).toMatchObject([{ notes: [{ code: 'nothing_attached' }] }]);
  });
});

describe('the names in JSON', () => {
  const entry = [
    'target',
    'state',
    'ends_at',
    'ends_in_seconds',
    'drop_seconds',
    'count_seconds',
    'owners',
    'packets',
    'bytes',
    'last_seen_at',
  ];

  const claim = [
    ...['owner', 'mode', 'ports', 'ends_at_if_confirmed', 'ends_at', 'ends_in_seconds', 'drop_seconds'],
    ...['count_seconds', 'begun_at'],
    ...['rule', 'policy', 'reason', 'by'],
  ];
  const by = ['verb', 'login_uid', 'uid', 'sudo_user', 'tty', 'ssh_client'];

  test('are frozen: add, never rename', () => {
    if (existsSync(lab.pinDir)) hand(['detach', '--all', '--purge']);
    lab.exec(null, 'rm', '-rf', stateDir);
    const keys: Record<string, string[]> = {};
    const of = (verb: string, status: number, ...args: string[]) => {
      const [object] = json(status, args).said;
      keys[verb] = keysOf(object);
      return object ?? {};
    };
    of('attach --check', 0, 'attach', uplink, '--check');
    of('attach', 0, 'attach', uplink);
    of('block', 0, 'block', '203.0.113.66');
    const listed = of('list', 0, 'list') as { claims: { by: object }[] };
    keys['list.claims'] = keysOf(listed.claims[0]);
    keys['list.claims.by'] = keysOf(listed.claims[0]?.by);
    of('block --dry-run', 0, 'block', '203.0.113.67', '--dry-run');
    of('export', 0, 'export');
    of('history', 0, 'history');
    const list = join(lab.directory, 'list');
    writeFileSync(list, '203.0.113.68\n');
    of('import --dry-run', 0, 'import', list, '--dry-run');
    of('import', 0, 'import', list);
    const copy = join(lab.directory, 'schema-copy');
    of('backup', 0, 'backup', copy);
    of('restore', 0, 'restore', copy, '--dry-run');
    const shown = of('show', 0, 'show', '203.0.113.66') as { entries: object[] };
    keys['show.entries'] = keysOf(shown.entries[0]);
    const status = of('status', 0, 'status') as Record<'maps' | 'interfaces' | 'coverage', object[]>;
    for (const part of ['maps', 'interfaces', 'coverage'] as const) keys[`status.${part}`] = keysOf(status[part][0]);
    const { counters } = status.interfaces[0] as { counters: object };
    keys['status.interfaces.counters'] = keysOf(counters);
    of('unblock', 0, 'unblock', '203.0.113.66');
    of('detach', 0, 'detach', uplink);
    of('version', 0, 'version');
    keys['an error'] = keysOf(json(4, ['unblock', '203.0.113.66']).errors[0]);
    keys['a refusal'] = keysOf(json(3, ['block', '127.0.0.1']).errors[0]);

    expect(keys).toEqual({
      'attach --check': [
        'interface',
        'ifindex',
        'up',
        'driver',
        'mtu',
        'rx_queues',
        'tx_queues',
        'holder',
        'would',
        'why',
      ],
      attach: ['interface', 'ifindex', 'status', 'xdp', 'slot', 'program_id', 'restored', 'notes'],
      block: ['target', 'status', ...entry.slice(1), 'ports', 'notes'],
      list: [...entry, 'ports', 'claims', 'allowed_by'],
      'list.claims': claim,
      'list.claims.by': by,
      show: ['target', 'verdict', 'decided_by', 'mode', 'entries', 'entries_inside', 'allows', 'interfaces'],
      'block --dry-run': ['target', 'would', 'mode', 'ports', 'ends_at', 'ends_in_seconds', 'notes'],
      export: ['target', 'owner', 'mode', 'ports', 'ends_at', 'begun_at', 'reason'],
      history: [
        ...[
          'id',
          'at',
          'action',
          'target',
          'count',
          'owner',
          'ports',
          'mode',
          'ends_at',
          'mode_before',
          'ends_at_before',
        ],
        ...['rule', 'policy', 'reason', 'detail', 'by', 'cause', 'alert'],
      ],
      'import --dry-run': ['target', 'owner', 'mode', 'would', 'ends_at'],
      import: [
        ...[
          'status',
          'lines',
          'targets',
          'blocked',
          'extended',
          'replaced',
          'unchanged',
          'withdrawn',
          'refused',
          'ended',
        ],
        'dry_run',
      ],
      backup: ['file', 'bytes', 'claims', 'history'],
      restore: ['file', 'status', 'claims', 'history', 'claims_before', 'history_before', 'dry_run'],
      'show.entries': [...entry, 'ports', 'claims', 'seen_by_xdp'],
      status: [
        'pin_dir',
        'format',
        'mode',
        'mode_ends_at',
        'mode_ends_in_seconds',
        'mode_after',
        'object_sha256',
        'maps',
        'interfaces',
        'coverage',
        'sources',
      ],
      'status.maps': ['map', 'entries', 'capacity'],
      'status.interfaces': ['interface', 'ifindex', 'xdp', 'slot', 'program_id', 'counters'],
      'status.interfaces.counters': [
        ...[
          'pass_clean',
          'pass_allowed',
          'pass_never_drop',
          'pass_other_port',
          'pass_monitored',
          'pass_mode_monitor',
          'pass_mode_off',
          'pass_not_ip',
          'pass_tags',
        ],
        ...[
          'pass_short_link',
          'pass_short_ipv4',
          'pass_short_ipv6',
          'drop_address',
          'drop_prefix',
          'also_malformed',
          'also_sample_lost',
        ],
      ],
      'status.coverage': ['interface', 'covered', 'reason', 'through'],
      unblock: ['target', 'status', 'packets', 'bytes', 'still_dropped_by', 'remaining'],
      detach: ['interface', 'ifindex', 'status'],
      version: ['version', 'object_sha256', 'format', 'node', 'libbpf'],
      'an error': ['code', 'message', 'hint'],
      'a refusal': ['code', 'message', 'hint', 'reason'],
    });
  });
});

describe('who may', () => {
  const nobody = [65_534, 65_534] as const;
  const service = [54_321, 54_322] as const;

  test('without any right: 5, naming what wants root', () => {
    attachAnew();
    for (const args of [
      ['attach', uplink],
      ['detach', '--all'],
      ['list'],
      ['block', '203.0.113.66'],
      ['unblock', '203.0.113.66'],
    ]) {
      const { errors } = json(5, args, { as: nobody });
      expect(errors).toMatchObject([{ code: 'not_permitted' }]);
      expect(`${errors[0]?.message} ${errors[0]?.hint}`).toContain(`falcodrop ${args[0]}`);
    }
    expect(json(5, ['block', '203.0.113.66', '--force'], { as: nobody }).errors).toMatchObject([
      { code: 'not_permitted' },
    ]);
    hand(['detach', '--all', '--purge']);
    expect(json(0, ['attach', uplink, '--check'], { as: nobody }).said).toMatchObject([{ would: 'attach' }]);
  });

  test('the service: blocks and shows, and neither forces nor attaches', () => {
    if (existsSync(lab.pinDir)) hand(['detach', '--all', '--purge']);
    const path = join(lab.directory, 'service.yaml');
    writeFileSync(path, `service:\n  user: "${service[0]}"\n  group: "${service[1]}"\n`);
    const environment = { FALCODROP_CONFIG: path };
    expect(json(0, ['attach', uplink], { environment }).said).toHaveLength(1);
    const as = { as: service, environment };
    expect(json(0, ['block', '203.0.113.66'], as).said).toMatchObject([{ status: 'blocked', notes: [] }]);
    expect(json(0, ['block', '203.0.113.66', '--for', '2h'], as).said).toMatchObject([{ status: 'extended' }]);
    expect(json(0, ['list'], as).said).toHaveLength(1);
    expect(json(0, ['show', '203.0.113.66'], as).said).toMatchObject([{ verdict: 'dropped' }]);
    expect(json(0, ['status'], as).said).toMatchObject([{ interfaces: [{ interface: uplink }] }]);
    expect(json(3, ['block', '198.51.100.254'], as).errors).toMatchObject([{ reason: 'gateway' }]);
    expect(json(5, ['block', '198.51.100.254', '--force'], as).errors).toMatchObject([{ code: 'not_permitted' }]);
    expect(json(5, ['detach', uplink], as).errors).toMatchObject([{ code: 'not_permitted' }]);
    expect(json(0, ['unblock', '203.0.113.66'], as).said).toHaveLength(1);
  });
});

describe('settings of the guard', () => {
  const target = '10.1.2.3';
  const stored = () => join(stateDir, 'root', 'guard.json');
  let path = '';
  let environment: Readonly<Record<string, string>> = {};

  let attachWithGuard: () => void;

  beforeAll(() => {
    path = join(lab.directory, 'guard.yaml');
    environment = { FALCODROP_CONFIG: path };
    attachWithGuard = makeAfresh({
      ...{ lab, namespace: edge, stateDir },
      attachAnew: () => {
        attachFirst();
        expect(hand(['attach', uplink], { environment }).status).toBe(0);
      },
    });
  });
  beforeEach(() => {
    writeFileSync(path, 'guard:\n  allow_private: false\n');
    attachWithGuard();
  });

  const isRefused = (ways: Ways = {}) => hand(['block', target], { environment, ...ways }).status === 3;
  const tampered = () => {
    const text = readFileSync(stored(), 'utf8').replace('"allow_private":false', '"allow_private":true');
    expect(text).toContain('"allow_private":true');
    return text;
  };

  test('are left by attach, root’s alone', () => {
    const text = readFileSync(stored(), 'utf8');
    expect(JSON.parse(text)).toMatchObject({ config_path: path, allow_private: false, widest_v4: 8 });
    expect(isRefused()).toBe(true);
  });

  test('are taken as they stand while the YAML is the same', () => {
    writeFileSync(stored(), tampered());
    expect(isRefused()).toBe(false);
  });

  test('are read anew when the YAML changed, and stored by root', () => {
    writeFileSync(path, 'guard:\n  allow_private: true\n');
    expect(isRefused()).toBe(false);
    expect(JSON.parse(readFileSync(stored(), 'utf8'))).toMatchObject({ allow_private: true });
  });

  test('of another file are not taken', () => {
    const other = join(lab.directory, 'other.yaml');
    writeFileSync(other, 'guard:\n  protected: [203.0.113.0/24]\n');
    expect(json(3, ['block', '203.0.113.5'], { environment: { FALCODROP_CONFIG: other } }).errors).toMatchObject([
      { reason: 'protected' },
    ]);
    expect(hand(['block', '203.0.113.5', '--config', other]).status).toBe(3);
  });

  test('a broken YAML is said, not passed over', () => {
    writeFileSync(path, 'guard: [\n');
    expect(json(2, ['block', target], { environment }).errors).toMatchObject([{ code: 'config_invalid' }]);
  });

  test('of the environment are nobody else’s', () => {
    expect(isRefused({ environment: { ...environment, FALCODROP_GUARD__ALLOW_PRIVATE: 'true' } })).toBe(false);
    expect(JSON.parse(readFileSync(stored(), 'utf8'))).toMatchObject({ allow_private: false });
    hand(['unblock', target]);
    expect(isRefused()).toBe(true);
  });

  test.each<[string, () => void]>([
    ['a file of somebody else', () => chownSync(stored(), 54_321, 0)],
    ['a file that a group may write', () => chmodSync(stored(), 0o664)],
    ['a folder of somebody else', () => chownSync(join(stateDir, 'root'), 54_321, 0)],
    ['a folder that all may write', () => chmodSync(join(stateDir, 'root'), 0o777)],
    [
      'a link instead of the file',
      () => {
        renameSync(stored(), `${stored()}.real`);
        symlinkSync(`${stored()}.real`, stored());
      },
    ],
    [
      'a link instead of the folder',
      () => {
        renameSync(join(stateDir, 'root'), join(stateDir, 'moved'));
        symlinkSync(join(stateDir, 'moved'), join(stateDir, 'root'));
      },
    ],
    ['half a file', () => writeFileSync(stored(), tampered().slice(0, 40))],
  ])('%s is not believed', (_, spoil) => {
    try {
      writeFileSync(stored(), tampered());
      spoil();
      expect(isRefused()).toBe(true);
    } finally {
      lab.exec(null, 'rm', '-rf', stateDir);
    }
  });

  test('a state directory that can not be written is no obstacle', () => {
    lab.exec(null, 'rm', '-rf', stateDir);
    mkdirSync(join(lab.directory, 'elsewhere'), { recursive: true });
    symlinkSync(join(lab.directory, 'elsewhere', 'missing', 'deep'), stateDir);
    expect(isRefused()).toBe(true);
    unlinkSync(stateDir);
  });
});

describe('the daemon', () => {
  test('without maps it says how to begin, and with a broken configuration where', () => {
    if (existsSync(lab.pinDir)) hand(['detach', '--all', '--purge']);
    const environment = { FALCODROP_HTTP__PORT: '0', FALCODROP_DEBUG: '' };
    const refused = hand(['run'], { environment });
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain('falcodrop attach IF');
    const path = join(lab.directory, 'broken.yaml');
    writeFileSync(path, 'automatic: yes\n');
    const broken = hand(['run', '--config', path], { environment });
    expect(broken.status).toBe(2);
    expect(broken.stderr).toContain('broken.yaml:1:');
    expect(broken.stderr).not.toContain('    at ');
  });

  test('stops on SIGTERM with 0', async () => {
    attachAnew();
    const [command, ...args] = argvOf(['run'], { environment: { FALCODROP_HTTP__PORT: '0', FALCODROP_DEBUG: '1' } });
    const child = lab.spawn(edge, [command ?? '', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      log += text;
    });
    await until('it is ready', () => log.includes('"msg":"ready"') || child.exitCode !== null, 30_000);
    child.kill('SIGTERM');
    await ended(child);
    expect({ status: child.exitCode, signal: child.signalCode }).toEqual({ status: 0, signal: null });
    expect(log).toContain('"msg":"stopped"');
  });
});

describe('many blocks', () => {
  const count = 100_000;

  beforeAll(() => {
    if (existsSync(lab.pinDir)) hand(['detach', '--all', '--purge']);
    expect(hand(['attach', uplink, '--addresses', '131072'])).toMatchObject({ status: 0 });
    const map = native().openMap(pinned('blocked_v4'));
    const keys = Buffer.alloc(4 * count);
    const value = encodeBlock({
      ...{ dropUntil: forEver, countUntil: 0n, action: 0, owners: 1, scope: 0, prefixLength: 32 },
      ...{ packets: 0n, bytes: 0n, lastSeen: 0n },
    });
    for (let n = 0; n < count; n++) keys.writeUInt32BE(0x0b000000 + n * 16, 4 * n);
    expect(map.updateBatch(keys, Buffer.concat(Array.from({ length: count }, () => value)))).toBe(count);
    map.close();
  });

  test('arrive whole and sorted in a pipe', () => {
    const { stdout } = hand(['list']);
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(count + 1);
    expect(lines[1]).toMatch(/^11\.0\.0\.0 /);
    expect(lines[2]).toMatch(/^11\.0\.0\.16 /);
    expect(json(0, ['list']).said).toHaveLength(count);
  });

  test('end in silence when the reader goes away', () => {
    const [, ...argv] = argvOf(['list', '--json'], {});
    const line = `env ${argv.map((word) => `'${word}'`).join(' ')} | head -n 1; echo "status \${PIPESTATUS[0]}"`;
    const { stdout, stderr } = lab.run(edge, 'bash', '-c', line);
    expect(stderr).toBe('');
    expect(stdout.trimEnd().split('\n')).toEqual([expect.stringMatching(/^\{"target":"11\.0\.0\.0"/), 'status 0']);
  });
});
