/**
 * Ledger and log agree: after hands, a daemon, imports, undo and reconcile have raced for the same few targets, with claims that
 * end meanwhile, every row of the history has its lines in the audit, and every line its row.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { formatPrefix } from '../../src/address/prefix.ts';
import { Ledger } from '../../src/blocklist/ledger/ledger.ts';
import type { HistoryRow } from '../../src/blocklist/ledger/record.ts';
import { objects } from '../cli/falcodrop.ts';
import { ended, until } from '../kernel/lab.ts';
import { differences, type Edge, heldIn, openEdge, type Ways } from './edge.ts';
import type { Step } from './fixtures/automatic.ts';

let edge: Edge;
beforeAll(() => {
  edge = openEdge();
  edge.attach();
});
afterAll(() => edge.lab.close());

const targets = Array.from({ length: 12 }, (_, n) => `203.0.113.${n + 1}`);

function historyRows(): HistoryRow[] {
  const ledger = Ledger.open(edge.stateDir, { service: { uid: 0, gid: 0 }, create: false });
  try {
    return [...ledger.history({ oldestFirst: true })];
  } finally {
    ledger.close();
  }
}

interface Told {
  readonly id: unknown;
  readonly action: unknown;
  readonly target: unknown;
  readonly owner: unknown;
  readonly rule: unknown;
  readonly count: number;
  /** Of a set: the first. */
  readonly at: unknown;
}

const fromRow = ({ id, action, target, owner, rule, count, wallMs }: HistoryRow): Told => ({
  id,
  action,
  target: target === null ? null : formatPrefix(target),
  owner,
  rule,
  count,
  at: new Date(wallMs).toISOString(),
});

/** Lines about the same row of a set are its parts. */
function fromAudit(lines: readonly Record<string, unknown>[]): Told[] {
  const told = new Map<unknown, Told>();
  for (const line of lines) {
    const id = line['falcodrop.history.id'];
    const target = line['source.address'] ?? null;
    const before = told.get(id);
    expect(before === undefined || target === null, `two lines about ${String(target)}, row ${String(id)}`).toBe(true);
    const count = target === null ? Number(line['falcodrop.count']) : 1;
    const at = [before?.at, line['@timestamp']].filter((each) => each !== undefined).sort()[0];
    told.set(id, {
      id,
      action: line['event.action'],
      target,
      owner: line['falcodrop.owner'] ?? null,
      rule: line['rule.name'] ?? null,
      count: count + (before?.count ?? 0),
      at,
    });
  }
  return [...told.values()].sort((a, b) => Number(a.id) - Number(b.id));
}

function auditLines(): Record<string, unknown>[] {
  return objects(readFileSync(join(edge.stateDir, 'audit.jsonl'), 'utf8'));
}

test('after a race', async () => {
  const feeds = [targets.slice(0, 6), targets.slice(3, 9), [], targets].map((some, n) => {
    const file = join(edge.lab.directory, `feed${n}`);
    writeFileSync(
      file,
      [...some, ...Array.from({ length: 700 }, (_, i) => `2001:db8:5::${n + 1}:${i + 1}`)].join('\n'),
    );
    return file;
  });
  const start = (args: readonly string[], ways?: Ways): Promise<void> =>
    ended(edge.lab.spawn(edge.namespace, edge.argv(args, ways), { stdio: 'ignore' }));
  const rounds = 4;
  /** One after the other; each such row at the same time as the others. */
  const inTurn = async (commands: readonly (readonly string[])[]): Promise<void> => {
    for (let round = 0; round < rounds; round++) for (const args of commands) await start(args);
  };
  const steps = Array.from({ length: rounds }, (): Step[] => [
    ...targets.map((target, n): Step => ({ do: 'block', target, seconds: n % 2 === 0 ? 1 : 600 })),
    { do: 'settle' },
    { do: 'reap' },
  ]).flat();
  const daemon = (): Promise<void> =>
    start([JSON.stringify({ pinDir: edge.lab.pinDir, stateDir: edge.stateDir, steps })], {
      argv: [process.execPath, join(import.meta.dirname, 'fixtures/automatic.ts')],
    });
  await Promise.all([
    inTurn([
      ['block', ...targets, '--for', '1s'],
      ['unblock', ...targets.slice(0, 4)],
      ['block', ...targets.slice(2), '--for', '10m', '--reason', 'again'],
      ['block', '198.51.100.254', targets[0] ?? ''],
    ]),
    inTurn([
      ['import', feeds[0] ?? '', '--feed', 'one', '--replace', '--for', '1s'],
      ['import', feeds[1] ?? '', '--feed', 'one', '--replace', '--yes'],
      ['import', feeds[2] ?? '', '--feed', 'two', '--for', '2s'],
    ]),
    inTurn([
      ['undo', '--yes'],
      ['unblock', '--owner', 'hand', '--yes'],
      ['reconcile'],
      ['unblock', targets[5] ?? '', '--all-claims'],
    ]),
    daemon().then(daemon),
  ]);
  // How the race fell, nobody knows: on fast cores nothing may have been left to end. These end undisturbed.
  edge.must(['block', ...targets.slice(0, 2), '--for', '1s', '--replace']);
  edge.must(['import', feeds[0] ?? '', '--feed', 'last', '--for', '1s']);
  // Maps and ledger are read one after the other: what would end in between must have ended.
  await until('the short ones to end', () =>
    [...heldIn(edge.lab.pinDir).values()].every(({ dropSeconds }) => dropSeconds === null || dropSeconds > 30),
  );
  edge.must(['reconcile']);
  expect(differences(edge)).toEqual([]);

  const rows = historyRows();
  const lines = auditLines();
  // Root's attach is no business of the history; all else is.
  const [others, told] = [
    lines.filter((line) => line['falcodrop.history.id'] === undefined),
    lines.filter((line) => line['falcodrop.history.id'] !== undefined),
  ];
  expect(others.map((line) => line['event.action'])).toEqual(['attached']);
  expect(fromAudit(told)).toEqual(rows.map(fromRow));
  // The race was one: all of these happened, of single targets and of sets.
  const kinds = new Set(rows.map(({ action, target }) => `${action} ${target === null ? 'set' : 'target'}`));
  expect([...kinds]).toEqual(
    expect.arrayContaining(
      ['made', 'ended', 'withdrawn', 'undone', 'refused', 'extended']
        .map((action) => `${action} target`)
        .concat('made set', 'ended set', 'withdrawn set', 'reconciled set'),
    ),
  );
});

test('ends that only a block or an unblock meets, and a restore', async () => {
  const backup = join(edge.lab.directory, 'backup');
  const from = historyRows().at(-1)?.id ?? 0;
  // Ended, and nobody has reaped them: the ledger is told by the next who comes.
  edge.must(['block', '203.0.113.200', '203.0.113.201', '--for', '1s']);
  await until(
    'both to end',
    () => !['203.0.113.200', '203.0.113.201'].some((each) => heldIn(edge.lab.pinDir).has(each)),
  );
  edge.must(['block', '203.0.113.200', '--for', '1h']);
  edge.run(['unblock', '203.0.113.201']);
  const rows = historyRows().filter(({ id }) => id > from);
  expect(rows.map(({ action, target }) => `${action} ${target === null ? '' : formatPrefix(target)}`)).toEqual([
    'made 203.0.113.200',
    'made 203.0.113.201',
    'ended 203.0.113.200',
    'made 203.0.113.200',
    'ended 203.0.113.201',
  ]);
  const told = () => auditLines().filter((line) => Number(line['falcodrop.history.id'] ?? 0) > from);
  expect(fromAudit(told())).toEqual(rows.map(fromRow));
  edge.must(['backup', backup]);
  edge.must(['restore', backup, '--yes']);
  const restored = historyRows().at(-1);
  expect(restored).toMatchObject({ action: 'restored', detail: backup });
  expect(auditLines().at(-1)).toMatchObject({
    'event.action': 'restored',
    'falcodrop.history.id': restored?.id,
  });
});
