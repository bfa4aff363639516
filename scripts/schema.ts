/**
 * Writes docs/falcodrop.schema.json and the table of settings in docs/configuration.md from src/config/schema.ts.
 * Usage: node scripts/schema.ts [--check]. With --check nothing is written, and it ends with 1 where a file is stale; a test
 * runs it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { jsonSchema, settingsTable } from '../src/config/publish.ts';

const marks = { begin: '<!-- settings -->', end: '<!-- /settings -->' };

function withTable(text: string): string {
  const [before, rest] = split(text, marks.begin);
  const [, after] = split(rest, marks.end);
  return `${before}${marks.begin}\n\n${settingsTable()}\n\n${marks.end}${after}`;
}

function split(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  if (at < 0) throw new Error(`docs/configuration.md has no ${mark}`);
  return [text.slice(0, at), text.slice(at + mark.length)];
}

const outputs: readonly (readonly [path: string, make: (present: string) => string])[] = [
  ['docs/falcodrop.schema.json', () => `${JSON.stringify(jsonSchema(), null, 2)}\n`],
  ['docs/configuration.md', withTable],
];

const isCheck = process.argv.includes('--check');
for (const [path, make] of outputs) {
  const url = new URL(`../${path}`, import.meta.url);
  let present = '';
  try {
    present = readFileSync(url, 'utf8');
  } catch {
    // made now
  }
  const wanted = make(present);
  if (present === wanted) continue;
  if (isCheck) {
    process.stderr.write(`${path} is stale: node scripts/schema.ts\n`);
    process.exitCode = 1;
  } else {
    writeFileSync(url, wanted);
  }
}
