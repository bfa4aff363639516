import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { longestAlert } from '../../src/alert/alert.ts';
import { type Line, linesOf } from '../../src/cli/lines.ts';

async function read(chunks: readonly (Buffer | string)[]): Promise<(string | null)[]> {
  async function* input() {
    yield* chunks;
  }
  const lines: Line[] = [];
  for await (const line of linesOf(input())) lines.push(line);
  expect(lines.map(({ n }) => n)).toEqual(lines.map((_, index) => index));
  return lines.map(({ text }) => text);
}

describe('lines', () => {
  test.each([
    ['', []],
    ['a', ['a']],
    ['a\n', ['a']],
    ['a\nb', ['a', 'b']],
    ['a\r\nb\r\n', ['a', 'b']],
    ['\n\na\n', ['', '', 'a']],
    ['\ufeffa\nb\ufeff', ['a', 'b\ufeff']],
    ['a\0b\n', ['a\0b']],
    ['a\rb\n', ['a\rb']],
  ])('%j', async (text, expected) => {
    expect(await read([text])).toEqual(expected);
  });

  test('bytes that are no UTF-8', async () => {
    expect(await read([Buffer.from([0xff, 0xfe, 0x0a, 0x41])])).toEqual(['��', 'A']);
  });

  test('one too long is null, those around it are not', async () => {
    const long = Buffer.alloc(4 * longestAlert + 1, 0x61);
    expect(await read(['before\n', long, Buffer.from('still\nafter\n')])).toEqual(['before', null, 'after']);
  });

  test('do not depend on how the bytes come in', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: 'grapheme', maxLength: 12 }).map((text) => text.replaceAll('\n', ''))),
        fc.integer({ min: 1, max: 7 }),
        async (lines, size) => {
          const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
          const chunks: Buffer[] = [];
          for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
          expect(await read(chunks)).toEqual(await read([bytes]));
          expect(await read(chunks)).toHaveLength(lines.length);
        },
      ),
    );
  });
});
