/** What the guard refuses to a hand stands in the history and in the audit: who, what, why. */
import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { objects } from '../cli/falcodrop.ts';
import { type Edge, openEdge } from './edge.ts';

const service = [54321, 54321] as const;
const gateway = '198.51.100.254';
let edge: Edge;
beforeAll(() => {
  edge = openEdge({ service });
  edge.attach();
});
afterAll(() => edge.lab.close());

const environment = { SUDO_USER: 'alice', SSH_CONNECTION: '192.0.2.99 50000 198.51.100.1 22' };
const auditFile = (): string => join(edge.stateDir, 'audit.jsonl');
const refusedIn = (lines: readonly Record<string, unknown>[]) =>
  lines.filter((line) => (line.action ?? line['event.action']) === 'refused');
/** The newest first. */
const history = () => refusedIn(edge.json(0, ['history']).said);
const audit = () => refusedIn(existsSync(auditFile()) ? objects(readFileSync(auditFile(), 'utf8')) : []);

test('of a block: each target a row, beside what was done and when nothing was', () => {
  edge.json(3, ['block', gateway, '127.0.0.1', '203.0.113.1', '--reason', 'in a hurry'], { environment });
  edge.json(3, ['block', gateway, '--reason', 'again'], { environment });
  expect(history()).toMatchObject([
    { target: gateway, reason: 'again', owner: 'hand' },
    { target: '127.0.0.1', detail: expect.stringMatching(/^own_address: 127\.0\.0\.1 /) as string },
    {
      target: gateway,
      count: 1,
      detail: expect.stringMatching(/^gateway: 198\.51\.100\.254 /) as string,
      reason: 'in a hurry',
      by: { verb: 'block', sudo_user: 'alice', ssh_client: '192.0.2.99' },
    },
  ]);
  const rows = history().reverse();
  expect(
    audit().map((line) => [line['falcodrop.history.id'], line['source.ip'], line['event.reason'], line['user.name']]),
  ).toEqual(rows.map(({ id, target, detail }) => [id, target, detail, 'alice']));
  expect(audit()[0]).toMatchObject({
    'event.outcome': 'failure',
    'falcodrop.verb': 'block',
    'client.ip': '192.0.2.99',
  });
  expect(edge.must(['history', gateway])).toMatch(/refused +198\.51\.100\.254 +hand/);
});

test('of many: one row with their number; a dry run leaves nothing', () => {
  const [before] = history();
  edge.json(3, ['block', gateway, '--dry-run']);
  expect(history()[0]).toEqual(before);
  const many = Array.from({ length: 30 }, (_, n) => `127.0.0.${n}`);
  edge.json(3, ['block', ...many]);
  expect(history()[0]).toMatchObject({
    target: null,
    count: 30,
    detail:
      '127.0.0.0 (own_address), 127.0.0.1 (own_address), 127.0.0.2 (own_address), 127.0.0.3 (own_address), 127.0.0.4 (own_address) and 25 more',
  });
});

test('of an import: one row, whatever it did beside', () => {
  const file = join(edge.lab.directory, 'list');
  writeFileSync(file, ['203.0.113.9', gateway, '127.0.0.1', '198.51.100.1'].join('\n'));
  const rows = history().length;
  edge.json(3, ['import', file, '--feed', 'drop'], { environment });
  expect(history()).toHaveLength(rows + 1);
  expect(history()[0]).toMatchObject({
    target: null,
    count: 3,
    owner: 'feed:drop',
    by: { verb: 'import', sudo_user: 'alice' },
    detail: '127.0.0.1 (own_address), 198.51.100.1 (own_address), 198.51.100.254 (gateway)',
  });
  expect(audit().at(-1)).toMatchObject({ 'falcodrop.count': 3, 'falcodrop.history.id': history()[0]?.id });
  edge.json(3, ['import', file, '--feed', 'drop', '--dry-run']);
  expect(history()).toHaveLength(rows + 1);
});

test('by a member of the group', () => {
  edge.json(3, ['block', gateway, '--reason', 'mine'], { as: [54_399, service[1]] });
  expect(history()[0]).toMatchObject({ target: gateway, reason: 'mine', by: { uid: 54_399 } });
});

test('what a member does he hears once is not in the file; it is in the history', () => {
  const file = join(edge.lab.directory, 'members');
  writeFileSync(file, Array.from({ length: 3000 }, (_, n) => `2001:db8:77::${n.toString(16)}`).join('\n'));
  const member = { as: [54_399, service[1]] } as const;
  const lines = readFileSync(auditFile(), 'utf8');
  for (const args of [
    ['block', '203.0.113.50', '203.0.113.51'],
    ['unblock', '203.0.113.50', '203.0.113.51'],
    ['import', '-', '--feed', 'mine'],
  ]) {
    const [program, ...argv] = edge.argv(args, member);
    const words = [program, ...argv].map((word) => `'${word}'`).join(' ');
    const { status, stderr } = edge.lab.run(edge.namespace, 'bash', '-c', `${words} <'${file}'`);
    expect(status).toBe(0);
    expect(stderr.match(/audit\.jsonl/g)).toHaveLength(1);
    expect(stderr).toMatch(/note: what you do is (told to the system's log|in the history) alone: .*audit\.jsonl/);
  }
  expect(readFileSync(auditFile(), 'utf8')).toBe(lines);
  expect(edge.json(0, ['history', '203.0.113.50']).said).toHaveLength(2);
});

test('a fourth damaged ledger: the oldest goes, and that is said', () => {
  const path = join(edge.stateDir, 'ledger.db');
  for (const time of ['20200101T000000Z', '20210101T000000Z', '20220101T000000Z'])
    writeFileSync(`${path}.bad-${time}`, '');
  const before = readFileSync(path);
  writeFileSync(path, 'no ledger '.repeat(2000));
  const { stderr, status } = edge.run(['reconcile']);
  expect({ status, stderr }).toMatchObject({ status: 0 });
  expect(stderr).toMatch(/newest three are kept; deleted: ledger\.db\.bad-20200101T000000Z/);
  expect(readdirSync(edge.stateDir).filter((name) => /\.bad-\d{8}T\d{6}Z$/.test(name))).toHaveLength(3);
  rmSync(`${path}-wal`, { force: true });
  rmSync(`${path}-shm`, { force: true });
  writeFileSync(path, before);
});

test('without a ledger that can be used: in the audit alone, and nothing else is said', () => {
  truncateSync(join(edge.stateDir, 'ledger.db'), 5000);
  const lines = audit().length;
  const { stderr, status } = edge.run(['block', gateway, '--reason', 'unwritten']);
  expect(status).toBe(3);
  expect(stderr).toMatch(/^falcodrop: refused: [^\n]*\n {2}[^\n]*\n$/);
  expect(audit()).toHaveLength(lines + 1);
  expect(audit().at(-1)).toMatchObject({ 'source.ip': gateway, 'event.outcome': 'failure', 'falcodrop.verb': 'block' });
  expect(audit().at(-1)).not.toHaveProperty('falcodrop.history.id');
});

test('without pins too; and where there is nothing at all it is refused all the same', () => {
  rmSync(edge.stateDir, { recursive: true });
  edge.purge();
  edge.attach();
  edge.purge();
  edge.json(3, ['block', gateway]);
  expect(history()).toHaveLength(1);
  rmSync(edge.stateDir, { recursive: true });
  const { status, stderr } = edge.run(['block', gateway]);
  expect(status).toBe(3);
  expect(stderr).toMatch(/^falcodrop: refused: [^\n]*\n {2}[^\n]*\n$/);
  expect(existsSync(join(edge.stateDir, 'ledger.db'))).toBe(false);
});
