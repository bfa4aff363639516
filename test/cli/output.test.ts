import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import type { Entry } from '../../src/blocklist/entry.ts';
import { amount } from '../../src/cli/output/amount.ts';
import { Answer, RefusedError, type Status } from '../../src/cli/output/answer.ts';
import { blockColumns, blockRows } from '../../src/cli/output/block.ts';
import { clean, jsonLine } from '../../src/cli/output/clean.ts';
import { paint, wantsColour } from '../../src/cli/output/colour.ts';
import { entryColumns, entryObject, entryRow } from '../../src/cli/output/entry.ts';
import { localIn, offset, utc } from '../../src/cli/output/moment.ts';
import { table } from '../../src/cli/output/table.ts';
import { FalcodropError } from '../../src/errors.ts';

/** 2026-11-22 04:31:02 UTC. */
const nowMs = Date.UTC(2026, 10, 22, 4, 31, 2);

const entry: Entry = {
  target: parsePrefix('203.0.113.66'),
  state: 'enforce',
  dropSeconds: 3599.9991,
  countSeconds: 0,
  owners: ['hand'],
  scope: 0,
  packets: 12,
  bytes: 1200,
  lastSeenSecondsAgo: 61.2,
};

describe('clean', () => {
  test.each([
    ['plain text, ünïcode → 日本', 'plain text, ünïcode → 日本'],
    ['a\x1b[31mb', 'a\\u001b[31mb'],
    ['a\r\nb\tc', 'a\\u000d\\u000ab\\u0009c'],
    ['\x7f\x9b', '\\u007f\\u009b'],
    ['\u202etxt.exe\u2066', '\\u202etxt.exe\\u2066'],
    ['a\u200bb\ufeff', 'a\\u200bb\\ufeff'],
    ['\u2028', '\\u2028'],
    ['\u{e0041}', '\\udb40\\udc41'],
    ['\ud800', '\\ud800'],
  ])('%j', (text, expected) => {
    expect(clean(text)).toBe(expected);
  });

  test('cuts', () => {
    expect(clean('x'.repeat(300), 10)).toBe(`${'x'.repeat(9)}…`);
  });

  const hostile = fc.string({ unit: 'binary', maxLength: 80 });

  test('leaves nothing that a terminal obeys', () => {
    fc.assert(fc.property(hostile, (text) => !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(clean(text))));
  });

  test('JSON says the same, without anything that a terminal obeys', () => {
    fc.assert(
      fc.property(hostile, (text) => {
        const line = jsonLine({ text });
        expect(JSON.parse(line)).toEqual({ text });
        expect(line).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      }),
    );
  });
});

test.each([
  [0, '0'],
  [99_999, '99999'],
  [100_000, '100k'],
  [999_499, '999k'],
  [999_500, '1.00M'],
  [1_234_567, '1.23M'],
  [12_345_678, '12.3M'],
  [9.2e18, '9.20E'],
])('amount %d = %s', (value, text) => {
  expect(amount(value)).toBe(text);
});

describe('moments', () => {
  test('what no date can hold is shown all the same', () => {
    for (const ms of [1e21, 8.64e15 + 1, Number.POSITIVE_INFINITY]) {
      expect(utc(ms)).toBe('+275760-09-13T00:00:00Z');
      expect(utc(-ms)).toBe('-271821-04-20T00:00:00Z');
    }
  });

  test('UTC to the nearest second', () => {
    expect(utc(nowMs + 400)).toBe('2026-11-22T04:31:02Z');
    expect(utc(nowMs + 600)).toBe('2026-11-22T04:31:03Z');
  });

  test.each([
    ['Europe/Berlin', '2026-11-22 06:31:02 +01:00 (in 1h)', '+01:00'],
    ['America/St_Johns', '2026-11-22 02:01:02 -03:30 (in 1h)', '-03:30'],
    ['Asia/Kathmandu', '2026-11-22 11:16:02 +05:45 (in 1h)', '+05:45'],
  ])('in %s', (zone, text, ahead) => {
    const before = process.env.TZ;
    process.env.TZ = zone;
    try {
      expect(localIn(3599.9995, nowMs)).toBe(text);
      expect(offset(nowMs)).toBe(ahead);
    } finally {
      if (before === undefined) delete process.env.TZ;
      else process.env.TZ = before;
    }
  });
});

describe('an entry', () => {
  test.each([
    [{}, { ends_at: '2026-11-22T05:31:02Z', ends_in_seconds: 3600, drop_seconds: 3600, count_seconds: 0 }],
    [{ dropSeconds: null }, { ends_at: null, ends_in_seconds: null, drop_seconds: null }],
    [{ dropSeconds: 0.2 }, { ends_in_seconds: 1 }],
    [
      { state: 'monitor', dropSeconds: 0, countSeconds: 60 },
      { ends_at: '2026-11-22T04:32:02Z', ends_in_seconds: 60, drop_seconds: 0, count_seconds: 60 },
    ],
    [{ lastSeenSecondsAgo: null }, { last_seen_at: null }],
    [
      {},
      {
        last_seen_at: '2026-11-22T04:30:01Z',
        packets: 12,
        bytes: 1200,
        owners: ['hand'],
        target: '203.0.113.66',
      },
    ],
  ] as const)('%j', (more, expected) => {
    expect(entryObject({ ...entry, ...more } as Entry, nowMs)).toMatchObject(expected);
  });

  test('rows of IPv4 fit 80 columns, whatever the numbers', () => {
    const rows = [
      { ...entry, target: parsePrefix('203.0.113.128/25'), state: 'monitor', dropSeconds: 0, countSeconds: 200_000 },
      { ...entry, packets: 123_456_789, bytes: 9.9e15, lastSeenSecondsAgo: 3_500, dropSeconds: 31_536_000 },
      { ...entry, owners: ['policy'], dropSeconds: null },
    ].map((one) => entryRow(one as Entry, nowMs));
    const lines = [...table(entryColumns(nowMs), () => rows, false)];
    expect(lines).toHaveLength(4);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
  });
});

describe('a table', () => {
  const columns = [{ title: 'A' }, { title: 'N', right: true }, { title: 'LAST', colour: () => 'red' as const }];
  const rows = () => [
    ['long one', '1', 'x'],
    ['b', '1000', 'y'],
  ];

  test('is aligned, without blanks at the end', () => {
    expect([...table(columns, rows, false)]).toEqual([
      'A            N  LAST',
      'long one     1  x',
      'b         1000  y',
    ]);
  });

  test('a name that moves the cursor is shown, not obeyed', () => {
    const hostile = () => [['e\u202ex', 'z\u001b[7m', '']];
    expect([...table(columns, hostile, false)]).toEqual(['A                  N  LAST', 'e\\u202ex  z\\u001b[7m  ']);
  });

  describe('on a terminal', () => {
    const wide = [
      { title: 'TARGET' },
      { title: 'OWNER', yields: [[3, 4]] },
      { title: 'SEEN', yields: [[2, 0]] },
      {
        title: 'WHY',
        yields: [
          [1, 6],
          [4, 0],
        ],
      },
    ] as const;
    const data = () => [
      ['2001:db8::1', 'policy:ssh', '5m ago', 'Inbound SSH Connection'],
      ['192.0.2.1', 'hand', '-', 'scans'],
    ];
    test.each<[number | null, string[]]>([
      [null, ['2001:db8::1  policy:ssh  5m ago  Inbound SSH Connection', '192.0.2.1    hand        -       scans']],
      [55, ['2001:db8::1  policy:ssh  5m ago  Inbound SSH Connection', '192.0.2.1    hand        -       scans']],
      [54, ['2001:db8::1  policy:ssh  5m ago  Inbound SSH Connecti…', '192.0.2.1    hand        -       scans']],
      [39, ['2001:db8::1  policy:ssh  5m ago  Inbou…', '192.0.2.1    hand        -       scans']],
      [38, ['2001:db8::1  policy:ssh  Inbou…', '192.0.2.1    hand        scans']],
      [30, ['2001:db8::1  policy:s…  Inbou…', '192.0.2.1    hand       scans']],
      [25, ['2001:db8::1  pol…  Inbou…', '192.0.2.1    hand  scans']],
      [24, ['2001:db8::1  pol…', '192.0.2.1    hand']],
      // It yields no more: a row is one line, and the terminal's to break.
      [10, ['2001:db8::1  pol…', '192.0.2.1    hand']],
    ])('of %s columns', (width, lines) => {
      expect([...table(wide, data, false, width)].slice(1)).toEqual(lines);
    });

    test('of 80 columns the longest rows fit', () => {
      const rows = [
        { ...entry, target: parsePrefix('2001:db8:1111:2222:3333:4444:5555:6666'), dropSeconds: 200_000 },
        { ...entry, target: parsePrefix('2001:db8:1111:2222:3333:4444:5555:6660/124'), packets: 1e12, bytes: 9.9e15 },
        { ...entry, target: parsePrefix('203.0.113.128/25'), state: 'monitor', dropSeconds: 0, countSeconds: 2e7 },
      ].flatMap((one) => {
        const claim = {
          owner: 'policy:a-policy-with-a-name-that-is-rather-long',
          mode: 'enforce',
          dropSeconds: null,
          countSeconds: 0,
          begunMs: nowMs,
          rule: 'A rule of Falco with a name that goes on and on and on and on',
          policy: null,
          ports: [],
          reason: null,
          by: null,
        } as const;
        return [...blockRows({ entry: one as Entry, ports: [], claims: [claim, { ...claim, owner: 'hand' }] }, nowMs)];
      });
      for (const of of [rows, rows.slice(3, 6), rows.slice(6)]) {
        const lines = [...table(blockColumns(nowMs), () => of, false, 80)];
        expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
        expect(lines[0]).toMatch(/^TARGET +STATE +ENDS .*OWNER/);
      }
      // And nothing is cut for a program.
      expect([...table(blockColumns(nowMs), () => rows, false)].join()).toContain('goes on and on');
    });
  });

  test('colour changes no width', () => {
    const painted = [...table(columns, rows, true)];
    expect(painted[1]).toContain('\x1b[31mx\x1b[0m');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: taking the colour out again
    expect(painted.map((line) => line.replace(/\x1b\[\d+m/g, ''))).toEqual([...table(columns, rows, false)]);
  });
});

test.each([
  [true, {}, true],
  [false, {}, false],
  [true, { NO_COLOR: '1' }, false],
  [true, { NO_COLOR: '' }, true],
  [true, { TERM: 'dumb' }, false],
])('colour on a terminal %s with %j: %s', (isTerminal, environment, expected) => {
  expect(wantsColour(isTerminal, environment)).toBe(expected);
  expect(paint('x', 'red', expected)).toBe(expected ? '\x1b[31mx\x1b[0m' : 'x');
});

describe('an answer', () => {
  const open = (json: boolean) => {
    const out = new PassThrough();
    const errors = new PassThrough();
    const answer = new Answer(out, errors, { json, colour: { out: false, error: false }, debug: false });
    // Node 26 gives a chunk at a time.
    const read = (stream: PassThrough): string => {
      let text = '';
      for (let chunk: unknown = stream.read(); chunk !== null; chunk = stream.read()) text += String(chunk);
      return text;
    };
    return { answer, out, read, errors };
  };

  test.each<[Status[], Status]>([
    [[0, 4], 4],
    [[4, 3], 3],
    [[3, 5], 5],
    [[5, 1], 1],
    [[1, 5, 3, 4, 0], 1],
    [[4, 0], 4],
    [[], 0],
  ])('of statuses %j the worst is %d', (statuses, worst) => {
    const { answer } = open(false);
    for (const status of statuses) answer.worsen(status);
    expect(answer.status).toBe(worst);
  });

  test('errors in JSON: code, message, hint; a refusal has its reason', () => {
    const { answer, errors, read } = open(true);
    answer.fail(new FalcodropError('map_full', 'full'));
    answer.fail(new RefusedError('gateway', 'refused', 'as root'));
    expect(
      read(errors)
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual([
      { code: 'map_full', message: 'full', hint: null },
      { code: 'refused', message: 'refused', hint: 'as root', reason: 'gateway' },
    ]);
    expect(answer.status).toBe(1);
  });

  test('errors for people: one line and a hint, nothing hostile', () => {
    const { answer, errors, read } = open(false);
    answer.fail(new FalcodropError('failed', 'a\x1b[2Jb\nc', 'do\u202ethis'));
    expect(read(errors)).toBe('falcodrop: a\\u001b[2Jb\\u000ac\n  do\\u202ethis\n');
  });

  test('notes are no errors: with --json they are the answer’s', () => {
    const { answer, errors, read } = open(true);
    answer.note('something');
    expect(read(errors)).toBe('');
    expect(answer.status).toBe(0);
  });

  test('a reader that went away is no error, a full disk is', async () => {
    for (const [code, status] of [
      ['EPIPE', 0],
      ['ENOSPC', 1],
    ] as const) {
      const { answer, out, errors, read } = open(false);
      out.emit('error', Object.assign(new Error(code), { code }));
      answer.line('more');
      await answer.flush();
      expect(answer.closed).toBe(true);
      expect(answer.status).toBe(status);
      expect(read(errors) === '').toBe(status === 0);
    }
  });
});
