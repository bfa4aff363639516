import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { root } from '../../scripts/lint.ts';
import { parseMutant, plant, readMutants } from '../../scripts/mutants.ts';

const patch = (...lines: string[]): string =>
  ['It is wrong.', 'Caught by: test/some.test.ts -t "a case"', ...lines, ''].join('\n');

describe('mutants', () => {
  test.each(readMutants().map((mutant) => [mutant.name, mutant] as const))('%s can still be planted', (_, mutant) => {
    for (const edit of mutant.edits) {
      const source = readFileSync(join(root, edit.path), 'utf8');
      expect(plant(source, edit)).not.toBe(source);
    }
    expect(existsSync(join(root, mutant.file))).toBe(true);
    expect(mutant.wrong).toMatch(/^[A-Z].{20,}\.$/);
  });

  test('there are some of the sources and some of the program', () => {
    const paths = readMutants().flatMap(({ edits }) => edits.map(({ path }) => path.split('/')[0]));
    expect(paths.filter((place) => place === 'src').length).toBeGreaterThanOrEqual(6);
    expect(paths.filter((place) => place === 'bpf').length).toBeGreaterThanOrEqual(5);
  });

  test('a hunk belongs where its lines are, wherever that is', () => {
    const mutant = parseMutant(
      'x',
      patch('--- a/src/x.ts', '+++ b/src/x.ts', '@@ -1,3 +1,2 @@', ' one', '-two', '+2', ' three', '@@ @@', '-five'),
    );
    expect(mutant).toMatchObject({ wrong: 'It is wrong.', file: 'test/some.test.ts', pattern: 'a case' });
    const [first, second] = mutant.edits;
    if (first === undefined || second === undefined) throw new Error('two hunks');
    const source = 'zero\none\ntwo\nthree\nfour\nfive\n';
    expect(plant(plant(source, first), second)).toBe('zero\none\n2\nthree\nfour\n');
    expect(() => plant('one\n2\nthree\n', first)).toThrow('src/x.ts does not hold');
    expect(() => plant(`${source}${source}`, first)).toThrow('more than once');
  });

  test.each([
    ['without a test', 'It is wrong.\n\n@@\n-x\n', /no line "Caught by/],
    ['without a change', patch('--- a/x', '+++ b/x'), /changes nothing/],
  ])('%s it is refused', (_, text, message) => {
    expect(() => parseMutant('x', text)).toThrow(message);
  });
});
