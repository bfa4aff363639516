import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { readDocument } from '../../src/config/document.ts';
import { formatPlace } from '../../src/config/problem.ts';

const read = (text: string) => {
  const { settings, problems } = readDocument(text, 'f.yaml');
  return { settings, problems: problems.map(({ place, message }) => `${formatPlace(place)}: ${message}`) };
};

describe('what a few bytes could make large', () => {
  const times = (text: string, count: number): string => text.repeat(count);
  const mebibyte = 1 << 20;
  test.each<[string, string, RegExp]>([
    ['lists in lists', times('[', 100_000), /nested deeper than 16 levels/],
    ['maps in maps', times('{a: ', 100_000), /nested deeper than 16 levels/],
    ['sequences in sequences', times('- ', 100_000), /nested deeper than 16 levels/],
    ['as deep as a parser still goes', `a: ${times('[', 17)}${times(']', 17)}`, /nested deeper than 16 levels/],
    ['an alias of itself', 'a: &a [*a]', /deeper|alias/i],
    ['an alias of what comes later', 'a: *b\nb: &b 1', /no anchor before the alias "\*b"/],
    [
      'aliases that multiply',
      [
        'a: &a [x,x,x,x,x,x,x,x,x]',
        ...Array.from({ length: 9 }, (_, n) => {
          const [from, to] = [97 + n, 98 + n].map((code) => String.fromCharCode(code));
          return `${to}: &${to} [${Array.from({ length: 9 }, () => `*${from}`).join(',')}]`;
        }),
      ].join('\n'),
      /aliases or lists make it larger/,
    ],
    ['a long list', `a: [${times('1,', 400_000)}]`, /aliases or lists make it larger/],
    ['anchors without end', times('&a ', mebibyte / 16), /./],
    ['a quote without end', `"${times('\\x41', mebibyte / 8)}`, /./],
  ])('%s', (_, text, says) => {
    const { settings, problems } = read(text);
    expect(settings).toEqual({});
    expect(problems.length).toBeGreaterThan(0);
    expect(problems.length).toBeLessThanOrEqual(20);
    expect(
      problems.some((problem) => says.test(problem)),
      problems[0],
    ).toBe(true);
  });

  test('100 000 keys are read as fast as they are many, and a duplicate among them is found', () => {
    const text = Array.from({ length: 60_000 }, (_, n) => `k${n}: 1`).join('\n');
    expect(Object.keys(read(text).settings)).toHaveLength(60_000);
    expect(read(`${text}\nk7: 2`).problems).toEqual([
      expect.stringMatching(/^f\.yaml:60001:1: "k7" stands here twice/),
    ]);
  });
});

describe('YAML of every kind', () => {
  test.each<[string, unknown]>([
    ['', {}],
    ['# nothing', {}],
    ['---\na: 1\n', { a: 1 }],
    ['\uFEFFa: 1', { a: 1 }],
    ['a: &x [1, 2]\nb: *x', { a: [1, 2], b: [1, 2] }],
    ['a: 010', { a: 10 }],
    ['a: no', { a: 'no' }],
    ['%YAML 1.1\n---\na: no\nb: 017', { a: 'no', b: 17 }],
    ['a: "5m"\r\nb: |\r\n  x\r\n', { a: '5m', b: 'x\n' }],
  ])('%j', (text, settings) => {
    expect(read(text)).toEqual({ settings, problems: [] });
  });

  test.each<[string, RegExp]>([
    ['a: 1\n---\nb: 2', /^f\.yaml:2:1: .*multiple documents/],
    ['a: !!binary aGk=', /^f\.yaml:1:4: .*tag/i],
    ['a: !secret x', /^f\.yaml:1:4: .*tag/i],
    ['? [a]\n: 1', /string/i],
    ['a: {b: 1, b: 2}', /^f\.yaml:1:11: "b" stands here twice/],
    ['- 1', /^f\.yaml: settings are keys and values/],
    ['"a\\u001b[2J": 1\n"a\\u001b[2J": 2', /^f\.yaml:2:1: "a\\u001b\[2J" stands here twice/],
  ])('%j is refused', (text, says) => {
    const { settings, problems } = read(text);
    expect(settings).toEqual({});
    expect(problems[0]).toMatch(says);
  });

  test('__proto__ is a key like another', () => {
    const { settings } = read('__proto__: { polluted: true }');
    expect(Object.hasOwn(settings, '__proto__')).toBe(true);
    expect(({} as { polluted?: unknown }).polluted).toBe(undefined);
  });
});

describe('properties', () => {
  test('any text is read or refused, and nothing is thrown', () => {
    const bits = fc.constantFrom(
      'a',
      ':',
      ' ',
      '\n',
      '-',
      '[',
      ']',
      '{',
      '}',
      ',',
      '&a',
      '*a',
      '!',
      '|',
      '>',
      '"',
      "'",
      '#',
      '%',
      '\t',
      '\0',
      '?',
      '<<',
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.array(bits, { maxLength: 40 }).map((all) => all.join('')),
        ),
        (text) => {
          const { settings, problems } = read(text);
          expect(problems.length === 0 || Object.keys(settings).length === 0).toBe(true);
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test('what was written is read, and each key is found in its place', () => {
    const key = fc.stringMatching(/^[a-z]{1,8}$/);
    const value = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.array(fc.integer(), { maxLength: 3 }));
    fc.assert(
      fc.property(
        fc.dictionary(key, fc.oneof(value, fc.dictionary(key, value, { maxKeys: 3 })), { maxKeys: 5 }),
        (wished) => {
          const text = stringify(wished);
          const { settings, problems, placeOf } = readDocument(text, 'f');
          expect(problems).toEqual([]);
          expect(settings).toEqual({ ...wished });
          const lines = text.split('\n');
          for (const name of Object.keys(wished)) {
            const place = placeOf([name]);
            const line = place.kind === 'file' ? lines[(place.line ?? 0) - 1] : undefined;
            expect(line?.replaceAll('"', '').startsWith(`${name}:`), `${line}`).toBe(true);
          }
        },
      ),
    );
  });
});
