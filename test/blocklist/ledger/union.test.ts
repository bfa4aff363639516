import { expect, test } from 'vitest';
import type { Owner } from '../../../src/blocklist/claims.ts';
import { type Claim, forEver, never } from '../../../src/blocklist/ledger/record.ts';
import { type Union, unionOf } from '../../../src/blocklist/ledger/union.ts';
import { at } from './place.ts';

const now = 1_000;

function claim(owner: Owner, dropEnd: number, countEnd: number, scope = 0, withdrawnAt: number | null = null): Claim {
  return { target: at('192.0.2.1'), owner, dropEnd, countEnd, scope, begun: 1, cause: 1, withdrawnAt };
}

const cases: readonly (readonly [name: string, claims: readonly Claim[], union: Union | null])[] = [
  ['none', [], null],
  ['all ended', [claim('hand', 1_000, 0), claim('policy:a', 0, 999)], null],
  ['all withdrawn', [claim('hand', forEver, 0, 0, 900)], null],
  ['one', [claim('hand', 2_000, 0)], { dropEnd: 2_000, countEnd: never, scope: 0, owners: ['hand'] }],
  [
    'enforce and monitor, each to its own end',
    [claim('hand', 2_000, 0), claim('policy:a', 0, 5_000)],
    { dropEnd: 2_000, countEnd: 5_000, scope: 0, owners: ['hand', 'policy:a'] },
  ],
  [
    'the later end, and no ended one of a claim that lives',
    [claim('feed:x', 3_000, 900), claim('hand', 2_000, 0)],
    { dropEnd: 3_000, countEnd: never, scope: 0, owners: ['feed:x', 'hand'] },
  ],
  [
    'for ever',
    [claim('feed:x', forEver, 0), claim('hand', 2_000, forEver)],
    { dropEnd: forEver, countEnd: forEver, scope: 0, owners: ['feed:x', 'hand'] },
  ],
  [
    'the widest scope: a longer but narrower one waits',
    [claim('hand', 2_000, 0), claim('policy:a', 9_000, 0, 3)],
    { dropEnd: 2_000, countEnd: never, scope: 0, owners: ['hand'] },
  ],
  [
    'what enforces, however wide something counts: monitor never shields',
    [claim('policy:a', 2_000, 0, 3), claim('policy:b', 0, 9_000, 0)],
    { dropEnd: 2_000, countEnd: never, scope: 3, owners: ['policy:a'] },
  ],
  [
    'of two narrow ones the longer',
    [claim('policy:a', 2_000, 0, 3), claim('policy:b', 3_000, 0, 4)],
    { dropEnd: 3_000, countEnd: never, scope: 4, owners: ['policy:b'] },
  ],
];

test.each(cases)('the union of %s', (_, claims, union) => {
  expect(unionOf(claims, now)).toEqual(union);
});
