import fc from 'fast-check';
import { expect, test } from 'vitest';
import { comparePrefixes, formatPrefix, parsePrefix } from '../../src/address/prefix.ts';
import { type Group, WishTable } from '../../src/cli/wish-table.ts';
import { prefixes } from '../address/arbitrary.ts';

const hand: Group = { owner: 'hand', mode: 'enforce', ports: '', reason: null };
const tableOf = (rows: readonly (readonly [string, Group, number])[], usual = 1000) => {
  const table = new WishTable(usual);
  for (const [target, group, end] of rows) table.add(parsePrefix(target), group, end);
  return [...table.sorted()].map((row) => {
    const { target, group, endMs } = table.at(row);
    return [formatPrefix(target), group.owner, group.mode, group.reason, endMs];
  });
};

test('of one claim in one mode the longest is kept, whatever its reason', () => {
  const why: Group = { ...hand, reason: 'why' };
  expect(
    tableOf([
      ['203.0.113.2', hand, 5],
      ['203.0.113.1', hand, 5],
      ['203.0.113.1', why, 7],
      ['203.0.113.1', { ...hand, mode: 'monitor' }, 3],
      ['203.0.113.1', { ...hand, owner: 'feed:a' }, 4],
      ['203.0.113.2', hand, Number.POSITIVE_INFINITY],
      ['203.0.113.2', hand, 9],
    ]),
  ).toEqual([
    ['203.0.113.1', 'feed:a', 'enforce', null, 4],
    ['203.0.113.1', 'hand', 'enforce', 'why', 7],
    ['203.0.113.1', 'hand', 'monitor', null, 3],
    ['203.0.113.2', 'hand', 'enforce', null, Number.POSITIVE_INFINITY],
  ]);
});

test('a line without an end has the command’s', () => {
  expect(
    tableOf([
      ['203.0.113.1', hand, 999],
      ['203.0.113.1', hand, Number.NaN],
      ['203.0.113.2', hand, 1001],
      ['203.0.113.2', hand, Number.NaN],
    ]),
  ).toEqual([
    ['203.0.113.1', 'hand', 'enforce', null, Number.NaN],
    ['203.0.113.2', 'hand', 'enforce', null, 1001],
  ]);
});

test('is sorted as addresses are, each once', () => {
  fc.assert(
    fc.property(fc.array(prefixes, { maxLength: 200 }), (targets) => {
      const table = new WishTable(0);
      for (const target of targets) table.add(target, hand, 1);
      const found = [...table.sorted()].map((row) => table.at(row).target);
      const wanted = [...targets]
        .sort(comparePrefixes)
        .filter((target, n, all) => n === 0 || comparePrefixes(target, all[n - 1] ?? target) !== 0);
      expect(found.map(formatPrefix)).toEqual(wanted.map(formatPrefix));
    }),
  );
});

test('grows, and gives up reasons before it gives up lines', () => {
  const table = new WishTable(0);
  const count = 70_000;
  for (let n = 0; n < count; n++) {
    table.add(parsePrefix(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`), { ...hand, reason: `reason ${n}` }, 1);
  }
  expect(table.sorted()).toHaveLength(count);
  expect(table.reasonsLeftOut).toBeGreaterThan(0);
  expect(table.at(0).group.reason).toBe('reason 0');
  expect(table.at(count - 1).group.reason).toBe(null);
});
