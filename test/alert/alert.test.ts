import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Alert,
  decodeAlert,
  deepestAlert,
  longestAlert,
  type NotAlert,
  parseAlert,
  widestAlert,
} from '../../src/alert/alert.ts';
import { bodies, grpcMessages, recording, recordings } from './recordings.ts';

function decoded(value: unknown): Alert {
  const alert = decodeAlert(value, 'local');
  if ('problem' in alert) throw new Error(alert.problem);
  return alert;
}

function parsed(text: string): Alert {
  const alert = parseAlert(text, 'local');
  if ('problem' in alert) throw new Error(alert.problem);
  return alert;
}

const problemOf = (alert: Alert | NotAlert): string | null => ('problem' in alert ? alert.problem : null);

describe('decodeAlert', () => {
  test('an alert of Falco 0.43', () => {
    const fields = { 'evt.type': 'accept4', 'fd.sport': 22 };
    const value = {
      hostname: 'edge-1',
      output: 'text',
      output_fields: fields,
      priority: 'Notice',
      rule: 'Inbound SSH Connection',
      source: 'syscall',
      tags: ['network', 'own'],
      time: '2026-11-21T20:40:38.445652554Z',
    };
    expect(decodeAlert(value, 'network')).toEqual({
      timeNs: 1_795_293_638_445_652_554n,
      rule: 'Inbound SSH Connection',
      priority: 'Notice',
      source: 'syscall',
      hostname: 'edge-1',
      tags: ['network', 'own'],
      uuid: null,
      output: 'text',
      fields,
      origin: 'network',
    });
  });

  test('the least an alert can be', () => {
    expect(decoded({ rule: 'r' })).toEqual({
      timeNs: null,
      rule: 'r',
      priority: '',
      source: 'syscall',
      hostname: null,
      tags: [],
      uuid: null,
      output: '',
      fields: null,
      origin: 'local',
    });
  });

  test.each([
    [null],
    [undefined],
    [1],
    ['text'],
    [[]],
    [[{ rule: 'r' }]],
    [{}],
    [{ rule: '' }],
    [{ rule: null }],
    [{ rule: '<NA>' }],
    [{ rule: 7 }],
    [{ rule: ['r'] }],
    [{ rule: 'r', output_fields: [] }],
    [{ rule: 'r', output_fields: 'fd.name' }],
    [{ rule: 'r', output_fields: 1 }],
    [Object.create({ rule: 'inherited' })],
  ])('%j is no alert', (value) => {
    expect(problemOf(decodeAlert(value, 'local'))).toMatch(/\w/);
  });

  test.each([
    ['2022-05-01T23:29:32.918828894Z', 1_651_447_772_918_828_894n],
    ['2022-05-01T23:29:32.9188Z', 1_651_447_772_918_800_000n],
    ['2022-05-01T23:29:32Z', 1_651_447_772_000_000_000n],
    ['2022-05-02T01:29:32.5+02:00', 1_651_447_772_500_000_000n],
    ['2022-05-01T18:59:32-04:30', 1_651_447_772_000_000_000n],
    ['2024-02-29T00:00:00Z', 1_709_164_800_000_000_000n],
    ['1970-01-01T00:00:00.000000001Z', 1n],
    [{ seconds: '1795292155', nanos: 730_711_407 }, 1_795_292_155_730_711_407n],
    [{ seconds: 1_795_292_155, nanos: 0 }, 1_795_292_155_000_000_000n],
    [{ seconds: { low: 1_795_292_155, high: 0, unsigned: false }, nanos: 1 }, 1_795_292_155_000_000_001n],
    [{ seconds: { low: -1, high: 0, unsigned: false } }, 4_294_967_295_000_000_000n],
    [{ seconds: '5' }, 5_000_000_000n],
    [{ seconds: '8640000000000' }, 8_640_000_000_000_000_000_000n],
    [{ seconds: '-8640000000000' }, -8_640_000_000_000_000_000_000n],
  ])('time %j', (time, ns) => {
    expect(decoded({ rule: 'r', time }).timeNs).toBe(ns);
  });

  test.each([
    ['2022-05-01T23:29:32'],
    ['2022-05-01 23:29:32Z'],
    ['2022-02-30T00:00:00Z'],
    ['2023-02-29T00:00:00Z'],
    ['2022-13-01T00:00:00Z'],
    ['2022-00-01T00:00:00Z'],
    ['2022-01-01T24:00:00Z'],
    ['2022-01-01T00:60:00Z'],
    ['2022-01-01T00:00:60Z'],
    ['2022-01-01T00:00:00+24:00'],
    ['2022-01-01T00:00:00.1234567890Z'],
    ['x'.repeat(100_000)],
    [''],
    [1_795_292_155],
    [true],
    [[]],
    [{}],
    [{ seconds: 'x' }],
    [{ seconds: 1.5 }],
    [{ seconds: '1', nanos: -1 }],
    [{ seconds: '1', nanos: 1_000_000_000 }],
    [{ seconds: { low: 'x', high: 0 } }],
    // Beyond what a date can be.
    [{ seconds: '999999999999999999' }],
    [{ seconds: '-8640000000001' }],
    [{ seconds: { low: 0, high: -2_147_483_648 } }],
  ])('time %j is unreadable', (time) => {
    expect(decoded({ rule: 'r', time }).timeNs).toBeNull();
  });

  test('many of few seconds, in any order and form: each as if it were alone', () => {
    const seconds = ['2026-11-22T12:30:00', '2026-11-22T12:30:01', '2026-02-30T12:30:00', '2026-11-22T25:30:00'];
    const ends = ['Z', 'z', '+01:00', ' ', '.', ''];
    const some = fc.record({
      second: fc.constantFrom(...seconds),
      decimals: fc.stringMatching(/^[0-9]{0,10}$/),
      end: fc.constantFrom(...ends),
    });
    fc.assert(
      fc.property(fc.array(some, { minLength: 1, maxLength: 20 }), (times) => {
        for (const { second, decimals, end } of times) {
          const time = `${second}${decimals === '' ? '' : `.${decimals}`}${end}`;
          const isTime = /^(z|\+01:00)$/i.test(end) && decimals.length <= 9 && !/02-30|T25/.test(second);
          const zone = end === '+01:00' ? end : 'Z';
          const ns = BigInt(Date.parse(`${second}${zone}`) || 0) * 1_000_000n + BigInt(decimals.padEnd(9, '0'));
          expect(decoded({ rule: 'r', time }).timeNs).toBe(isTime ? ns : null);
        }
      }),
    );
  });

  test.each([
    '{"evt.time":1795292155730711407}',
    '{"evt.time.iso8601":1795292155730711407}',
    '{"evt.time":"1795292155730711407"}',
  ])('without a time, that of the event, which JSON rounds: %s', (fields) => {
    const { timeNs } = parsed(`{"rule":"r","output_fields":${fields}}`);
    expect(Number((timeNs ?? 0n) - 1_795_292_155_730_711_407n)).toBeGreaterThan(-256);
    expect(Number((timeNs ?? 0n) - 1_795_292_155_730_711_407n)).toBeLessThan(256);
  });

  test.each([
    ['NOTICE', 'Notice'],
    ['INFO', 'Informational'],
    ['info', 'Informational'],
    ['INFORMATIONAL', 'Informational'],
    ['Emergency', 'Emergency'],
    [3, 'Error'],
    [99, ''],
    [null, ''],
    ['other', 'other'],
  ])('priority %j is %s', (priority, name) => {
    expect(decoded({ rule: 'r', priority }).priority).toBe(name);
  });

  test.each([
    [{}, 'syscall'],
    [{ source: 'syscalls' }, 'syscall'],
    [{ source: '' }, 'syscall'],
    [{ source: 'k8s_audit' }, 'k8s_audit'],
    [{ source_deprecated: 'SYSCALL' }, 'syscall'],
    [{ source_deprecated: 'K8S_AUDIT' }, 'k8s_audit'],
    [{ source_deprecated: 1 }, 'k8s_audit'],
    [{ source_deprecated: 'constructor' }, 'constructor'],
    [{ source: 'syscall', source_deprecated: 'PLUGIN' }, 'syscall'],
  ])('source of %j is %s', (members, source) => {
    expect(decoded({ rule: 'r', ...members }).source).toBe(source);
  });

  test('of wrong types nothing is taken', () => {
    const alert = decoded({ rule: 'r', hostname: 7, uuid: {}, output: ['x'], tags: ['a', 1, null, {}], priority: {} });
    expect(alert).toMatchObject({ hostname: null, uuid: null, output: '', tags: ['a'], priority: '' });
    expect(decoded({ rule: 'r', tags: 'network' }).tags).toEqual([]);
    expect(decoded({ rule: 'r', hostname: '<NA>' }).hostname).toBeNull();
  });
});

describe('what is kept of the fields', () => {
  const many = (count: number, name: (n: number) => string): Record<string, unknown> =>
    Object.fromEntries(Array.from({ length: count }, (_, n) => [name(n), n]));
  const telling = { 'evt.type': 'accept4', 'fd.name': '1.2.3.4:5->6.7.8.9:10', 'ka.sourceips': ['1.2.3.4', '::1'] };

  test.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    ['as it came, lists too', telling, telling],
    ['as many as may be', many(64, String), many(64, String)],
    [
      'of more, those that tell of the call and its connection',
      { ...many(1_000, String), ...telling },
      {
        'evt.type': 'accept4',
        'fd.name': '1.2.3.4:5->6.7.8.9:10',
      },
    ],
    ['of too many of these, the first', many(1_000, (n) => `fd.${n}`), many(64, (n) => `fd.${n}`)],
    ['of an object, that it is one', { 'fd.name': { a: [{}] }, a: 1 }, { 'fd.name': {}, a: 1 }],
    ['of a list, its first members, if they are texts or numbers', { a: [...many16(), {}, [], null] }, { a: many16() }],
    ['of a long list', { a: Array.from({ length: 1_000 }, () => 'x') }, { a: Array.from({ length: 64 }, () => 'x') }],
  ])('%s', (_name, fields, kept) => {
    expect(decoded({ rule: 'r', output_fields: fields }).fields).toEqual(kept);
  });

  test('"__proto__" stays a member', () => {
    const { fields } = parsed('{"rule":"r","output_fields":{"__proto__":{"fd.name":"x"},"a":{}}}');
    expect(fields !== null && Object.hasOwn(fields, '__proto__') && Object.getPrototypeOf(fields)).toBe(
      Object.prototype,
    );
  });
});

const many16 = (): string[] => Array.from({ length: 16 }, (_, n) => String(n));

describe('parseAlert', () => {
  test.each([
    ['', /not JSON/],
    ['{', /not JSON/],
    ['{"rule":"r"', /not JSON/],
    ['Events detected: 5', /not JSON/],
    ['{"rule":"r"}{"rule":"r"}', /not JSON/],
    ['"rule"', /JSON object/],
    ['null', /JSON object/],
    ['[{"rule":"r"}]', /JSON object/],
    ['{"output":"x"}', /rule/],
    [`{"rule":"${'r'.repeat(longestAlert)}"}`, /1 MiB/],
    [`{"rule":"r","x":${'['.repeat(deepestAlert)}${']'.repeat(deepestAlert)}}`, /nested/],
    ['['.repeat(1_000_000), /nested/],
    ['{"a":'.repeat(200_000), /nested/],
  ])('%.30s', (text, problem) => {
    expect(problemOf(parseAlert(text, 'local'))).toMatch(problem);
  });

  test('brackets in strings nest nothing', () => {
    const text = JSON.stringify({ rule: 'r', output: `${'[{'.repeat(500)}\\"[[` });
    expect(problemOf(parseAlert(text, 'local'))).toBeNull();
  });

  test('as wide as it may be', () => {
    const wide = (count: number) => `{"rule":"r","x":[${'{},'.repeat(count - 3)}{}],"y":"${'[{'.repeat(10_000)}"}`;
    expect(parsed(wide(widestAlert)).rule).toBe('r');
    expect(problemOf(parseAlert(wide(widestAlert + 1), 'local'))).toBe('the JSON has more than 4096 objects and lists');
  });

  test('as deep as it may be', () => {
    const levels = deepestAlert - 1;
    expect(problemOf(parseAlert(`{"rule":"r","x":${'['.repeat(levels)}${']'.repeat(levels)}}`, 'local'))).toBeNull();
  });

  test('white space around it, as falcosidekick sends', () => {
    expect(parsed(' {"rule":"r"}\r\n').rule).toBe('r');
  });

  test('"__proto__" and "constructor" are members like others', () => {
    const text = `{"rule":"r","__proto__":{"hostname":"evil","uuid":"evil"},"constructor":{"prototype":{"polluted":1}},
      "output_fields":{"__proto__":{"fd.name":"1.1.1.1:1->8.8.8.8:53"},"fd.type":"ipv4"}}`;
    const alert = parsed(text);
    expect(alert).toMatchObject({ hostname: null, uuid: null });
    expect(alert.fields !== null && Object.hasOwn(alert.fields, 'fd.name')).toBe(false);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  test('never throws, whatever the JSON', () => {
    const members = [
      'rule',
      'time',
      'priority',
      'output',
      'output_fields',
      'source',
      'source_deprecated',
      'tags',
      'hostname',
    ];
    const object = fc.dictionary(fc.oneof(fc.constantFrom(...members), fc.string()), fc.jsonValue({ maxDepth: 4 }));
    fc.assert(
      fc.property(
        fc.oneof(
          object.map((value) => JSON.stringify({ ...value })),
          fc.json(),
          fc.string(),
        ),
        (text) => {
          const alert = parseAlert(text, 'network');
          if ('problem' in alert) {
            expect(alert.problem).not.toBe('');
            return;
          }
          expect(alert.rule).not.toBe('');
          expect(alert.timeNs === null || typeof alert.timeNs === 'bigint').toBe(true);
          expect([alert.priority, alert.source, alert.output].every((text) => typeof text === 'string')).toBe(true);
          expect(alert.tags.every((tag) => typeof tag === 'string')).toBe(true);
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('the recordings', () => {
  test.each(recordings)('%s: every line is an alert with time, host and fields', (name) => {
    const { lines } = recording(name);
    expect(lines.length).toBeGreaterThan(100);
    for (const line of lines) {
      const alert = parsed(line);
      expect(alert).toMatchObject({ source: 'syscall', hostname: expect.any(String), fields: expect.any(Object) });
      expect(alert.timeNs).toBe(nanosecondsIn(line));
    }
  });

  test('gRPC: the message says what its JSON line says', () => {
    const messages = grpcMessages();
    expect(messages.length).toBe(200);
    for (const message of messages) {
      const grpc = decoded(message);
      const json = parsed(message.output);
      const same = ({ timeNs, rule, priority, source, tags }: Alert) => ({ timeNs, rule, priority, source, tags });
      expect(same(grpc)).toEqual(same(json));
    }
  });

  test.each(['http-0.43', 'sidekick-2.34'] as const)('%s: every body is an alert', (name) => {
    const texts = bodies(name);
    expect(texts.length).toBeGreaterThan(10);
    for (const text of texts) expect(parsed(text).source).toBe('syscall');
  });

  test("falcosidekick: its uuid, its own fields beside Falco's, a time without trailing zeros", () => {
    const alerts = bodies('sidekick-2.34').map(parsed);
    expect(alerts.every(({ uuid }) => uuid !== null)).toBe(true);
    expect(alerts.some(({ fields }) => fields?.site === 'edge-7' && fields['fd.name'] !== undefined)).toBe(true);
  });
});

/** The time in the text, read in another way. */
function nanosecondsIn(line: string): bigint {
  const [, date = '', fraction = ''] = /"time":"([^".]+)\.?(\d*)Z"/.exec(line) ?? [];
  return BigInt(Date.parse(`${date}Z`)) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
}
