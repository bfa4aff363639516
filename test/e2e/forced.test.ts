/**
 * What an attach brings back into fresh maps, and says of it: claims, what the guard refuses of them, and what root forced, which
 * stands in root's own list and is as it stands there, whatever the ledger says or does not.
 */
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
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
beforeEach(() => {
  edge.run(['detach', '--all', '--purge', '--yes']);
  rmSync(edge.stateDir, { recursive: true, force: true });
  settings('');
  edge.attach();
});
afterAll(() => edge.lab.close());

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
const inLedger = (sql: string, ...values: unknown[]): void => {
  const database = new Database(ledgerFile());
  database.prepare(sql).run(...values);
  database.pragma('wal_checkpoint(TRUNCATE)');
  database.close();
};

function newer(): void {
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

describe('attach says how much came back', () => {
  test('to people', () => {
    edge.must(['block', '203.0.113.1', '203.0.113.2', '--for', '1h']);
    edge.must(['block', '203.0.113.3', '--monitor', '--for', '1h']);
    force('--for', '1h');
    edge.must(['block', '203.0.113.77', '203.0.113.78', '--for', '1h']);
    settings('guard: { protected: [203.0.113.77, 203.0.113.78] }\n');
    for (let boot = 0; boot < 2; boot++) {
      edge.purge();
      const { stdout, stderr } = edge.run(attach());
      expect(stdout).toBe(`${uplink} attached, native mode\n`);
      expect(stderr).toContain(
        'note: 4 claims were restored, of which 1 was forced by root; 2 were refused by the guard. Packet counters begin anew\n',
      );
      // After each boot, though it is written down once.
      expect(stderr).toMatch(/note: 203\.0\.113\.77 is not blocked again: 203\.0\.113\.77 .*\n/);
    }
    expect(edge.json(0, ['history', '203.0.113.77']).said.map(({ action }) => action)).toEqual(['refused', 'made']);
  });

  test('to programs; and nothing where the maps were there, or nothing was ever wanted', () => {
    edge.must(['block', '203.0.113.1', '--for', '1h']);
    expect(edge.json(0, attach()).said).toMatchObject([{ status: 'unchanged', restored: null, notes: [] }]);
    const said = reboot();
    expect(said).toMatchObject({ status: 'attached', restored: { claims: 1, forced: 0, refused: 0 } });
    expect(codes(said)).toContain('restored');
    edge.purge();
    rmSync(edge.stateDir, { recursive: true });
    const { stderr } = edge.run(attach());
    expect(stderr).not.toContain('restored');
  });

  test('reconcile says unchanged, and what stays refused', () => {
    edge.must(['block', '203.0.113.77', '203.0.113.78', '--for', '1h']);
    settings('guard: { protected: [203.0.113.77, 203.0.113.78] }\n');
    reboot();
    for (let n = 0; n < 2; n++) {
      expect(edge.must(['reconcile'])).toMatch(
        /^unchanged, 2 targets stay refused \(203\.0\.113\.77 is not blocked again: .*, and 1 more\)\n$/,
      );
    }
    expect(edge.json(0, ['reconcile']).said).toMatchObject([
      { target: '203.0.113.77', mending: 'stays_refused' },
      { target: '203.0.113.78', mending: 'stays_refused' },
    ]);
    expect(edge.json(0, ['history']).said.filter(({ action }) => action === 'refused')).toHaveLength(2);
  });
});

describe('what root forced comes back', () => {
  test.each<[string, () => void]>([
    ['missing', () => rmSync(ledgerFile())],
    ['corrupt', () => writeFileSync(ledgerFile(), 'no ledger, and long enough to be looked into '.repeat(500))],
    ['cut off', () => truncateSync(ledgerFile(), 5000)],
    ['of a newer version', newer],
  ])('with a ledger that is %s', (_, spoil) => {
    edge.must(['block', '203.0.113.1', '--for', '1h']);
    force('--for', '1h');
    edge.must(['block', '198.51.100.0/25', '--force', '--forever']);
    edge.purge();
    spoil();
    const { said } = edge.json(0, attach());
    expect(said).toMatchObject([{ restored: { claims: 2, forced: 2, refused: 0 } }]);
    expect(dropped(edge.lab.pinDir, [gateway, '198.51.100.9', '203.0.113.1'])).toEqual(
      new Set([gateway, '198.51.100.9']),
    );
    expect(seconds()).toBeGreaterThan(59 * minute);
    expect(seconds()).toBeLessThanOrEqual(60 * minute);
    expect(seconds('198.51.100.0/25')).toBeNull();
  });

  test('both its modes; a second wish extends, as in the ledger, and --replace is exact', () => {
    force('--for', '2h');
    force('--for', '1h');
    force('--monitor', '--for', '3h');
    const list = () =>
      (JSON.parse(readFileSync(join(edge.stateDir, 'root/forced.json'), 'utf8')) as Record<string, number>[]).map(
        ({ mode, until, since }) => [mode, ((until ?? 0) - (since ?? 0)) / 1000],
      );
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
    edge.must(['block', '198.51.100.0/25', '--force', '--forever']);
    edge.must(['block', '198.51.100.9', '--force', '--for', '1h']);
    edge.must(['unblock', '198.51.100.9']);
    expect(reboot()).toMatchObject({ restored: { claims: 1, forced: 1 } });
    edge.must(['unblock', '198.51.100.0/25'], { as: [54399, 54321] });
    reboot();
    expect(heldIn(edge.lab.pinDir).size).toBe(0);
  });
});

describe('a ledger that the service has forged', () => {
  /** Rows as it could write them. */
  const forge = (target: string, owner: string, dropEnd: number): void =>
    inLedger(
      `INSERT INTO claims (target, owner, drop_end, count_end, scope, begun, cause) VALUES (?, ?, ?, 0, 0, 1, 1)
       ON CONFLICT (target, owner) DO UPDATE SET drop_end = excluded.drop_end`,
      Buffer.from(keyOfTarget(parsePrefix(target))),
      owner,
      dropEnd,
    );

  test('can not lengthen what root forced: not by its row, not by another, not by reconciling again', () => {
    force('--for', '1h');
    edge.purge();
    forge(gateway, 'hand', forEver);
    forge(gateway, 'policy:forged', forEver);
    const { said } = edge.json(0, attach());
    expect(said).toMatchObject([{ restored: { claims: 1, forced: 1, refused: 2 } }]);
    const isBounded = (): void => {
      expect(seconds()).toBeGreaterThan(59 * minute);
      expect(seconds()).toBeLessThanOrEqual(60 * minute);
    };
    isBounded();
    edge.must(['reconcile']);
    isBounded();
    edge.must(['reconcile'], { as: service });
    isBounded();
    expect(edge.must(['reconcile'])).toMatch(/^unchanged, 1 target stays refused/);
    // What was tried is in the history.
    const actions = edge.json(0, ['history', gateway]).said.map(({ action }) => action);
    expect(actions).toEqual(expect.arrayContaining(['refused', 'replaced']));
  });

  test('can not turn a watched target into a dropped one', () => {
    force('--monitor', '--for', '1h');
    edge.purge();
    forge(gateway, 'hand', forEver);
    edge.attach();
    expect(dropped(edge.lab.pinDir, [gateway])).toEqual(new Set());
    expect(heldIn(edge.lab.pinDir).get(gateway)).toMatchObject({ dropSeconds: 0 });
  });

  test('can not have a target in force whose time on the list is over', () => {
    force('--for', '1h');
    const list = join(edge.stateDir, 'root/forced.json');
    const [row] = JSON.parse(readFileSync(list, 'utf8')) as Record<string, unknown>[];
    writeFileSync(list, JSON.stringify([{ ...row, since: Date.now() - 7_200_000, until: Date.now() - 3_600_000 }]));
    edge.purge();
    forge(gateway, 'hand', forEver);
    edge.attach();
    expect(dropped(edge.lab.pinDir, [gateway])).toEqual(new Set());
  });

  test('can not have a target in force that is not on the list', () => {
    edge.must(['block', '203.0.113.1', '--for', '1h']);
    edge.purge();
    forge(gateway, 'hand', forEver);
    expect(edge.json(0, attach()).said).toMatchObject([{ restored: { claims: 1, forced: 0, refused: 1 } }]);
    expect(dropped(edge.lab.pinDir, [gateway])).toEqual(new Set());
  });
});

test('three starts within 30 minutes: attach --mode enforce is the way out, and says so', () => {
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
