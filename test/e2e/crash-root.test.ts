/** Root's switches, killed at every step: what shall pass passes after the next try, and no block is lost for it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dropped } from './edge.ts';
import { families } from './families.ts';
import { openWitness, type Witness } from './witness.ts';

let witness: Witness;
beforeAll(() => {
  witness = openWitness();
});
afterAll(() => witness.edge.lab.close());

describe("root's switches", () => {
  test.each(['allow.written', 'protect.stepping', 'protect.allowed'] as const)(
    'allow add, at %s, and again',
    (point) => {
      const { edge } = witness;
      const target = witness.fresh();
      witness.acknowledge(target, 7200);
      witness.die(point, ['allow', 'add', target]);
      edge.must(['protect']);
      expect(dropped(edge.lab.pinDir, [target])).toEqual(new Set());
      edge.must(['allow', 'remove', target]);
      witness.recover();
    },
  );

  test('mode, at mode.set, and back', () => {
    witness.die('mode.set', ['mode', 'monitor']);
    witness.edge.must(['mode', 'enforce']);
    witness.recover();
  });
});

test('every point was reached', () => {
  expect(witness.missing(families['crash-root.test.ts'])).toEqual([]);
});
