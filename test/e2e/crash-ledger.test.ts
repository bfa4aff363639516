/** The ledger's file, killed at every step: made, migrated, moved aside, copied, brought back. */
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { migrations } from '../../src/blocklist/ledger/migrations.ts';
import { differences, wantedIn } from './edge.ts';
import { families } from './families.ts';
import { openWitness, type Witness } from './witness.ts';

let witness: Witness;
beforeAll(() => {
  witness = openWitness();
  // Pages enough for more than one read of a backup.
  const many = Array.from({ length: 1100 }, (_, i) => `198.19.${i >> 8}.${i & 255}`);
  witness.edge.must(['import', witness.listed('many', many), '--for', '2h']);
  witness.expects(many, 7200);
});
afterAll(() => witness.edge.lab.close());

describe('the ledger’s file', () => {
  test('ledger.made: an empty one is begun again', () => {
    const FALCODROP_STATE_DIR = join(witness.edge.lab.directory, 'state-made');
    const target = witness.fresh();
    witness.die('ledger.made', ['block', target], { environment: { FALCODROP_STATE_DIR } });
    expect(witness.edge.run(['block', target], { environment: { FALCODROP_STATE_DIR } })).toMatchObject({
      status: 0,
      stderr: '',
    });
    // The other ledger knows nothing of it.
    witness.edge.must(['unblock', target]);
    witness.gone(target);
    witness.recover();
  });

  test.each(['migrate.copied', 'migrate.changed', 'migrate.committed'] as const)('a migration, at %s', (point) => {
    const stateDir = join(witness.edge.lab.directory, `state-${point}`);
    mkdirSync(stateDir, { mode: 0o770 });
    witness.edge.must(['backup', join(witness.edge.lab.directory, 'backup'), '--replace']);
    copyFileSync(join(witness.edge.lab.directory, 'backup'), join(stateDir, 'ledger.db'));
    const argv = [process.execPath, join(import.meta.dirname, 'fixtures/migrate.ts')];
    const claims = wantedIn(stateDir).size;
    expect(claims).toBeGreaterThan(1000);
    witness.die(point, [stateDir], { argv });
    expect(Number(witness.edge.must([stateDir], { argv }))).toBeGreaterThanOrEqual(claims);
    // The copy is one on which the version before starts.
    const copy = join(witness.edge.lab.directory, `copy-${point}`);
    mkdirSync(copy, { mode: 0o770 });
    copyFileSync(join(stateDir, `ledger.db.v${migrations.length}`), join(copy, 'ledger.db'));
    expect(wantedIn(copy).size).toBe(claims);
  });

  test.each(['aside.moved', 'aside.emptied'] as const)('a damaged one moved aside, at %s, and again', (point) => {
    const stateDir = join(witness.edge.lab.directory, `state-${point}`);
    cpSync(witness.edge.stateDir, stateDir, { recursive: true });
    for (const suffix of ['-wal', '-shm']) rmSync(join(stateDir, `ledger.db${suffix}`), { force: true });
    writeFileSync(join(stateDir, 'ledger.db'), 'no ledger at all, but long enough to be looked into '.repeat(100));
    writeFileSync(join(stateDir, 'ledger.db-wal'), 'its log');
    const environment = { FALCODROP_STATE_DIR: stateDir };
    witness.die(point, ['reconcile'], { environment });
    witness.check('after the crash');
    witness.edge.must(['reconcile'], { environment });
    witness.check('after the reconcile');
    expect(differences({ lab: witness.edge.lab, stateDir })).toEqual([]);
    const names = readdirSync(stateDir).filter((name) => name.includes('.bad-'));
    expect(names.filter((name) => !/-(wal|shm)(-\d+)?$/.test(name)).length).toBeGreaterThanOrEqual(1);
    expect(names.some((name) => name.endsWith('-wal'))).toBe(true);
  });
});

describe('a backup', () => {
  const file = (name: string): string => join(witness.edge.lab.directory, name);
  /** Copies that are nobody's any more. */
  const copies = () => readdirSync(witness.edge.stateDir).filter((name) => /^(backup|restore)\.|\.restore/.test(name));

  test.each(['backup.begun', 'backup.written', 'backup.named'] as const)('at %s, and again', (point) => {
    const to = file(point);
    witness.edge.must(['backup', to]);
    const before = readFileSync(to);
    witness.acknowledge(witness.fresh(), 3600);
    witness.die(point, ['backup', to, '--replace']);
    // The former one or the new one, whole.
    expect(readFileSync(to).equals(before)).toBe(point !== 'backup.named');
    witness.edge.must(['restore', to, '--dry-run']);
    witness.recover();
    witness.edge.must(['backup', to, '--replace']);
    witness.edge.must(['restore', to, '--yes']);
    expect(copies()).toEqual([]);
    witness.recover();
  });

  test('at backup.copied, in the process that reads the ledger, and again', () => {
    const to = file('copied');
    witness.die('backup.copied', ['backup', '-']);
    expect(copies()).toHaveLength(1);
    expect(witness.edge.run(['backup', to], { fault: 'backup.copied' }).status).toBe(1);
    expect(existsSync(to)).toBe(false);
    witness.recover();
    witness.edge.must(['backup', to]);
    witness.edge.must(['restore', to, '--dry-run']);
    expect(copies()).toEqual([]);
  });

  test.each(['restore.begun', 'restore.copied', 'restore.checked', 'restore.replacing', 'restore.replaced'] as const)(
    'brought back, at %s, and again',
    (point) => {
      const from = file(point);
      const [known, since] = [witness.fresh(), witness.fresh()];
      witness.acknowledge(known, 3600);
      witness.edge.must(['backup', from]);
      witness.acknowledge(since, 3600);
      // What a backup does not know goes on in the maps, and is found there.
      const recoverSince = () => {
        const wanted = witness.model.get(since);
        witness.forget(since);
        witness.check('without what the backup does not know');
        if (wanted !== undefined) witness.model.set(since, wanted);
        witness.edge.must(['reconcile']);
        witness.check('after the reconcile');
        expect(differences(witness.edge)).toEqual([]);
      };
      witness.die(point, ['restore', from, '--yes']);
      // The one or the other, whole.
      expect(wantedIn(witness.edge.stateDir).has(known)).toBe(true);
      expect(wantedIn(witness.edge.stateDir).has(since)).toBe(point !== 'restore.replaced');
      recoverSince();
      witness.edge.must(['restore', from, '--yes']);
      expect(wantedIn(witness.edge.stateDir).has(since)).toBe(false);
      expect(copies()).toEqual([]);
      recoverSince();
    },
  );
});

test('every point was reached', () => {
  expect(witness.missing(families['crash-ledger.test.ts'])).toEqual([]);
});
