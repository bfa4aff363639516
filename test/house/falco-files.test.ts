import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { falcoFilesModule } from '../../scripts/falco-files.ts';

test('src/falco/files.generated.ts holds what lies in falco/: node scripts/falco-files.ts', () => {
  expect(readFileSync('src/falco/files.generated.ts', 'utf8')).toBe(falcoFilesModule());
});
