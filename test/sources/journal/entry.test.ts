import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isCursor, kindOf, readEntry } from '../../../src/sources/journal/entry.ts';

describe('a line of journalctl', () => {
  test.each<[string, ReturnType<typeof readEntry>]>([
    ['{"__CURSOR":"s=1;i=2","MESSAGE":"x"}', { cursor: 's=1;i=2', messages: ['x'] }],
    ['{"MESSAGE":[123,255,125],"__CURSOR":"s=1"}', { cursor: 's=1', messages: ['{\ufffd}'] }],
    ['{"MESSAGE":[195,169]}', { cursor: null, messages: ['é'] }],
    ['{"MESSAGE":null,"__CURSOR":"s=1"}', { cursor: 's=1', messages: [null] }],
    ['{"MESSAGE":["a",null,[98]],"__CURSOR":"s=1"}', { cursor: 's=1', messages: ['a', null, 'b'] }],
    ['{"MESSAGE":[[97],[98]]}', { cursor: null, messages: ['a', 'b'] }],
    ['{"MESSAGE":[1,256]}', { cursor: null, messages: ['', ''] }],
    ['{"MESSAGE":[]}', { cursor: null, messages: [''] }],
    ['{"__CURSOR":"s=1"}', { cursor: 's=1', messages: [] }],
    ['{"__CURSOR":"s=1 --x","MESSAGE":"a"}', { cursor: null, messages: ['a'] }],
    ['{"MESSAGE":{"a":1}}', { cursor: null, messages: [''] }],
    ['{}', null],
    ['[]', null],
    ['null', null],
    ['"MESSAGE"', null],
    ['-- No entries --', null],
    ['{"MESSAGE":"cut', null],
  ])('%s', (line, entry) => {
    expect(readEntry(line)).toEqual(entry);
  });

  test('any bytes of a message come back, as text or as an array', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const message = Buffer.from(bytes).toString('utf8');
        expect(readEntry(JSON.stringify({ MESSAGE: [...bytes] }))?.messages).toEqual([message]);
        expect(readEntry(JSON.stringify({ MESSAGE: message }))?.messages).toEqual([message]);
      }),
    );
  });

  test('nothing makes it throw', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.object().map((o) => JSON.stringify({ MESSAGE: o })),
        ),
        (line) => {
          const entry = readEntry(line);
          expect(entry === null || Array.isArray(entry.messages)).toBe(true);
        },
      ),
    );
  });
});

test.each([
  ['s=0123;i=1;b=0;m=0;t=0;x=0', true],
  ['', false],
  ['a b', false],
  ['a\nb', false],
  ['é', false],
  ['x'.repeat(513), false],
  [1, false],
])('%j as a cursor: %s', (value, is) => {
  expect(isCursor(value)).toBe(is);
});

test.each([
  ['{"rule":"x"}', 'object'],
  ['  {', 'object'],
  ['Falco version: 0.41.0 (x86_64)', 'text'],
  ['', 'text'],
  ['[]', 'text'],
  ['2026-01-02T23:10:05+0000: Falco initialized with configuration files:', 'text'],
  ['23:10:05.123456789: Error File below /etc opened', 'alert-text'],
  ['2026-01-02T23:10:05.123456789+0000: Critical x', 'alert-text'],
  ['23:10:05.123456789: Erroneous', 'text'],
])('%j is %s', (message, kind) => {
  expect(kindOf(message)).toBe(kind);
});
