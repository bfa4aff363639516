/**
 * What an attach brings back into fresh maps, and says of it: claims, what the guard refuses of them, and what root forced, which
 * stands in root's own list and is as it stands there, whatever the ledger says or does not.
 */
import { chownSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import { keyOfTarget } from '../../src/blocklist/ledger/key.ts';
import { forEver } from '../../src/blocklist/ledger/record.ts';
import { differences, dropped, type Edge, heldIn, openEdge, uplink } from './edge.ts';

const service = [54321, 54321] as const;
const gateway = '198.51.100.254';
const minute = 60;

let edge: Edge;
beforeAll(() => {
  edge = openEdge({ service });
});
afterAll(() => edge.lab.close());

/** As after an installation. */
function beginAnew(more = ''): void {
  edge.run(['detach', '--all', '--purge', '--yes']);
  rmSync(edge.stateDir, { recursive: true, force: true });
  settings(more);
  edge.attach();
}

const settings = (more: string): void =>
  writeFileSync(edge.configFile, `service: { user: "${service[0]}", group: "${service[1]}" }\n${more}`);
const ledgerFile = (): string => join(edge.stateDir, 'ledger.db');
const attach = (...more: string[]): string[] => [
  'attach',
  uplink,
  '--addresses',
  '4096',
  '--prefixes',
  '1024',
  ...more,
];
const force = (...more: string[]): void => void edge.must(['block', gateway, '--force', ...more]);
const seconds = (target = gateway): number | null | undefined => heldIn(edge.lab.pinDir).get(target)?.dropSeconds;
const forcedFile = (): string => join(edge.stateDir, 'root/forced.json');
const put = (bytes: Uint8Array): void => {
  writeFileSync(ledgerFile(), bytes);
  chownSync(ledgerFile(), ...service);
};

function newer(good: string): void {
  put(readFileSync(good));
  const database = new Database(ledgerFile());
  database.pragma('user_version = 99');
  database.close();
}

/** What attach says into fresh maps, for programs. */
function reboot(): Record<string, unknown> {
  edge.purge();
  const { said } = edge.json(0, attach());
  return said[0] ?? {};
}

const codes = (said: Record<string, unknown>): unknown[] =>
  (said.notes as readonly { readonly code: string }[]).map(({ code }) => code);

test('attach says how much came back, to people and to programs; reconcile what stays refused', () => {
  beginAnew();
  edge.must(['block', '203.0.113.1', '203.0.113.2', '--for', '1h']);
  edge.must(['block', '203.0.113.3', '--monitor', '--for', '1h']);
  force('--for', '1h');
  edge.must(['block', '203.0.113.77', '203.0.113.78', '--for', '1h']);
  expect(edge.json(0, attach()).said).toMatchObject([{ status: 'unchanged', restored: null, notes: [] }]);
  settings('guard: { protected: [203.0.113.77, 203.0.113.78] }\n');
  const said = reboot();
  expect(said).toMatchObject({ status: 'attached', restored: { claims: 4, forced: 1, refused: 2 } });
  expect(codes(said)).toEqual(['refused', 'refused', 'restored']);
  edge.purge();
  // After each boot, though it is written down once.
  const { stdout, stderr } = edge.run(attach());
  expect(stdout).toBe(`${uplink} attached, native mode\n`);
  expect(stderr).toContain(
    'note: 4 claims were restored, of which 1 was forced by root; 2 were refused by the guard. Packet counters begin anew\n',
  );
  expect(stderr).toMatch(/note: 203\.0\.113\.77 is not blocked again: 203\.0\.113\.77 .*\n/);

  expect(edge.must(['reconcile'])).toMatch(
    /^unchanged, 2 targets stay refused \(203\.0\.113\.77 is not blocked again: .*, and 1 more\)\n$/,
  );
  expect(edge.json(0, ['reconcile']).said).toMatchObject([
    { target: '203.0.113.77', mending: 'stays_refused' },
    { target: '203.0.113.78', mending: 'stays_refused' },
  ]);
  expect(edge.json(0, ['history', '203.0.113.77']).said.map(({ action }) => action)).toEqual(['refused', 'made']);

  // Nothing was ever wanted.
  edge.purge();
  rmSync(edge.stateDir, { recursive: true });
  expect(edge.run(attach()).stderr).not.toContain('restored');
});

describe('what root forced comes back', () => {
  let good = '';
  beforeAll(() => {
    beginAnew();
    edge.must(['block', '203.0.113.1', '--for', '1h']);
    force('--for', '1h');
    edge.must(['block', '198.51.100.0/25', '--force', '--forever']);
    good = join(edge.lab.directory, 'good');
    edge.must(['backup', good]);
  });

  test.each<[string, () => void]>([
    ['missing', () => undefined],
    ['corrupt', () => writeFileSync(ledgerFile(), 'no ledger, and long enough to be looked into '.repeat(500))],
    ['cut off', () => put(readFileSync(good).subarray(0, 5000))],
    ['of a newer version', () => newer(good)],
  ])('with a ledger that is %s', (_, spoil) => {
    edge.purge();
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${ledgerFile()}${suffix}`, { force: true });
    spoil();
    const { said } = edge.json(0, attach());
    expect(said).toMatchObject([{ restored: { claims: 2, forced: 2, refused: 0 } }]);
    expect(dropped(edge.lab.pinDir, [gateway, '198.51.100.9', '203.0.113.1'])).toEqual(
      new Set([gateway, '198.51.100.9']),
    );
    expect(seconds()).toBeGreaterThan(50 * minute);
    expect(seconds()).toBeLessThanOrEqual(60 * minute);
    expect(seconds('198.51.100.0/25')).toBeNull();
  });

  test('both its modes; a second wish extends, as in the ledger, and --replace is exact', () => {
    beginAnew();
    force('--for', '2h');
    force('--for', '1h');
    force('--monitor', '--for', '3h');
    const list = () =>
      (JSON.parse(readFileSync(forcedFile(), 'utf8')) as Record<string, number>[]).map(({ mode, until, since }) => [
        mode,
        ((until ?? 0) - (since ?? 0)) / 1000,
      ]);
    expect(list()).toEqual([
      ['enforce', 120 * minute],
      ['monitor', 180 * minute],
    ]);
    edge.purge();
    rmSync(ledgerFile());
    edge.attach();
    const held = heldIn(edge.lab.pinDir).get(gateway);
    expect(held?.dropSeconds).toBeGreaterThan(119 * minute);
    expect(held?.countSeconds).toBeGreaterThan(179 * minute);
    force('--for', '1h', '--replace');
    expect(list()).toEqual([['enforce', 60 * minute]]);
    expect(reboot()).toMatchObject({ restored: { claims: 1, forced: 1 } });
    expect(seconds()).toBeGreaterThan(59 * minute);
    expect(seconds()).toBeLessThanOrEqual(60 * minute);
    expect(differences(edge)).toEqual([]);
  });

  test('but not what was unblocked since, by a member of the group too, nor for a block inside it', () => {
    beginAnew();
    edge.must(['block', '198.51.100.0/25', '--force', '--forever']);
    edge.must(['block', '198.51.100.9', '--force', '--for', '1h']);
    edge.must(['unblock', '198.51.100.9']);
    expect(reboot()).toMatchObject({ restored: { claims: 1, forced: 1 } });
    edge.must(['unblock', '198.51.100.0/25'], { as: [54399, 54321] });
    reboot();
    expect(heldIn(edge.lab.pinDir).size).toBe(0);
  });
});

test('a ledger that the service has forged can neither lengthen nor make nor change what root forces', () => {
  const [lengthened, watched, over, own, honest] = [1, 2, 3, 4, 5].map((n) => `203.0.113.${n}`) as [
    ...[string, string, string, string, string],
  ];
  beginAnew('guard: { protected: [203.0.113.0/29] }\n');
  edge.must(['block', lengthened, over, '--force', '--for', '1h']);
  edge.must(['block', watched, '--force', '--monitor', '--for', '1h']);
  edge.must(['block', honest, '--force', '--for', '1h']);
  edge.must(['block', '192.0.2.1', '--for', '1h']);
  edge.purge();
  const list = JSON.parse(readFileSync(forcedFile(), 'utf8')) as { target: string; since: number; until: number }[];
  const aged = (row: (typeof list)[number]) => ({ ...row, since: row.since - 7_200_000, until: row.until - 7_200_000 });
  writeFileSync(forcedFile(), JSON.stringify(list.map((row) => (row.target === over ? aged(row) : row))));
  // Rows as it could write them.
  const database = new Database(ledgerFile());
  const forge = database.prepare(
    `INSERT INTO claims (target, owner, ports, drop_end, count_end, begun, cause) VALUES (?, ?, '', ?, 0, 1, 1)
     ON CONFLICT (target, owner, ports) DO UPDATE SET drop_end = excluded.drop_end`,
  );
  for (const [target, owner] of [
    [lengthened, 'hand'],
    [lengthened, 'policy:forged'],
    [watched, 'hand'],
    [over, 'hand'],
    [own, 'hand'],
  ] as const) {
    forge.run(Buffer.from(keyOfTarget(parsePrefix(target))), owner, forEver);
  }
  database.pragma('wal_checkpoint(TRUNCATE)');
  database.close();

  const { said } = edge.json(0, attach());
  // 192.0.2.1, and of the forced ones as much as the list bears out.
  expect(said).toMatchObject([{ restored: { claims: 4, forced: 3, refused: 5 } }]);
  const holds = (): void => {
    for (const target of [lengthened, honest]) {
      expect(seconds(target)).toBeGreaterThan(58 * minute);
      expect(seconds(target)).toBeLessThanOrEqual(60 * minute);
    }
    expect(dropped(edge.lab.pinDir, [lengthened, watched, over, own, honest])).toEqual(new Set([lengthened, honest]));
  };
  holds();
  // Nor by reconciling again, as root or as the service.
  edge.must(['reconcile']);
  edge.must(['reconcile'], { as: service });
  holds();
  expect(edge.must(['reconcile'])).toMatch(/^unchanged, 3 targets stay refused/);
  // What was tried is in the history.
  const actions = edge.json(0, ['history', lengthened]).said.map(({ action }) => action);
  expect(actions).toEqual(expect.arrayContaining(['refused', 'replaced']));
});

test('three starts within 30 minutes: attach --mode enforce is the way out, and says so', () => {
  beginAnew();
  const boots = join(edge.stateDir, 'root/boots.json');
  edge.must(['block', '203.0.113.1', '--for', '1h']);
  const read = () => JSON.parse(readFileSync(boots, 'utf8')) as { id: string; at: number }[];
  const [own] = read();
  const at = own?.at ?? 0;
  writeFileSync(boots, JSON.stringify([{ id: 'a', at: at - 1_200_000 }, { id: 'b', at: at - 600_000 }, own]));
  const mode = () => edge.json(0, ['status']).said[0]?.mode;

  expect(edge.run(attach()).stderr).toMatch(
    /note: it was started three times within 30 minutes: blocks are in mode monitor; to drop again: falcodrop attach … --mode enforce\n/,
  );
  expect(codes(edge.json(0, attach()).said[0] ?? {})).toEqual(['glass_broken']);
  expect(mode()).toBe('monitor');
  expect(edge.run(attach('--mode', 'enforce')).stderr).toContain(
    'note: the starts before this one are forgotten: blocks are in mode enforce\n',
  );
  expect(mode()).toBe('enforce');
  expect(dropped(edge.lab.pinDir, ['203.0.113.1'])).toEqual(new Set(['203.0.113.1']));
  expect(read()).toHaveLength(1);
  // Forgotten for good, and said once.
  const again = edge.run(attach('--mode', 'enforce'));
  expect(again).toMatchObject({ status: 0, stderr: '' });
  edge.attach();
  expect(mode()).toBe('enforce');
  expect(edge.json(2, attach('--mode', 'off')).errors).toMatchObject([{ code: 'usage' }]);
});

test('--check tells of sizes that differ; an unknown interface is not quoted at any length', () => {
  const check = (...more: string[]) => edge.json(0, ['attach', uplink, '--check', ...more]).said[0];
  expect(check()).toMatchObject({ would: 'replace' });
  expect(check('--addresses', '4096', '--prefixes', '1024')).toMatchObject({ would: 'replace' });
  expect(check('--addresses', '8192')).toMatchObject({
    would: 'refuse',
    why: expect.stringMatching(/--addresses 8192 was asked, but the pinned maps were made for 4096/) as string,
  });
  expect(check('--prefixes', '99')).toMatchObject({
    would: 'refuse',
    why: expect.stringMatching(/--prefixes 99/) as string,
  });
  const { errors } = edge.json(4, ['attach', 'x'.repeat(5000), '--check']);
  expect(errors).toMatchObject([{ code: 'interface_missing' }]);
  expect(String(errors[0]?.message).length).toBeLessThan(120);
});
