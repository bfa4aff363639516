import fc from 'fast-check';
import { expect, test } from 'vitest';
import { comparePrefixes, formatPrefix, parsePrefix } from '../../src/address/prefix.ts';
import { TargetList } from '../../src/blocklist/target-list.ts';
import { prefixes } from '../address/arbitrary.ts';

test('gives back what was put into it, and its order is that of prefixes, equal ones as they came', () => {
  fc.assert(
    fc.property(fc.array(prefixes, { maxLength: 300 }), (given) => {
      const list = new TargetList();
      for (const target of given) list.push(target);
      expect(list.length).toBe(given.length);
      expect(list.slice(0, given.length)).toEqual(given);
      const sorted = [...given.keys()].sort((a, b) => {
        const [left, right] = [given[a], given[b]];
        return (left === undefined || right === undefined ? 0 : comparePrefixes(left, right)) || a - b;
      });
      expect([...list.order()]).toEqual(sorted);
    }),
  );
});

test('grows; a slice ends with it; beyond it there is nothing', () => {
  const list = new TargetList();
  for (let n = 0; n < 5000; n++) list.push(parsePrefix(`10.0.${n >> 8}.${n & 255}`));
  expect(list.slice(4998, 6000).map(formatPrefix)).toEqual(['10.0.19.134', '10.0.19.135']);
  expect(list.isSame(7, 7)).toBe(true);
  expect(list.isSame(7, 8)).toBe(false);
  for (const n of [-1, 5000]) expect(() => list.at(n)).toThrow(RangeError);
  expect([...new TargetList().order()]).toEqual([]);
});
