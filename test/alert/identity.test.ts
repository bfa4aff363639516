import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Alert, decodeAlert, type NotAlert, parseAlert } from '../../src/alert/alert.ts';
import { identityOf } from '../../src/alert/identity.ts';
import { bodies, grpcMessages, grpcWireMessages, recording, recordings } from './recordings.ts';

const key = { a: 0x12345678, b: 0x9abcdef0 };

function idOf(alert: Alert | NotAlert): string {
  if ('problem' in alert) throw new Error(alert.problem);
  const identity = identityOf(alert, key);
  return identity === null ? 'none' : `${identity.a} ${identity.b}`;
}

const decoded = (members: Record<string, unknown>): string => idOf(decodeAlert(members, 'local'));

const fields = {
  'evt.type': 'accept4',
  'fd.cip': '198.51.100.7',
  'fd.cport': 40_000,
  'fd.is_server': true,
  'fd.name': '198.51.100.7:40000->203.0.113.10:2222',
  'fd.sip': '203.0.113.10',
};
const alert = { time: '2026-11-21T20:15:57.799476800Z', rule: 'r', hostname: 'edge', output_fields: fields };

describe('the same alert', () => {
  test.each<[string, Record<string, unknown>]>([
    ['with the zeros at the end of the time cut', { time: '2026-11-21T20:15:57.7994768Z' }],
    ['of another zone', { time: '2026-11-21T22:15:57.7994768+02:00' }],
    ['with the time as gRPC has it', { time: { seconds: '1795292157', nanos: 799_476_800 } }],
    ['with a uuid, tags, a priority, a source', { uuid: 'x', tags: ['y'], priority: 'Debug', source: 'syscalls' }],
    ['with fields that are not its own', { output_fields: { ...fields, site: 'edge-7', 'evt.time': 1, fdx: 1 } }],
    ['in another order', { output_fields: Object.fromEntries(Object.entries(fields).toReversed()) }],
    ['all strings', { output_fields: { ...fields, 'fd.cport': '40000', 'fd.is_server': 'true' } }],
    ['with what is missing spelled "<NA>"', { output_fields: { ...fields, 'fd.lip': '<NA>' } }],
    ['with what is missing spelled ""', { output_fields: { ...fields, 'fd.lip': '' } }],
    ['with what is missing spelled null', { output_fields: { ...fields, 'fd.lip': null } }],
  ])('%s', (_name, change) => {
    expect(decoded({ ...alert, ...change })).toBe(decoded(alert));
  });

  test.each<[string, unknown, unknown]>([
    ['a list', ['a', 'b'], '(a,b)'],
    ['a list with spaces', ['a', 'b'], '(a, b)'],
    ['a list of numbers', [1, 2], '(1,2)'],
    ['a number beyond 2⁵³, rounded by JSON.parse', JSON.parse('18014398509481985'), '18014398509481985'],
    ['a truth', false, 'false'],
  ])('%s as gRPC has it', (_name, json, grpc) => {
    const of = (value: unknown) => decoded({ ...alert, output_fields: { ...fields, 'fd.x': value } });
    expect(of(grpc)).toBe(of(json));
    expect(of(grpc)).not.toBe(decoded(alert));
  });
});

describe('another alert', () => {
  test.each<[string, Record<string, unknown>]>([
    ['a nanosecond later', { time: '2026-11-21T20:15:57.799476801Z' }],
    ['of another host', { hostname: 'edge2' }],
    ['of no host', { hostname: undefined }],
    ['of another rule', { rule: 'R' }],
    ['of another call', { output_fields: { ...fields, 'evt.type': 'connect' } }],
    ['from another port', { output_fields: { ...fields, 'fd.cport': 40_001 } }],
    ['with a field more', { output_fields: { ...fields, 'fd.lport': 1 } }],
    ['with halves exchanged', { output_fields: { ...fields, 'fd.cip': fields['fd.sip'], 'fd.sip': fields['fd.cip'] } }],
    ['without fields', { output_fields: null }],
  ])('%s', (_name, change) => {
    expect(decoded({ ...alert, ...change })).not.toBe(decoded(alert));
  });

  test('names do not run into each other', () => {
    expect(decoded({ ...alert, hostname: 'a', rule: 'br' })).not.toBe(decoded({ ...alert, hostname: 'ab', rule: 'r' }));
  });
});

test('an alert without a time has no identity', () => {
  expect(decoded({ ...alert, time: undefined })).toBe('none');
  expect(decoded({ ...alert, time: 'yesterday' })).toBe('none');
});

test('an alert of a plugin has none either: two of one second may be two', () => {
  const source = 'aws_cloudtrail';
  expect(decoded({ ...alert, source, output_fields: { 'ct.srcip': '192.0.2.1' } })).toBe('none');
  expect(decoded({ ...alert, source: 'syscalls' })).toBe(decoded({ ...alert, source: 'syscall' }));
});

test.each([
  ['an object', { toString: 1, valueOf: 2 }],
  ['objects in a list', [{ toString: null }, null, undefined, [{}]]],
  ['a list in lists', [[[[1]]]]],
])('rubbish in a field is no harm: %s', (_name, value) => {
  expect(decoded({ ...alert, output_fields: { ...fields, 'fd.x': value, 'fd.y': value } })).not.toBe(decoded(alert));
});

test('each key tells alerts apart in its own way', () => {
  const of = decodeAlert(alert, 'local');
  if ('problem' in of) throw new Error(of.problem);
  expect(identityOf(of, { a: 1, b: 2 })).not.toEqual(identityOf(of, { a: 1, b: 3 }));
});

/** Some recordings name the host as it was, others as it was called afterwards. */
const asRenamed = (of: Alert | NotAlert): Alert => {
  if ('problem' in of) throw new Error(of.problem);
  return of.hostname === 'vm' ? { ...of, hostname: 'edge-1' } : of;
};

const ways: Readonly<Record<string, readonly Alert[]>> = {
  ...Object.fromEntries(
    recordings.map((name) => [name, recording(name).lines.map((line) => asRenamed(parseAlert(line, 'local')))]),
  ),
  http: bodies('http-0.43').map((body) => asRenamed(parseAlert(body, 'local'))),
  sidekick: bodies('sidekick-2.34').map((body) => asRenamed(parseAlert(body, 'local'))),
  grpc: [...grpcMessages(), ...grpcWireMessages()].map((message) => asRenamed(decodeAlert(message, 'local'))),
};

describe('recorded alerts', () => {
  /** In the recordings one rule fired once in a nanosecond: what an alert is, told without its fields. */
  const whatIs = ({ timeNs, rule, fields: of }: Alert): string => `${timeNs} ${rule} ${String(of?.['fd.name'])}`;

  test('over all ways: the same is one, and no two different ones are', () => {
    const all = Object.values(ways).flat();
    expect(all.length).toBeGreaterThan(900);
    const whatById = new Map<string, Set<string>>();
    for (const each of all) {
      const id = idOf(each);
      whatById.set(id, (whatById.get(id) ?? new Set()).add(whatIs({ ...each, fields: null })));
    }
    expect([...whatById.values()].filter(({ size }) => size > 1)).toEqual([]);
    expect(whatById.size).toBe(new Set(all.map((each) => `${each.timeNs} ${each.rule}`)).size);
  });

  test.each([
    ['http', 20],
    ['sidekick', 30],
    ['grpc', 290],
  ])('%s: all are known from the files', (way, least) => {
    const known = new Set(recordings.flatMap((name) => ways[name] ?? []).map(idOf));
    const came = new Set((ways[way] ?? []).map(idOf));
    expect(came.size).toBeGreaterThanOrEqual(least);
    expect([...came].filter((id) => !known.has(id))).toEqual([]);
  });
});

describe('whatever it holds', () => {
  const value = fc.oneof(
    fc.string().filter((text) => !/^\d{16,}$/.test(text) && !text.startsWith('(')),
    fc.integer(),
    fc.boolean(),
    fc.constantFrom(null, '', '<NA>'),
  );
  const some = fc.dictionary(
    fc.string({ maxLength: 8 }).map((name) => `fd.${name}`),
    value,
    { maxKeys: 8 },
  );
  const asText = (given: unknown): unknown => (given === null ? '<NA>' : String(given));

  test('gRPC’s strings, other order, other fields: the same; one field changed: another', () => {
    fc.assert(
      fc.property(some, fc.dictionary(fc.string({ maxLength: 4 }), value), (own, other) => {
        const grpc = Object.fromEntries(Object.entries(own).map(([name, given]) => [name, asText(given)]));
        const strangers = Object.entries(other).filter(([name]) => !name.startsWith('fd.') && name !== 'evt.type');
        const reversed = Object.fromEntries([...strangers, ...Object.entries(grpc).toReversed()]);
        const id = decoded({ ...alert, output_fields: own });
        expect(decoded({ ...alert, output_fields: reversed })).toBe(id);
        for (const name of Object.keys(own)) {
          expect(decoded({ ...alert, output_fields: { ...own, [name]: 'changed!' } })).not.toBe(id);
        }
      }),
    );
  });
});

test('a million alerts of a flood, a nanosecond or a port apart, are a million', () => {
  const ids = new Set<number>();
  const base = decodeAlert(alert, 'local');
  if ('problem' in base) throw new Error(base.problem);
  const { timeNs = 0n } = base;
  for (let n = 0; n < 1_000_000; n++) {
    const identity = identityOf(
      { ...base, timeNs: (timeNs ?? 0n) + BigInt(n >> 8), fields: { 'fd.cport': n & 255 } },
      key,
    );
    // 53 bits of it: a pair would be found by chance once in ten thousand runs
    if (identity !== null) ids.add(identity.a * 2 ** 21 + (identity.b & 0x1f_ffff));
  }
  expect(ids.size).toBe(1_000_000);
});
