/** Claims that are limited to ports, and ends that are to be confirmed. */
import { describe, expect, test } from 'vitest';
import { formatPorts, parsePorts } from '../../../src/address/port.ts';
import type { Ledger } from '../../../src/blocklist/ledger/ledger.ts';
import type { WishEvent } from '../../../src/blocklist/ledger/record.ts';
import { at, byHand, freshStateDir, openLedger } from './place.ts';

const target = '192.0.2.1';
const far = 10 ** 13;

type Told = Partial<Pick<WishEvent, 'dropEnd' | 'countEnd' | 'replace' | 'wishedEnd'>> & { ports?: string };

function wishes(ledger: Ledger, ...told: readonly Told[]): string[] {
  return told.flatMap(({ ports = '', ...rest }) =>
    ledger
      .apply([
        {
          ...{ kind: 'wish', target: at(target), owner: 'hand', dropEnd: 0, countEnd: 0, cause: byHand, ...rest },
          ...(ports === '' ? {} : { ports: parsePorts(ports) }),
        },
      ])
      .map(({ status }) => status),
  );
}

const cases: readonly (readonly [name: string, told: readonly Told[], statuses: readonly string[], ports: string[]])[] =
  [
    ['none is every port', [{ dropEnd: far }], ['made'], ['']],
    ['one', [{ dropEnd: far, ports: 'tcp/22' }], ['made'], ['tcp/22']],
    [
      'the same twice is one claim, the later end wins',
      [
        { dropEnd: far, ports: 'tcp/22' },
        { dropEnd: far - 5, ports: 'tcp/22' },
        { dropEnd: far + 5, ports: 'tcp/22' },
      ],
      ['made', 'unchanged', 'extended'],
      ['tcp/22'],
    ],
    [
      'others are other claims',
      [{ dropEnd: far, ports: 'udp/53' }, { dropEnd: far - 5, ports: 'tcp/22' }, { countEnd: far }],
      ['made', 'made', 'made'],
      ['', 'tcp/22', 'udp/53'],
    ],
    [
      'a replacement takes the others back',
      [{ dropEnd: far }, { dropEnd: far, ports: 'udp/53' }, { dropEnd: far - 5, ports: 'tcp/22', replace: true }],
      ['made', 'made', 'made'],
      ['tcp/22'],
    ],
    [
      'what has ended is made anew',
      [
        { dropEnd: 1, ports: 'tcp/22' },
        { dropEnd: far, ports: 'tcp/22' },
      ],
      ['made', 'made'],
      ['tcp/22'],
    ],
  ];

describe('ports of a claim', () => {
  test.each(cases)('%s', (_name, told, statuses, ports) => {
    const ledger = openLedger(freshStateDir());
    expect(wishes(ledger, ...told)).toEqual(statuses);
    expect(ledger.claimsOf(at(target)).map((claim) => formatPorts(claim.ports))).toEqual(ports);
    // The history tells them too.
    expect(new Set([...ledger.history()].map((row) => formatPorts(row.ports)))).toEqual(
      new Set(told.map((each) => each.ports ?? '')),
    );
  });

  test('an unblock ends all of them', () => {
    const ledger = openLedger(freshStateDir());
    wishes(ledger, { dropEnd: far }, { dropEnd: far, ports: 'tcp/22' });
    const [outcome] = ledger.apply([{ kind: 'withdraw', target: at(target), owners: 'all_but_feeds', cause: byHand }]);
    expect(outcome).toMatchObject({ status: 'withdrawn', owners: ['hand', 'hand'], remaining: [] });
    expect(ledger.unionOf(at(target))).toBeNull();
  });
});

describe('an end to be confirmed', () => {
  const last = (told: readonly Told[]): number | null | undefined => {
    const ledger = openLedger(freshStateDir());
    wishes(ledger, ...told);
    return ledger.claimsOf(at(target))[0]?.wishedEnd;
  };

  test.each<readonly [string, readonly Told[], number | null]>([
    ['is kept beside', [{ dropEnd: far, wishedEnd: far + 9 }], far + 9],
    ['is none where there is nothing to confirm', [{ dropEnd: far }], null],
    [
      'stays when the claim is extended less far',
      [{ dropEnd: far, wishedEnd: far + 9 }, { dropEnd: far + 5 }],
      far + 9,
    ],
    ['goes when the claim is extended as far', [{ dropEnd: far, wishedEnd: far + 9 }, { dropEnd: far + 9 }], null],
    [
      'the later one holds',
      [
        { dropEnd: far, wishedEnd: far + 9 },
        { dropEnd: far, wishedEnd: far + 7 },
      ],
      far + 9,
    ],
    [
      'is taken back by a replacement',
      [
        { dropEnd: far, wishedEnd: far + 9 },
        { dropEnd: far, replace: true },
      ],
      null,
    ],
  ])('%s', (_name, told, wished) => {
    expect(last(told)).toBe(wished);
  });
});
