import { expect, test } from 'vitest';
import { formatPrefix, parsePrefix } from '../../src/address/prefix.ts';
import type { Owner } from '../../src/blocklist/claims.ts';
import type { Action, Ends, HistoryRow } from '../../src/blocklist/ledger/record.ts';
import { reversalsOf } from '../../src/cli/undo.ts';

const now = 1000;
let id = 0;
const row = (action: Action, before: Ends | null = null, owner: Owner = 'policy:ssh', target = '203.0.113.1') =>
  ({
    id: id++,
    at: 0,
    wallMs: 0,
    action,
    target: parsePrefix(target),
    owner,
    rule: 'r',
    ends: null,
    before,
    cause: null,
    count: 1,
    detail: null,
    ports: [],
  }) satisfies HistoryRow;

const later: Ends = { dropEnd: 2000, countEnd: 0 };
const latest: Ends = { dropEnd: 3000, countEnd: 0 };
const over: Ends = { dropEnd: 900, countEnd: 0 };

test.each<[string, HistoryRow[], (Ends | null)[]]>([
  ['made', [row('made')], [null]],
  ['made and extended', [row('made'), row('extended', later)], [null]],
  ['extended', [row('extended', later)], [later]],
  ['extended twice: the first tells what was before', [row('extended', later), row('extended', latest)], [later]],
  ['extended from what would be over by now', [row('extended', over)], [null]],
  ['withdrawn since', [row('made'), row('withdrawn')], []],
  ['ended and made again', [row('extended', later), row('ended', later), row('made')], [null]],
  ['undone already', [row('made'), row('undone')], []],
  ['undone, then extended', [row('extended', later), row('undone', latest), row('extended', later)], [later]],
  ['two owners', [row('made'), row('extended', later, 'policy:shell')], [null, later]],
  ['a set', [{ ...row('made'), target: null }], []],
])('%s', (_, rows, backs) => {
  expect(reversalsOf(rows, () => true, now).map(({ back }) => back)).toEqual(backs);
});

test('only what lives', () => {
  const rows = [row('made'), row('made', null, 'policy:ssh', '203.0.113.2')];
  const alive = reversalsOf(rows, (target) => formatPrefix(target) === '203.0.113.2', now);
  expect(alive.map(({ target }) => formatPrefix(target))).toEqual(['203.0.113.2']);
});
