import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { cliDocument } from '../../scripts/cli-doc.ts';

test('docs/cli.md says what the verbs say: node scripts/cli-doc.ts', () => {
  expect(readFileSync('docs/cli.md', 'utf8')).toBe(cliDocument());
});
