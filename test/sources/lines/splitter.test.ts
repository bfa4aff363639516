import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LineSplitter } from '../../../src/sources/lines/splitter.ts';
import { inUse } from '../in-use.ts';

const longest = 40;

/** The pieces one after the other, each in a buffer that is used again for the next. */
function split(pieces: readonly Buffer[], limit = longest): (string | null)[] {
  const splitter = new LineSplitter({ longest: limit });
  const lines: (string | null)[] = [];
  for (const piece of pieces) {
    const buffer = Buffer.from(piece);
    lines.push(...splitter.split(buffer));
    buffer.fill(0x58);
  }
  const last = splitter.end();
  if (last !== '') lines.push(last);
  return lines;
}

/** What lines are, said once more and otherwise: of all bytes at once. */
function linesOf(bytes: Buffer, limit = longest): (string | null)[] {
  const lines: Buffer[] = [];
  let start = 0;
  for (let at = 0; at <= bytes.length; at++) {
    if (at < bytes.length && bytes[at] !== 0x0a && bytes[at] !== 0) continue;
    lines.push(bytes.subarray(start, at));
    start = at + 1;
  }
  const first = lines.findIndex(({ length }) => length > 0);
  return lines
    .map((line, n) => {
      const end = line.at(-1) === 0x0d ? line.length - 1 : line.length;
      if (end > limit) return null;
      const text = line.toString('utf8', 0, end);
      return n === first ? text.replace(/^\ufeff/, '') : text;
    })
    .filter((line) => line === null || line.trim() !== '');
}

describe('lines', () => {
  test.each<[string, string | Buffer, (string | null)[]]>([
    ['nothing', '', []],
    ['one', '{"a":1}\n', ['{"a":1}']],
    ['without an end', 'a\nb', ['a', 'b']],
    ['CR LF', 'a\r\nb\r\n', ['a', 'b']],
    ['a CR alone is no end', 'a\rb\n', ['a\rb']],
    ['white space alone is no line', '\n\n  \n\t\r\n\r\na\n', ['a']],
    ['a hole before', '\0\0\0\0a\n', ['a']],
    ['a hole within: two lines', 'half\0\0\0whole\n', ['half', 'whole']],
    ['a hole and a line end', 'a\0\n\0\nb\n\0', ['a', 'b']],
    ['a byte order mark at the beginning', '\ufeffa\nb\n', ['a', 'b']],
    ['and later', 'a\n\ufeffb\n', ['a', '\ufeffb']],
    ['as long as may be', `${'x'.repeat(longest)}\r\n`, ['x'.repeat(longest)]],
    ['one too long', `a\n${'x'.repeat(longest + 1)}\nb\n`, ['a', null, 'b']],
    ['much too long, without an end', 'x'.repeat(10_000), [null]],
    ['no UTF-8', Buffer.from([0x61, 0xff, 0xc3, 0x0a, 0x62, 0x0a]), ['a\ufffd\ufffd', 'b']],
  ])('%s', (_name, input, expected) => {
    const bytes = Buffer.from(input);
    expect(split([bytes])).toEqual(expected);
    expect(split(Array.from(bytes, (byte) => Buffer.from([byte])))).toEqual(expected);
    expect(linesOf(bytes)).toEqual(expected);
  });

  const bytes = fc
    .array(
      fc.oneof(
        { weight: 4, arbitrary: fc.constantFrom('\n', '\r\n', '\r', '\0', '\0\0\0', ' ', '\ufeff', 'é', '€', '😀') },
        { weight: 3, arbitrary: fc.string({ maxLength: 12 }) },
        { weight: 1, arbitrary: fc.integer({ min: longest - 3, max: longest * 3 }).map((n) => 'y'.repeat(n)) },
        { weight: 1, arbitrary: fc.uint8Array({ maxLength: 6 }) },
      ),
      { maxLength: 40 },
    )
    .map((parts) => Buffer.concat(parts.map((part) => Buffer.from(part as string))));

  test('any cutting gives the same lines', () => {
    fc.assert(
      fc.property(bytes, fc.array(fc.nat()), (all, cuts) => {
        const at = [...new Set(cuts.map((cut) => cut % (all.length + 1)))].sort((a, b) => a - b);
        const pieces = [0, ...at].map((start, n) => all.subarray(start, at[n] ?? all.length));
        expect(split(pieces)).toEqual(linesOf(all));
      }),
      { numRuns: 2_000 },
    );
  });

  test('what is pending is what came since the last end', () => {
    fc.assert(
      fc.property(bytes, (all) => {
        const splitter = new LineSplitter({ longest });
        for (const _ of splitter.split(all)) {
          // to the end
        }
        expect(splitter.pending).toBe(all.length - 1 - Math.max(all.lastIndexOf(0x0a), all.lastIndexOf(0)));
      }),
    );
  });

  test('a line that comes byte by byte takes no more memory than a line', () => {
    const splitter = new LineSplitter({ longest: 1 << 20 });
    const piece = Buffer.from('x');
    const before = inUse();
    for (let n = 0; n < 1 << 20; n++) splitter.split(piece).next();
    expect(splitter.pending).toBe(1 << 20);
    expect(inUse() - before).toBeLessThan(8 << 20);
    expect([...splitter.split(Buffer.from('\n'))]).toEqual(['x'.repeat(1 << 20)]);
  });

  test('an over-long line is not kept in memory', () => {
    const splitter = new LineSplitter({ longest: 1_000 });
    const piece = Buffer.alloc(1 << 20, 0x78);
    const before = process.memoryUsage().arrayBuffers;
    for (let n = 0; n < 200; n++) expect([...splitter.split(piece)]).toEqual([]);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 << 20);
    expect([...splitter.split(Buffer.from('\nnext\n'))]).toEqual([null, 'next']);
  });
});
