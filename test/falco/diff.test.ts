import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { unifiedDiff } from '../../src/falco/diff.ts';

const folder = mkdtempSync(join(tmpdir(), 'falcodrop-diff-'));
afterAll(() => rmSync(folder, { recursive: true }));
const names = ['a', 'b'] as const;

test('shows three lines around what changed', () => {
  const before = '1\n2\n3\n4\n5\n6\n7\n8\n9\n';
  expect(unifiedDiff(before, before.replace('5', 'five'), names)).toBe(
    '--- a\n+++ b\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n',
  );
  expect(unifiedDiff(before, before, names)).toBe('');
  expect(unifiedDiff('', 'x\n', ['/dev/null', 'b'])).toBe('--- /dev/null\n+++ b\n@@ -0,0 +1,1 @@\n+x\n');
  expect(unifiedDiff('x', 'x\n', names)).toBe('--- a\n+++ b\n@@ -1,1 +1,1 @@\n-x\n\\ No newline at end of file\n+x\n');
});

test('is what patch(1) makes the one from the other with', () => {
  const text = fc
    .array(fc.constantFrom('a', 'b', 'c', '', '- d', '+e'), { maxLength: 20 })
    .map((lines) => lines.join('\n'));
  fc.assert(
    fc.property(text, text, (before, after) => {
      const file = join(folder, 'file');
      writeFileSync(file, before);
      const diff = unifiedDiff(before, after, ['file', 'file']);
      const { status, stdout } = spawnSync('patch', ['-s', '--posix', '-o', join(folder, 'out'), file], {
        input: diff,
        encoding: 'utf8',
      });
      if (diff === '') expect(before).toBe(after);
      else expect([status, stdout, readFileSync(join(folder, 'out'), 'utf8')]).toEqual([0, '', after]);
    }),
    { numRuns: 60 },
  );
});

test('replaces as a whole what is too large to compare', () => {
  const lines = (word: string) => Array.from({ length: 3_000 }, (_, n) => `${word}${n}\n`).join('');
  const diff = unifiedDiff(lines('a'), lines('b'), names);
  expect(diff.split('\n')).toHaveLength(6_000 + 4);
});
