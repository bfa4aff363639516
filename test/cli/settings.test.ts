import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Call } from '../../src/cli/call.ts';
import { Answer } from '../../src/cli/output/answer.ts';
import { readHandSettings } from '../../src/cli/settings.ts';
import { wallClock } from '../../src/time/clock.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fd-settings-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function call(): Call {
  return {
    verb: 'block',
    operands: [],
    options: { config: join(folder, 'f.yaml') },
    environment: { FALCODROP_STATE_DIR: join(folder, 'state') },
    answer: new Answer(process.stdout, process.stderr, {
      json: false,
      colour: { out: false, error: false },
      debug: false,
    }),
    clock: wallClock,
  };
}

const aliases = async (): Promise<readonly string[]> => (await readHandSettings(call())).hostAliases;

test('checked settings are read anew when the file changes, and when one of conf.d comes, changes or goes', async () => {
  writeFileSync(join(folder, 'f.yaml'), 'host_aliases: [a]');
  expect(await aliases()).toEqual(['a']);
  expect(await aliases()).toEqual(['a']);
  writeFileSync(join(folder, 'f.yaml'), 'host_aliases: [b]');
  expect(await aliases()).toEqual(['b']);
  mkdirSync(join(folder, 'conf.d'));
  writeFileSync(join(folder, 'conf.d/x.yaml'), 'host_aliases: [c]');
  expect(await aliases()).toEqual(['c']);
  writeFileSync(join(folder, 'conf.d/x.yaml'), 'host_aliases: [d]');
  expect(await aliases()).toEqual(['d']);
  rmSync(join(folder, 'conf.d/x.yaml'));
  expect(await aliases()).toEqual(['b']);
});

test('a pipe in conf.d is said, and not waited for', async () => {
  writeFileSync(join(folder, 'f.yaml'), '');
  mkdirSync(join(folder, 'conf.d'));
  spawnSync('mkfifo', [join(folder, 'conf.d/x.yaml')]);
  await expect(aliases()).rejects.toThrowError(/x\.yaml: it is no regular file/);
});
