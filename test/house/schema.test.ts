import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

test('docs/falcodrop.schema.json and docs/configuration.md say what the schema says: node scripts/schema.ts', () => {
  const { status, stderr } = spawnSync(process.execPath, ['scripts/schema.ts', '--check'], { encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});

test('the schema is JSON Schema that editors read, without words of ours', () => {
  const text = readFileSync('docs/falcodrop.schema.json', 'utf8');
  const schema = JSON.parse(text) as { $schema: string; additionalProperties: boolean; properties: object };
  expect(schema.$schema).toBe('http://json-schema.org/draft-07/schema#');
  expect(schema.additionalProperties).toBe(false);
  expect(Object.keys(schema.properties)).toContain('http');
  expect(text).not.toContain('"x-');
});
