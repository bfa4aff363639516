import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeAlert, parseAlert } from '../../../src/alert/alert.ts';
import { readAlertMessage, readVersionMessage } from '../../../src/sources/grpc/message.ts';
import { grpcBytes, grpcMessages } from '../../alert/recordings.ts';
import { encodeAlert } from './falco.ts';

const seconds = 1_795_293_638;
const time = '2026-11-21T20:40:38.395491696Z';
const message = (rest: object = {}): object => ({
  time: { seconds, nanos: 395_491_696 },
  priority: 'NOTICE',
  rule: 'R',
  hostname: 'edge',
  source: 'syscall',
  tags: ['a', 'b'],
  output: 'text',
  output_fields: {
    'evt.type': 'accept4',
    'fd.cport': '48014',
    'proc.name': '<NA>',
    'ka.sourceips': '(192.0.2.1,192.0.2.2)',
  },
  ...rest,
});
const read = (bytes: Buffer) => {
  const alert = readAlertMessage(bytes);
  if ('problem' in alert) throw new Error(alert.problem);
  return alert;
};
const line = (rest: object = {}): string =>
  JSON.stringify({
    hostname: 'edge',
    output: 'text',
    output_fields: { 'fd.cport': 48_014, 'proc.name': null },
    priority: 'Notice',
    rule: 'R',
    source: 'syscall',
    tags: ['a', 'b'],
    time,
    ...rest,
  });

describe('a message', () => {
  test("becomes what Falco's JSON has", () => {
    const { value, text } = read(encodeAlert(message()));
    expect(value).toEqual({
      hostname: 'edge',
      output: 'text',
      output_fields: {
        'evt.type': 'accept4',
        'fd.cport': '48014',
        'proc.name': '<NA>',
        'ka.sourceips': '(192.0.2.1,192.0.2.2)',
      },
      priority: 'Notice',
      rule: 'R',
      source: 'syscall',
      tags: ['a', 'b'],
      time,
    });
    expect(JSON.parse(text)).toEqual(value);
  });

  test.each<[string, object, object]>([
    ['priority 0 is not written', { priority: 'EMERGENCY' }, { priority: 'Emergency' }],
    ['a priority there is not', { priority: 9 }, { priority: '' }],
    ['no source, before 0.30', { source: '', source_deprecated: 'K8S_AUDIT' }, { source: 'k8s_audit' }],
    ['no hostname', { hostname: '' }, { hostname: undefined }],
    ['no time', { time: null }, { time: undefined }],
    ['1970', { time: { seconds: 0, nanos: 0 } }, { time: '1970-01-01T00:00:00.000000000Z' }],
    ['9999', { time: { seconds: 253_402_300_799, nanos: 999_999_999 } }, { time: '9999-12-31T23:59:59.999999999Z' }],
    ['the year 10000', { time: { seconds: 253_402_300_800, nanos: 0 } }, { time: undefined }],
    ['before 1970', { time: { seconds: -1, nanos: 0 } }, { time: undefined }],
    ['negative nanoseconds', { time: { seconds: 1, nanos: -1 } }, { time: undefined }],
    ['no output fields', { output_fields: {} }, { output_fields: {} }],
  ])('%s', (_, given, expected) => {
    const { value } = read(encodeAlert(message(given)));
    expect({ ...value, ...expected }).toEqual(value);
    expect(Object.entries(expected).map(([key]) => value[key])).toEqual(Object.values(expected));
  });

  test('a key of its fields is the sender’s, whatever it is', () => {
    const { value } = read(
      encodeAlert(
        message({
          output_fields: Object.fromEntries([
            ['__proto__', 'x'],
            ['toString', 'y'],
          ]),
        }),
      ),
    );
    expect(Object.entries(value.output_fields as object)).toEqual([
      ['__proto__', 'x'],
      ['toString', 'y'],
    ]);
  });

  test('bytes that are no UTF-8, and fields that nobody knows yet', () => {
    const bytes = Buffer.concat([
      encodeAlert(message({ output: '' })),
      Buffer.from([5 * 8 + 2, 2, 0xff, 0x41]),
      Buffer.from([15 * 8, 7, 14 * 8 + 1, 1, 2, 3, 4, 5, 6, 7, 8, 13 * 8 + 5, 1, 2, 3, 4]),
    ]);
    expect(read(bytes).value).toMatchObject({ output: '\ufffdA', rule: 'R' });
  });
});

describe('the whole alert in its output', () => {
  test('is the alert, with its types and to the letter', () => {
    const { value, text } = read(encodeAlert(message({ output: line() })));
    expect(text).toBe(line());
    expect(value).toMatchObject({ output: 'text', output_fields: { 'fd.cport': 48_014, 'proc.name': null } });
  });

  test('without output fields: those of the message', () => {
    const { value, text } = read(encodeAlert(message({ output: line({ output_fields: undefined }) })));
    expect(value).toMatchObject({ output: 'text', tags: ['a', 'b'], output_fields: { 'fd.cport': '48014' } });
    expect(JSON.parse(text)).toEqual(value);
  });

  test.each<[string, string]>([
    ['is about another time', line({ time: '2026-11-21T20:40:38.395491697Z' })],
    ['is of another rule', line({ rule: 'Connection to Canary Port' })],
    ['is of another host', line({ hostname: 'other' })],
    ['is of another source', line({ source: 'okta' })],
    ['names no time', line({ time: undefined })],
    ['is cut', line().slice(0, -1)],
    ['is nested without end', `{"a":${'['.repeat(100_000)}`],
    ['is no JSON', '{x'],
  ])('%s: then it is a text like any other', (_, output) => {
    const { value } = read(encodeAlert(message({ output })));
    expect(value).toMatchObject({ output, rule: 'R', hostname: 'edge', output_fields: { 'fd.cport': '48014' } });
  });
});

describe('recorded', () => {
  test('0.43: bytes are the alert that their output holds', () => {
    for (const bytes of grpcBytes()) {
      const { value, text } = read(bytes);
      expect(decodeAlert(value, 'local')).toEqual(parseAlert(text, 'local'));
      expect(Object.keys(value.output_fields as object).length).toBeGreaterThan(3);
      expect(text.startsWith('{"hostname"')).toBe(true);
    }
    expect(grpcBytes().length).toBeGreaterThan(100);
  });

  test('0.40: decoded by another, they say the same', () => {
    for (const decoded of grpcMessages()) {
      const bytes = encodeAlert(decoded);
      const ours = decodeAlert(read(bytes).value, 'local');
      const theirs = decodeAlert(decoded, 'local');
      if ('problem' in ours || 'problem' in theirs) throw new Error('no alert');
      const { fields, output, ...rest } = ours;
      expect(theirs).toMatchObject(rest);
      expect(Object.keys(fields ?? {}).length).toBeGreaterThan(0);
    }
  });
});

describe('rubbish', () => {
  test.each<[string, number[]]>([
    ['field number 0', [0x02, 0x00]],
    ['a group', [0x0b]],
    ['no such type', [0x0e]],
    ['a length beyond the end', [0x22, 0x05, 0x41]],
    ['a number without an end', [0x10, 0x80]],
    ['a number of eleven bytes', [0x10, ...Array<number>(10).fill(0xff), 1]],
    ['a fixed number cut short', [0x09, 1, 2]],
    ['a field in the fields without sense', [0x32, 0x01, 0xff]],
    ['a time without sense', [0x0a, 0x01, 0x08]],
  ])('%s', (_, bytes) => {
    expect(readAlertMessage(Buffer.from(bytes))).toEqual({ problem: expect.stringContaining("not Falco's") });
  });

  test('any bytes are read to an end, and never throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const alert = readAlertMessage(Buffer.from(bytes));
        if (!('problem' in alert)) expect(JSON.parse(alert.text)).toEqual(alert.value);
        readVersionMessage(Buffer.from(bytes));
      }),
    );
  });

  test('a byte changed, or the end cut, of a real message', () => {
    const messages = grpcBytes();
    fc.assert(
      fc.property(fc.nat(messages.length - 1), fc.nat(), fc.nat(255), fc.boolean(), (n, at, byte, isCut) => {
        const bytes = Buffer.from(messages[n] ?? Buffer.alloc(0));
        bytes[at % bytes.length] = byte;
        const alert = readAlertMessage(isCut ? bytes.subarray(0, at % bytes.length) : bytes);
        expect('problem' in alert || typeof alert.value.rule === 'string').toBe(true);
      }),
    );
  });

  test('what is written is read, whatever texts are in it', () => {
    const texts = fc.string({ unit: 'grapheme', maxLength: 40 });
    fc.assert(
      fc.property(texts, texts, fc.array(texts), fc.dictionary(texts, texts), (rule, output, tags, fields) => {
        const { value } = read(encodeAlert(message({ rule, output, tags, output_fields: fields })));
        expect(value).toMatchObject({ rule, output, tags });
        expect(value.output_fields).toEqual({ ...fields });
      }),
    );
  });
});
