import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { everyPort, formatPorts, joinPorts, type Ports, parsePorts } from '../../../src/address/port.ts';
import type { Owner } from '../../../src/blocklist/claims.ts';
import { type Claim, forEver, never } from '../../../src/blocklist/ledger/record.ts';
import { type Union, unionOf } from '../../../src/blocklist/ledger/union.ts';
import { at } from './place.ts';

const now = 1_000;

function claim(owner: Owner, dropEnd: number, countEnd: number, ports = '', withdrawnAt: number | null = null): Claim {
  return {
    target: at('192.0.2.1'),
    owner,
    dropEnd,
    countEnd,
    ports: ports === '' ? everyPort : parsePorts(ports),
    wishedEnd: null,
    begun: 1,
    cause: 1,
    withdrawnAt,
  };
}

const cases: readonly (readonly [name: string, claims: readonly Claim[], union: Union | null])[] = [
  ['none', [], null],
  ['all ended', [claim('hand', 1_000, 0), claim('policy:a', 0, 999)], null],
  ['all withdrawn', [claim('hand', forEver, 0, '', 900)], null],
  ['one', [claim('hand', 2_000, 0)], { dropEnd: 2_000, countEnd: never, ports: everyPort, owners: ['hand'] }],
  [
    'enforce and monitor, each to its own end',
    [claim('hand', 2_000, 0), claim('policy:a', 0, 5_000)],
    { dropEnd: 2_000, countEnd: 5_000, ports: everyPort, owners: ['hand', 'policy:a'] },
  ],
  [
    'the later end, and no ended one of a claim that lives',
    [claim('feed:x', 3_000, 900), claim('hand', 2_000, 0)],
    { dropEnd: 3_000, countEnd: never, ports: everyPort, owners: ['feed:x', 'hand'] },
  ],
  [
    'for ever',
    [claim('feed:x', forEver, 0), claim('hand', 2_000, forEver)],
    { dropEnd: forEver, countEnd: forEver, ports: everyPort, owners: ['feed:x', 'hand'] },
  ],
  [
    'the widest scope: a longer but narrower one waits',
    [claim('hand', 2_000, 0), claim('policy:a', 9_000, 0, 'tcp/22')],
    { dropEnd: 2_000, countEnd: never, ports: everyPort, owners: ['hand', 'policy:a'] },
  ],
  [
    'what enforces, however wide something counts: monitor never shields',
    [claim('policy:a', 2_000, 0, 'tcp/22'), claim('policy:b', 0, 9_000)],
    { dropEnd: 2_000, countEnd: never, ports: parsePorts('tcp/22'), owners: ['policy:a'] },
  ],
  [
    'two narrow ones: both, until the first ends',
    [claim('policy:a', 2_000, 0, 'tcp/22'), claim('policy:b', 3_000, 0, 'udp/53')],
    { dropEnd: 2_000, countEnd: never, ports: parsePorts('tcp/22,udp/53'), owners: ['policy:a', 'policy:b'] },
  ],
  [
    'a count of the same ports beside a drop, and not one of others',
    [claim('hand', 2_000, 0, 'tcp/22'), claim('policy:a', 0, 4_000, 'tcp/22'), claim('policy:b', 0, 5_000, 'tcp/80')],
    { dropEnd: 2_000, countEnd: 4_000, ports: parsePorts('tcp/22'), owners: ['hand', 'policy:a'] },
  ],
];

test.each(cases)('the union of %s', (_, claims, union) => {
  expect(unionOf(claims, now)).toEqual(union);
});

describe('limited to ports', () => {
  const portsArbitrary: fc.Arbitrary<Ports> = fc
    .uniqueArray(fc.constantFrom('tcp/22', 'tcp/80', 'udp/53'), { maxLength: 3 })
    .map((names) => (names.length === 0 ? everyPort : parsePorts(names.join())));
  const claimsArbitrary = fc.array(fc.tuple(fc.integer({ min: 990, max: 1_020 }), portsArbitrary), { maxLength: 4 });
  const together = (claims: readonly Claim[], time: number): string | null => {
    const live = claims.filter((each) => time < each.dropEnd);
    const [first, ...others] = live.map(({ ports }) => ports);
    return first === undefined ? null : formatPorts(others.reduce(joinPorts, first));
  };

  test('it drops at every moment what the claims of that moment wish, when it is set anew at its ends', () => {
    fc.assert(
      fc.property(claimsArbitrary, (drawn) => {
        const claims = drawn.map(([end, ports], index) => ({ ...claim(`policy:${index}`, end, 0), ports }));
        for (let time = now; time < 1_021; ) {
          const union = unionOf(claims, time);
          if (union === null) {
            expect(together(claims, time)).toBeNull();
            return;
          }
          // Exactly these ports for as long, and no longer.
          for (let later = time; later < union.dropEnd; later++) {
            expect(together(claims, later)).toBe(formatPorts(union.ports));
          }
          expect(together(claims, union.dropEnd)).not.toBe(formatPorts(union.ports));
          time = union.dropEnd;
        }
      }),
    );
  });

  test('never more than an entry holds', () => {
    const sixteen = (first: number): string => Array.from({ length: 16 }, (_, n) => `tcp/${first + n}`).join();
    const union = unionOf([claim('hand', 2_000, 0, sixteen(1)), claim('policy:a', 3_000, 0, sixteen(100))], now);
    expect(union).toEqual({ dropEnd: 3_000, countEnd: never, ports: parsePorts(sixteen(100)), owners: ['policy:a'] });
  });
});
