import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Member } from '../../../src/sources/kafka/member.ts';

let directory = '';
let path = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fd-member-'));
  path = join(directory, 'kafka-fleet.member');
});
afterEach(() => rmSync(directory, { recursive: true }));

const about = { topic: 'falco', group: 'edge' };
const member = (of = about): Member => new Member(directory, 'kafka:fleet', of);

test('who comes back is the member that it was', async () => {
  expect(await member().read()).toBeNull();
  await member().keep('falcodrop-1234');
  expect(await member().read()).toBe('falcodrop-1234');
  expect((statSync(path).mode & 0o777).toString(8)).toBe('640');
  const first = member();
  await first.read();
  const { mtimeMs, ino } = statSync(path);
  await first.keep('falcodrop-1234');
  expect(statSync(path)).toMatchObject({ mtimeMs, ino });
  await first.keep('falcodrop-5678');
  expect(await member().read()).toBe('falcodrop-5678');
});

test.each([
  ['another group', (text: string) => text.replace('edge', 'other')],
  ['another topic', (text: string) => text.replace('falco"', 'other"')],
  ['another boot, or a copy on another host', (text: string) => text.replace(/"[^"]*"\]/, '"b1946ac9"]')],
  ['no id', (text: string) => text.split('\n')[0] ?? ''],
  ['control characters', (text: string) => text.replace('falcodrop-1234', 'falcodrop\u001b[2J')],
  ['more than one line', (text: string) => `${text}more\n`],
  ['nothing', () => ''],
  ['far too much', (text: string) => text + ' '.repeat(5_000)],
])('not from a file with %s', async (_, alter) => {
  await member().keep('falcodrop-1234');
  writeFileSync(path, alter(readFileSync(path, 'utf8')));
  expect(await member().read()).toBeNull();
});

test('what cannot be read or written is no reason to fail where none is needed', async () => {
  mkdirSync(path);
  expect(await member().read()).toBeNull();
  await expect(member().keep('falcodrop-1234')).rejects.toThrow();
});
