/** What is done to many targets at once, killed at every step, in the first slice and in a later one. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import { dropNow } from '../../src/kernel/clock.ts';
import { forEver, never } from '../../src/kernel/layout.ts';
import { PinnedSet } from '../../src/kernel/set.ts';
import { until } from '../kernel/lab.ts';
import { differences, heldIn, wantedIn } from './edge.ts';
import { families } from './families.ts';
import { openWitness, type Witness } from './witness.ts';

let witness: Witness;
beforeAll(() => {
  witness = openWitness();
});
afterAll(() => witness.edge.lab.close());

const held = (): ReturnType<typeof heldIn> => heldIn(witness.edge.lab.pinDir);

function withSet(work: (set: PinnedSet) => void): void {
  const set = new PinnedSet(witness.edge.lab.pinDir);
  try {
    work(set);
  } finally {
    set.close();
  }
}

/** Some slices of a hand's, one of 512 and some of a reconciliation's. */
const many = Array.from({ length: 600 }, (_, i) => `198.19.${i >> 8}.${i & 255}`);

/** They are gone; for good, when a reconcile does not bring them back. The next case may use them again. */
function goneFor(howLong: 'now' | 'good', targets: readonly string[]): void {
  witness.gone(...targets);
  if (howLong === 'good') witness.recover();
  else witness.check('afterwards');
  witness.forget(...targets);
}

function importMany(name = 'many', targets: readonly string[] = many): string[] {
  return ['import', witness.listed(name, targets), '--feed', 'many', '--replace', '--for', '2h', '--yes'];
}

describe('import', () => {
  test.each(['import.caused', 'import.sliced', 'import.sliced@2', 'block.mapped@2', 'block.recorded@2'] as const)(
    'at %s, and again',
    (point) => {
      witness.die(point, importMany());
      witness.recover();
      const count = held().size;
      witness.edge.must(importMany());
      witness.expects(many, 7000, 7200);
      if (point === 'import.caused') expect(held().size).toBe(count + many.length);
      witness.recover();
      witness.edge.must(['unblock', '--owner', 'feed:many', '--yes']);
      goneFor('now', many);
    },
  );

  test.each(['import.withdrawn', 'import.withdrawn@2', 'unblock.recorded@2'] as const)(
    'what a feed has no more, at %s, and again',
    (point) => {
      witness.edge.must(importMany());
      const kept = many.slice(0, 10);
      witness.expects(kept, 7000, 7200);
      witness.die(point, importMany('few', kept));
      witness.recover();
      witness.edge.must(importMany('few', kept));
      expect(held().size).toBe([...witness.model.values()].filter((wanted) => wanted !== null).length);
      goneFor('good', many.slice(10));
    },
  );
});

describe('unblock by filter', () => {
  test.each(['unblock.begun@2', 'unblock.recorded@2', 'unblock.mapped@2', 'remove.taken@200'] as const)(
    'at %s, and again',
    (point) => {
      witness.edge.must(importMany());
      witness.forget(...many);
      const args = ['unblock', '--owner', 'feed:many', '--within', '198.19.0.0/16', '--yes'];
      witness.die(point, args);
      witness.recover();
      // What it did stands, what it did not is blocked as before.
      const left = many.filter((target) => held().has(target));
      expect(left.length).toBeGreaterThan(0);
      expect(left.length).toBeLessThan(many.length);
      expect([...wantedIn(witness.edge.stateDir).keys()]).toEqual(expect.arrayContaining(left));
      witness.edge.must(args);
      goneFor('good', many);
    },
  );
});

describe('undo', () => {
  test.each(['undo.withdrawn', 'undo.set', 'undo.set@2', 'unblock.recorded@2', 'unblock.mapped@2'] as const)(
    'at %s, and again',
    async (point) => {
      const made = many.slice(0, 300);
      const extended = many.slice(300);
      const settled = (targets: readonly string[], seconds: number) =>
        witness.automatic([...targets.map((target) => ({ do: 'block', target, seconds }) as const), { do: 'settle' }]);
      settled(extended, 3600);
      witness.expects(extended, 3600);
      const promised = extended.map((target) => [target, witness.model.get(target)] as const);
      const since = new Date(Date.now() + 1).toISOString();
      await until('a later millisecond', () => Date.now() > Date.parse(since));
      settled(made, 3600);
      settled(extended, 7200);
      witness.expects(extended, 3500, 7200);
      const args = ['undo', '--since', since, '--owner', 'policy:test', '--yes'];
      witness.die(point, args);
      witness.recover();
      witness.edge.must(args);
      witness.gone(...made);
      for (const [target, wanted] of promised) if (wanted !== undefined) witness.model.set(target, wanted);
      witness.recover();
      witness.edge.must(['unblock', '--owner', 'policy:test', '--yes']);
      witness.forget(...many);
    },
  );
});

describe('reconcile', () => {
  const minute = (set: PinnedSet) => ({
    ...{ dropUntil: dropNow(set.hints) + 60_000_000_000n, countUntil: never, action: 0, owners: 1, scope: 0 },
  });

  test.each(['reconcile.set', 'reconcile.recorded', 'reconcile.sliced'] as const)(
    'of entries that are gone or too short, at %s',
    (point) => {
      const [gone, short] = [witness.fresh(), witness.freshPrefix()];
      witness.acknowledge([gone, short], 3600);
      const promised = [gone, short].map((target) => [target, witness.model.get(target)] as const);
      withSet((set) => {
        set.remove(parsePrefix(gone));
        set.change('set', parsePrefix(short), minute(set));
      });
      witness.forget(gone, short);
      witness.die(point, ['reconcile']);
      witness.check('after the crash');
      for (const [target, wanted] of promised) if (wanted !== undefined) witness.model.set(target, wanted);
      witness.edge.must(['reconcile']);
      witness.check('after the reconcile');
      expect(differences(witness.edge)).toEqual([]);
    },
  );

  test.each(['reconcile.set@380', 'reconcile.recorded@2', 'reconcile.sliced@2'] as const)('of many, at %s', (point) => {
    witness.edge.must(importMany());
    const wanted = [...many.keys()].filter((i) => i % 3 !== 0).map((i) => many[i] ?? '');
    withSet((set) => {
      for (const [index, target] of wanted.entries()) {
        if (index % 2 === 0) set.remove(parsePrefix(target));
        else set.change('set', parsePrefix(target), minute(set));
      }
    });
    witness.forget(...many);
    witness.die(point, ['reconcile']);
    witness.check('after the crash');
    witness.edge.must(['reconcile']);
    witness.expects(many, 7000, 7200);
    witness.check('after the reconcile');
    expect(differences(witness.edge)).toEqual([]);
  });

  test('of a tombstone, at reconcile.removed', () => {
    const target = witness.fresh();
    witness.acknowledge(target, 3600);
    witness.die('unblock.recorded', ['unblock', target]);
    witness.forget(target);
    witness.die('reconcile.removed', ['reconcile']);
    witness.gone(target);
    witness.recover();
  });

  test('of what another tool wrote, at reconcile.adopted, and in its second slice', () => {
    const foreign = Array.from({ length: 600 }, (_, i) => `11.0.${i >> 8}.${i & 255}`);
    withSet((set) => {
      for (const target of foreign) {
        set.insert(parsePrefix(target), { dropUntil: forEver, countUntil: never, action: 0, owners: 0, scope: 0 });
      }
    });
    const adopted = () => {
      const wanted = wantedIn(witness.edge.stateDir);
      return foreign.filter((target) => wanted.has(target));
    };
    witness.die('reconcile.adopted', ['reconcile']);
    expect(adopted()).toHaveLength(512);
    expect(foreign.filter((target) => !held().has(target))).toEqual([]);
    witness.die('reconcile.adopted', ['reconcile']);
    witness.expects(foreign, null);
    witness.recover();
    const wanted = wantedIn(witness.edge.stateDir);
    for (const target of foreign) expect(wanted.get(target)).toEqual({ dropSeconds: null, countSeconds: 0 });
  });
});

test('nothing returned and nothing was lost over all of it, and a reboot', () => {
  witness.edge.purge();
  witness.edge.attach();
  witness.recover();
});

test('every point was reached', () => {
  expect(witness.missing(families['crash-sets.test.ts'])).toEqual([]);
});
