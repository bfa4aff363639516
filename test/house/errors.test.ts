/** The catalogue of errors: every code is used, and a test meets it by its name. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { exitStatusOf } from '../../src/errors.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const texts = (folder: string, except: string): string =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && path !== except)
    .map((path) => readFileSync(join(root, folder, path), 'utf8'))
    .join('\n');
const sources = texts('src', 'errors.ts');
const tests = texts('test', 'house/errors.test.ts');

describe('errors', () => {
  test.each(Object.entries(exitStatusOf))('%s is thrown, and seen by a test; exit %i', (code, status) => {
    expect(status).toBeGreaterThanOrEqual(1);
    expect(sources).toContain(`'${code}'`);
    expect(tests).toContain(`'${code}'`);
  });

  test('sentences begin small and end without a full stop', () => {
    const said = [...sources.matchAll(/new FalcodropError\(\s*'\w+',\s*(?:'([^'\n]+)'|`([^`\n]+)`)/g)].map(
      ([, plain, filled]) => plain ?? filled ?? '',
    );
    expect(said.length).toBeGreaterThan(100);
    expect(said.filter((text) => text.endsWith('.') || /^[A-Z][a-z]/.test(text))).toEqual([]);
  });
});
