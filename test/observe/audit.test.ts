import { spawn } from 'node:child_process';
import {
  chmodSync,
  linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import type { Book } from '../../src/blocklist/claims.ts';
import {
  type Action,
  type AlertCause,
  forEver,
  type HandCause,
  type LedgerEvent,
  type Outcome,
  type SetCause,
  type WishEvent,
  type Written,
} from '../../src/blocklist/ledger/record.ts';
import { Audit, type AuditOptions, audited } from '../../src/observe/audit.ts';
import { auditLines, type Scene, sentenceOf } from '../../src/observe/audit-line.ts';
import { journalEntry } from '../../src/observe/system-log.ts';

const service = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const wallMs = Date.parse('2026-11-22T12:00:00Z');
/** Ledger time is 5 s old. */
const scene: Scene = { wallMs, hostname: 'edge-1', wallOf: (ms) => wallMs + ms - 5000 };

const byHand: HandCause = {
  kind: 'hand',
  hand: { verb: 'block', loginUid: 1000, uid: 0, sudoUser: 'alice', tty: 'pts/3', sshClient: '192.0.2.7' },
  reason: 'scans',
};
const byAlert: AlertCause = {
  kind: 'alert',
  id: 'f00d',
  rule: 'Inbound SSH Connection',
  priority: 'Notice',
  hostname: 'edge-1',
  timeMs: wallMs - 10,
  policy: 'ssh',
  policyHash: null,
  alert: null,
};
const feed: SetCause = { kind: 'feed', name: 'spamhaus', hand: byHand.hand, reason: null };

const target = parsePrefix('203.0.113.66');
const wish: WishEvent = { kind: 'wish', target, owner: 'hand', dropEnd: 65_000, countEnd: 0, cause: byHand };
const rowOf = (action: Action, owner: Written['owner'], more: Partial<Written> = {}): Written => ({
  id: 42,
  wallMs: wallMs - 20,
  action,
  isOfSet: false,
  owner,
  rule: null,
  cause: 1,
  count: 1,
  ...more,
});
/** As the ledger answers: a row for each owner, or one that is nobody's; none where nothing was changed. */
const outcome = (status: Outcome['status'], owners: Outcome['owners'] = ['hand'], count = 1): Outcome => {
  const none = { status, owners, remaining: [] };
  if (status === 'unchanged' || status === 'buried' || status === 'void') return none;
  const whose = owners.length === 0 ? [null] : owners;
  return { ...none, rows: whose.map((owner) => rowOf(status, owner, { count })) };
};
const noCause = () => null;

describe('a line', () => {
  test('of a hand’s block has ECS names', () => {
    expect(auditLines(wish, outcome('made'), noCause, scene)).toEqual([
      {
        '@timestamp': '2026-11-22T11:59:59.980Z',
        'falcodrop.history.id': 42,
        'ecs.version': '8.11.0',
        'event.kind': 'event',
        'event.dataset': 'falcodrop.audit',
        'event.category': ['configuration', 'network'],
        'event.type': ['creation'],
        'event.action': 'made',
        'event.outcome': 'success',
        'event.reason': 'scans',
        'host.name': 'edge-1',
        'process.pid': process.pid,
        'source.address': '203.0.113.66',
        'source.ip': '203.0.113.66',
        'user.id': '1000',
        'user.effective.id': '0',
        'user.name': 'alice',
        'client.ip': '192.0.2.7',
        'falcodrop.tty': 'pts/3',
        'falcodrop.verb': 'block',
        'falcodrop.cause': 'hand',
        'falcodrop.owner': 'hand',
        'falcodrop.mode': 'enforce',
        'falcodrop.ends_at': '2026-11-22T12:01:00.000Z',
      },
    ]);
  });

  test.each<[string, LedgerEvent, Outcome, object[]]>([
    ['nothing changed', wish, outcome('unchanged', []), []],
    ['a tombstone went', { kind: 'bury', target }, outcome('buried', []), []],
    ['unblocked meanwhile', wish, outcome('void', []), []],
    [
      'of an alert, a prefix, for ever',
      {
        ...wish,
        target: parsePrefix('2001:db8::/48'),
        owner: 'policy:ssh',
        dropEnd: 0,
        countEnd: forEver,
        cause: byAlert,
      },
      outcome('extended', ['policy:ssh']),
      [
        {
          'event.action': 'extended',
          'event.type': ['change'],
          'source.address': '2001:db8::/48',
          'rule.name': 'Inbound SSH Connection',
          'rule.ruleset': 'ssh',
          'falcodrop.alert.id': 'f00d',
          'falcodrop.mode': 'monitor',
          'falcodrop.ends_at': null,
          'falcodrop.owner': 'policy:ssh',
        },
      ],
    ],
    [
      'a withdrawal of two owners',
      { kind: 'withdraw', target, owners: 'all', cause: byHand },
      outcome('withdrawn', ['hand', 'policy:ssh']),
      [
        { 'event.action': 'withdrawn', 'falcodrop.owner': 'hand' },
        { 'event.action': 'withdrawn', 'falcodrop.owner': 'policy:ssh' },
      ],
    ],
    [
      'a refusal',
      { kind: 'refuse', target, owner: 'policy:ssh', detail: 'gateway', cause: byAlert },
      outcome('refused', []),
      [
        {
          'event.action': 'refused',
          'event.type': ['denied'],
          'event.outcome': 'failure',
          'event.reason': 'gateway',
        },
      ],
    ],
    [
      'a reconciliation',
      { kind: 'note', action: 'reconciled', target: null, owner: null, count: 12, detail: 'absent' },
      outcome('reconciled', [], 12),
      [{ 'event.action': 'reconciled', 'falcodrop.count': 12, 'event.reason': 'absent' }],
    ],
    ['an end', { kind: 'end', target }, outcome('ended'), [{ 'event.action': 'ended', 'event.type': ['end'] }]],
    [
      'a block that meets a claim which had ended: both are told, and the end has not the cause of the block',
      wish,
      { ...outcome('made'), rows: [rowOf('ended', 'hand', { id: 41, cause: 7 }), rowOf('made', 'hand')] },
      [
        { 'event.action': 'ended', 'falcodrop.history.id': 41, 'source.ip': '203.0.113.66' },
        { 'event.action': 'made', 'falcodrop.history.id': 42, 'event.reason': 'scans' },
      ],
    ],
    [
      'an unblock that only meets what had ended',
      { kind: 'withdraw', target, owners: 'all', cause: byHand },
      { ...outcome('unchanged', []), rows: [rowOf('ended', 'policy:ssh', { rule: 'Inbound SSH Connection' })] },
      [{ 'event.action': 'ended', 'falcodrop.owner': 'policy:ssh', 'rule.name': 'Inbound SSH Connection' }],
    ],
    [
      'a refusal of several',
      { kind: 'refuse', target: null, count: 3, owner: 'hand', detail: 'gateway: 192.0.2.1 …', cause: byHand },
      outcome('refused', ['hand'], 3),
      [
        {
          'event.action': 'refused',
          'falcodrop.count': 3,
          'event.reason': 'gateway: 192.0.2.1 …',
          'user.name': 'alice',
        },
      ],
    ],
  ])('%s', (_, event, result, lines) => {
    expect(auditLines(event, result, noCause, scene)).toMatchObject(lines);
    expect(auditLines(event, result, noCause, scene)).toHaveLength(lines.length);
    for (const line of auditLines(event, result, noCause, scene)) {
      if (line['event.action'] === 'ended') expect(line).not.toHaveProperty('event.reason');
    }
  });

  test('a prefix is no source.ip', () => {
    const [line] = auditLines({ ...wish, target: parsePrefix('203.0.113.0/24') }, outcome('made'), noCause, scene);
    expect(line).not.toHaveProperty('source.ip');
  });

  test('as people read it', () => {
    const [line = {}] = auditLines(wish, outcome('made'), noCause, scene);
    expect(sentenceOf(line)).toBe(
      'made 203.0.113.66 (enforce until 2026-11-22T12:01:00.000Z) by hand, user alice, 192.0.2.7: scans',
    );
    const alert = { ...wish, owner: 'policy:ssh', dropEnd: forEver, cause: byAlert } as const;
    const [made = {}] = auditLines(alert, outcome('made', ['policy:ssh']), noCause, scene);
    expect(sentenceOf(made)).toBe('made 203.0.113.66 (enforce for ever) by policy:ssh: rule "Inbound SSH Connection"');
  });
});

test('journald gets fields that nobody can forge', () => {
  const line = { 'event.reason': 'a\nPRIORITY=0\n\x1b]0;x\x07\u202e', 'falcodrop.owner': 'hand' };
  expect(journalEntry('made x', line).trimEnd().split('\n')).toEqual([
    'MESSAGE=made x',
    'PRIORITY=5',
    'SYSLOG_FACILITY=3',
    'SYSLOG_IDENTIFIER=falcodrop',
    `SYSLOG_PID=${process.pid}`,
    'FALCODROP_EVENT_REASON=a\\u000aPRIORITY=0\\u000a\\u001b]0;x\\u0007\\u202e',
    'FALCODROP_OWNER=hand',
  ]);
});

describe('the file', () => {
  let stateDir = '';
  let troubles: string[] = [];
  beforeEach(() => {
    stateDir = mkdtempSync(join(tmpdir(), `fd${process.pid}-audit-`));
    troubles = [];
  });
  afterEach(() => rmSync(stateDir, { recursive: true, force: true }));

  const nowhere = { journal: '/nonexistent/journal', syslog: '/nonexistent/log' };
  const open = (more: Partial<AuditOptions> = {}) =>
    new Audit({ stateDir, service, sockets: nowhere, onTrouble: (text) => troubles.push(text), ...more });
  const path = () => join(stateDir, 'audit.jsonl');
  const linesOf = (file: string): Record<string, unknown>[] =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  test('is made 0640, a line for each action, in order', async () => {
    const audit = open();
    audit.tell([wish, wish, wish], [outcome('made'), outcome('unchanged', []), outcome('extended')], 5000);
    audit.tellRootAct({ action: 'attached', interface: 'eth0', detail: 'native', hand: byHand.hand });
    await audit.close();
    expect(linesOf(path()).map((line) => line['event.action'])).toEqual(['made', 'extended', 'attached']);
    expect(linesOf(path())[2]).toMatchObject({ 'observer.ingress.interface.name': 'eth0', 'user.name': 'alice' });
    expect(statSync(path()).mode & 0o7777).toBe(0o640);
    expect(troubles).toEqual([]);
  });

  test('a set is one line with a count, its cause asked for once', async () => {
    const asked: number[] = [];
    const audit = open({
      causeOf: (id) => {
        asked.push(id);
        return feed;
      },
    });
    const events = Array.from({ length: 500 }, () => ({ ...wish, owner: 'feed:spamhaus' as const, cause: 7 }));
    // As the ledger answers: the set's rows stand with the last of its events.
    const outcomes = events.map((_, index): Outcome => {
      const made = { ...outcome(index % 5 === 0 ? 'extended' : 'made', ['feed:spamhaus']), rows: [] };
      if (index < 495) return made;
      const action = index === 495 ? 'extended' : index === 499 ? 'made' : null;
      if (action === null) return made;
      const count = action === 'extended' ? 100 : 400;
      return { ...made, rows: [rowOf(action, 'feed:spamhaus', { isOfSet: true, cause: 7, count })] };
    });
    audit.tell(events, outcomes, 5000);
    audit.tell(events, outcomes, 5000);
    await audit.close();
    expect(asked).toEqual([7]);
    expect(linesOf(path()).map((line) => [line['event.action'], line['falcodrop.count']])).toEqual([
      ['extended', 100],
      ['made', 400],
      ['extended', 100],
      ['made', 400],
    ]);
    expect(linesOf(path())[0]).toMatchObject({ 'falcodrop.set': 'spamhaus', 'falcodrop.owner': 'feed:spamhaus' });
    expect(linesOf(path())[0]).not.toHaveProperty('source.address');
  });

  test('hostile text is harmless, and cut', async () => {
    const audit = open();
    const rule = `\x1b[2J\u202e"\n{"event.action":"forged"}${'x'.repeat(5000)}`;
    audit.tell([{ ...wish, cause: { ...byAlert, rule } }], [outcome('made')], 5000);
    await audit.close();
    const text = readFileSync(path(), 'utf8');
    expect(text.trimEnd()).toMatch(/^[\x20-\x7e…]+$/);
    expect(linesOf(path())).toHaveLength(1);
    expect(String(linesOf(path())[0]?.['rule.name']).length).toBe(1024);
  });

  test('is rotated by size, nothing lost by two who write at once', async () => {
    const both = [open({ maxBytes: 20_000, files: 20 }), open({ maxBytes: 20_000, files: 20 })];
    for (let n = 0; n < 200; n++) {
      for (const [index, audit] of both.entries()) {
        audit.tell([{ ...wish, cause: { ...byHand, reason: `${index} ${n}` } }], [outcome('made')], 5000);
      }
      await Promise.all(both.map((audit) => audit.flush()));
    }
    await Promise.all(both.map((audit) => audit.close()));
    const files = readdirSync(stateDir).filter((name) => /^audit\.jsonl(\.\d+)?$/.test(name));
    expect(files.length).toBeGreaterThan(5);
    const reasons = files.flatMap((name) => linesOf(join(stateDir, name)).map((line) => line['event.reason']));
    expect(new Set(reasons).size).toBe(400);
    expect(reasons).toHaveLength(400);
    for (const name of files) {
      expect(statSync(join(stateDir, name)).size).toBeLessThan(22_000);
      expect(statSync(join(stateDir, name)).mode & 0o7777).toBe(0o640);
    }
  });

  test('so many are kept, the newest', async () => {
    const audit = open({ maxBytes: 2_000, files: 3 });
    for (let n = 0; n < 50; n++) {
      audit.tell([{ ...wish, cause: { ...byHand, reason: `n${n}` } }], [outcome('made')], 5000);
      await audit.flush();
    }
    await audit.close();
    expect(readdirSync(stateDir).sort()).toEqual(['audit.jsonl', 'audit.jsonl.1', 'audit.jsonl.2']);
    expect(linesOf(path()).at(-1)).toMatchObject({ 'event.reason': 'n49' });
  });

  test('moved away by somebody: goes on in a new one', async () => {
    const audit = open();
    audit.tell([wish], [outcome('made')], 5000);
    await audit.flush();
    renameSync(path(), join(stateDir, 'mine'));
    audit.tell([wish], [outcome('extended')], 5000);
    await audit.close();
    expect(linesOf(path()).map((line) => line['event.action'])).toEqual(['extended']);
  });

  test.each<[string, (elsewhere: string) => void]>([
    ['a symbolic link', (elsewhere) => symlinkSync(elsewhere, path())],
    ['a hard link', (elsewhere) => linkSync(elsewhere, path())],
  ])('%s in its place is not written to; said once, and nothing fails', async (_, put) => {
    const elsewhere = join(stateDir, 'elsewhere');
    writeFileSync(elsewhere, 'precious');
    put(elsewhere);
    const audit = open();
    for (let n = 0; n < 3; n++) {
      audit.tell([wish], [outcome('made')], 5000);
      await audit.flush();
    }
    expect(troubles).toHaveLength(1);
    expect(troubles[0]).toContain(path());
    expect(readFileSync(elsewhere, 'utf8')).toBe('precious');
    await audit.close();
  });

  test('a directory that is not there: said once, and again after it could be written', async () => {
    const audit = open();
    renameSync(stateDir, `${stateDir}.gone`);
    for (let n = 0; n < 2; n++) {
      audit.tell([wish], [outcome('made')], 5000);
      await audit.flush();
    }
    expect(troubles).toHaveLength(1);
    renameSync(`${stateDir}.gone`, stateDir);
    audit.tell([wish], [outcome('made')], 5000);
    await audit.flush();
    expect(linesOf(path())).toHaveLength(1);
    chmodSync(stateDir, 0o700);
    renameSync(stateDir, `${stateDir}.gone`);
    audit.tell([wish], [outcome('made')], 5000);
    await audit.close();
    renameSync(`${stateDir}.gone`, stateDir);
    expect(troubles).toHaveLength(2);
  });

  test('around a book: what was written down is told, with the outcome', async () => {
    const audit = open();
    const later: Book = {
      now: () => 5000,
      trouble: null,
      claimsOf: () => [],
      record: (events) => Promise.resolve(events.map(() => outcome('made'))),
    };
    const failing: Book = { ...later, record: () => Promise.reject(new Error('disk full')) };
    const none: Book = { ...later, record: () => [] };
    expect(await audited(later, audit).record([wish])).toMatchObject([{ status: 'made' }]);
    await expect(audited(failing, audit).record([wish])).rejects.toThrow('disk full');
    await audited(none, audit).record([wish]);
    await audit.close();
    expect(linesOf(path())).toHaveLength(1);
  });

  test('the system’s log hears of it too', async () => {
    const socket = join(stateDir, 'log');
    const listener = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('ready', flush=True)
print(s.recv(65536).decode(), flush=True)
`;
    const python = spawn('python3', ['-c', listener, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      let heard = '';
      const audit = open({ sockets: { journal: '/nonexistent/journal', syslog: socket } });
      for await (const text of python.stdout.setEncoding('utf8') as AsyncIterable<string>) {
        if (heard === '') {
          const reason = `scans\n<0>forged${'x'.repeat(2000)}`;
          audit.tell([{ ...wish, cause: { ...byHand, reason } }], [outcome('made')], 5000);
        }
        heard += text;
      }
      await audit.close();
      const [, said] = heard.trimEnd().split('\n');
      expect(said).toMatch(/^<29>falcodrop\[\d+\]: made 203\.0\.113\.66 .*: scans\\u000a<0>forgedx+…$/);
      expect(said?.length).toBeLessThan(1000);
    } finally {
      python.kill();
    }
  });
});
