import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatPrefix } from '../../src/address/prefix.ts';
import { readImportLine } from '../../src/cli/import-line.ts';
import { FalcodropError } from '../../src/errors.ts';
import { prefixes } from '../address/arbitrary.ts';

const read = (text: string) => {
  const line = readImportLine(text);
  return line === null ? null : { ...line, target: formatPrefix(line.target) };
};

test.each<[string, object | null]>([
  ['', null],
  ['  \t', null],
  ['# comment', null],
  ['; comment', null],
  ['203.0.113.66', { target: '203.0.113.66' }],
  [' 203.0.113.0/24 # why', { target: '203.0.113.0/24' }],
  ['1.10.16.0/20 ; SBL256894', { target: '1.10.16.0/20' }],
  ['::ffff:203.0.113.66', { target: '203.0.113.66' }],
  ['203.0.113.66/32', { target: '203.0.113.66' }],
  ['{"target":"2001:db8::/48"}', { target: '2001:db8::/48' }],
  [
    '{"target":"203.0.113.1","owner":"policy:ssh","mode":"monitor","ends_at":"2026-11-22T14:00:00.500Z","reason":"x","more":1}',
    { target: '203.0.113.1', owner: 'policy:ssh', mode: 'monitor', endMs: 1795356000500, reason: 'x' },
  ],
  ['{"target":"203.0.113.1","ends_at":null,"reason":null}', { target: '203.0.113.1', endMs: null }],
  ['{"target":"203.0.113.1","__proto__":{"owner":"hand"}}', { target: '203.0.113.1' }],
])('%s', (text, line) => {
  expect(read(text)).toEqual(line);
});

describe('is wrong:', () => {
  test.each([
    'example.org',
    '203.0.113.1 203.0.113.2',
    '203.0.113.1,203.0.113.2',
    '203.0.113.1/24',
    '010.0.0.1',
    'fe80::1%eth0',
    '{',
    '{}',
    '[]',
    '{"target":null}',
    '{"target":"x"}',
    '{"target":"203.0.113.1","owner":"root"}',
    '{"target":"203.0.113.1","owner":"policy:"}',
    '{"target":"203.0.113.1","owner":"feed:a b"}',
    '{"target":"203.0.113.1","mode":"off"}',
    '{"target":"203.0.113.1","ends_at":"tomorrow"}',
    '{"target":"203.0.113.1","ends_at":5}',
    '{"target":"203.0.113.1","ends_at":"2026-13-22T14:00:00Z"}',
    '{"target":"203.0.113.1","reason":5}',
    '\u0000',
    '203.0.113.1\u0000',
  ])('%j', (text) => {
    expect(() => readImportLine(text)).toThrow(expect.objectContaining({ code: 'import_invalid' }));
  });
});

test('every target is read as it is written', () => {
  fc.assert(
    fc.property(prefixes, (prefix) => {
      expect(read(formatPrefix(prefix))).toEqual({ target: formatPrefix(prefix) });
      expect(read(JSON.stringify({ target: formatPrefix(prefix) }))).toEqual({ target: formatPrefix(prefix) });
    }),
  );
});

test('any text is a line, none, or a clear error', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        fc.string().map((text) => `{${text}`),
      ),
      (text) => {
        try {
          readImportLine(text);
        } catch (error) {
          expect(error).toBeInstanceOf(FalcodropError);
          expect((error as FalcodropError).code).toBe('import_invalid');
        }
      },
    ),
  );
});
