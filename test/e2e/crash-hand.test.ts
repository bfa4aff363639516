/** A hand's `block` and `unblock`, killed at every step (witness.ts says what must hold). */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import { PinnedSet } from '../../src/kernel/set.ts';
import { dropped, heldIn, wantedIn } from './edge.ts';
import { families } from './families.ts';
import { openWitness, type Witness } from './witness.ts';

let witness: Witness;
beforeAll(() => {
  witness = openWitness();
});
afterAll(() => witness.edge.lab.close());

const inMaps = (target: string): boolean => heldIn(witness.edge.lab.pinDir).has(target);

function withSet(work: (set: PinnedSet) => void): void {
  const set = new PinnedSet(witness.edge.lab.pinDir);
  try {
    work(set);
  } finally {
    set.close();
  }
}

test.each(['block.begun', 'block.mapped', 'block.entered', 'block.recorded'] as const)(
  'a first block, at %s',
  (point) => {
    const [address, prefix] = [witness.fresh(), witness.freshPrefix()];
    witness.die(point, ['block', address, '--for', '1h']);
    witness.check('after the crash');
    witness.die(point, ['block', prefix, '--for', '1h']);
    // Written down by who blocked, not by who finds it in the maps.
    const isWritten = point === 'block.entered' || point === 'block.recorded';
    const written = wantedIn(witness.edge.stateDir);
    expect([written.has(address), written.has(prefix)]).toEqual([isWritten, isWritten]);
    witness.recover();
    witness.acknowledge([address, prefix], 5400);
    witness.recover();
  },
);

test('a forced block, at block.listed', () => {
  witness.die('block.listed', ['block', '10.9.9.9', '--force', '--for', '1h']);
  witness.recover();
});

test.each(['block.begun', 'extend.mapped', 'block.mapped', 'block.entered', 'block.recorded'] as const)(
  'an extension, at %s',
  (point) => {
    const targets = [witness.fresh(), witness.freshPrefix()];
    witness.acknowledge(targets, 3600);
    for (const target of targets) {
      witness.die(point, ['block', target, '--for', '2h']);
      witness.expects(target, 3600, 7200);
    }
    witness.recover();
  },
);

test.each(['block.begun', 'replace.mapped', 'block.mapped', 'block.entered', 'block.recorded'] as const)(
  'a shorter end, at %s',
  (point) => {
    const targets = [witness.fresh(), witness.freshPrefix()];
    witness.acknowledge(targets, 7200);
    for (const target of targets) {
      witness.die(point, ['block', target, '--for', '1h', '--replace']);
      witness.expects(target, 3600, 7200);
    }
    witness.recover();
  },
);

test.each([
  'unblock.begun',
  'unblock.recorded',
  'remove.taken',
  'unblock.mapped',
  'unblock.unhinted',
  'unblock.entered',
] as const)('an unblock, at %s, and again', (point) => {
  const targets = [witness.fresh(), witness.freshPrefix()];
  witness.acknowledge(targets, 3600);
  for (const target of targets) {
    witness.die(point, ['unblock', target]);
    witness.forget(target);
  }
  witness.recover();
  // The tombstone was on the disk: reconcile carries out what it says.
  if (point !== 'unblock.begun') for (const target of targets) expect(inMaps(target)).toBe(false);
  for (const target of targets) {
    // 4: not blocked any more.
    expect([0, 4]).toContain(witness.edge.run(['unblock', target]).status);
    witness.gone(target);
  }
  witness.recover();
});

test.each(['unblock.recorded', 'unblock.mapped'] as const)('the unblock of what a feed claims too, at %s', (point) => {
  const target = witness.fresh();
  const file = witness.listed('feed-one', [target]);
  witness.edge.must(['import', file, '--feed', `one-${target}`, '--for', '1h']);
  witness.acknowledge(target, 7200);
  witness.die(point, ['unblock', target]);
  witness.expects(target, 3600, 7200);
  witness.recover();
  witness.expects(target, 3600);
  witness.check("the feed's end");
});

test('the unblock of a forced one, at unblock.unlisted, and again', () => {
  witness.edge.must(['block', '10.8.8.8', '--force', '--for', '1h']);
  witness.die('unblock.unlisted', ['unblock', '10.8.8.8']);
  witness.recover();
  witness.edge.must(['unblock', '10.8.8.8']);
  witness.gone('10.8.8.8');
  witness.recover();
});

test('is told at the end of it: blocked anew after an unblock that was cut short', () => {
  const target = witness.fresh();
  witness.acknowledge(target, 3600);
  witness.die('unblock.recorded', ['unblock', target]);
  witness.acknowledge(target, 3600);
  witness.recover();
});

describe('an entry and what belongs to it', () => {
  test.each(['insert.hinted', 'insert.placed'] as const)('a first block of several, at %s', (point) => {
    const targets = [witness.freshPrefix(), witness.fresh(), witness.freshPrefix(), witness.fresh()];
    witness.die(point, ['block', ...targets, '--for', '1h']);
    witness.recover();
    // What stands in a map drops, and is somebody's.
    const drops = dropped(
      witness.edge.lab.pinDir,
      targets.map((target) => target.replace('.0/24', '.9')),
    );
    expect(drops.size).toBe(targets.filter(inMaps).length);
    witness.acknowledge(targets, 5400);
    witness.recover();
  });

  // No other prefix of the family says to the program that it has to look.
  const only = '2001:db8:ffff::/48';

  test.each(['insert.hinted', 'insert.placed'] as const)('the only prefix, set by a reconcile, at %s', (point) => {
    withSet((set) => {
      set.remove(parsePrefix(only));
      set.unhintPrefixes(6);
      expect(set.hintsPrefixes(6)).toBe(false);
    });
    const promised = witness.model.get(only);
    witness.forget(only);
    witness.die(point, ['reconcile']);
    witness.check('after the crash');
    if (promised !== undefined) witness.model.set(only, promised);
    witness.edge.must(['reconcile']);
    witness.check('after the reconcile');
  });

  test.each(['remove.taken', 'unhint.seen'] as const)('the unblock of the only prefix, at %s, and again', (point) => {
    witness.die(point, ['unblock', only]);
    witness.gone(only);
    witness.recover();
    witness.acknowledge(only, 7200);
    witness.recover();
  });
});

test('every point was reached', () => {
  expect(witness.missing(families['crash-hand.test.ts'])).toEqual([]);
});
