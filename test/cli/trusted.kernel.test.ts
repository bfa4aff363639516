/** Root's own files: root's alone, so it is root that tests them. */
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { readTrusted, writeTrusted } from '../../src/cli/trusted.ts';

const calls: string[] = [];

/** What reaches the disk, in order; of a descriptor, what it was opened for. */
vi.mock('node:fs', async (load) => {
  const real = await load<typeof fs>();
  const opened = new Map<number, string>();
  const nameOf = (path: string) => path.replace(/^.*\//, '').replace(/\.\d+$/, '.new');
  return {
    ...real,
    openSync: (path: string, flags: number, mode?: number) => {
      const descriptor = real.openSync(path, flags, mode);
      opened.set(descriptor, (flags & real.constants.O_DIRECTORY) === 0 ? nameOf(path) : 'folder');
      return descriptor;
    },
    writeSync: (descriptor: number, text: string) => {
      calls.push(`write ${opened.get(descriptor)}`);
      return real.writeSync(descriptor, text);
    },
    fsyncSync: (descriptor: number) => {
      calls.push(`sync ${opened.get(descriptor)}`);
      real.fsyncSync(descriptor);
    },
    renameSync: (from: string, to: string) => {
      calls.push(`rename ${nameOf(from)} to ${nameOf(to)}`);
      real.renameSync(from, to);
    },
  };
});

let stateDir = '';
beforeEach(() => {
  stateDir = fs.mkdtempSync(join(tmpdir(), `fd${process.pid}-`));
  calls.length = 0;
});
afterEach(() => fs.rmSync(stateDir, { recursive: true, force: true }));

test('contents are on the disk before the name, and the name before anybody is told', () => {
  writeTrusted(stateDir, 'forced.json', '[1]');
  expect(calls).toEqual([
    'write forced.json.new',
    'sync forced.json.new',
    'rename forced.json.new to forced.json',
    'sync folder',
  ]);
  expect(readTrusted(stateDir, 'forced.json')?.toString()).toBe('[1]');
  expect(fs.readdirSync(join(stateDir, 'root'))).toEqual(['forced.json']);
});

test('what can not be put in its place leaves what was there, and nothing beside it', () => {
  writeTrusted(stateDir, 'forced.json', '[1]');
  fs.mkdirSync(join(stateDir, 'root/guard.json'));
  expect(() => writeTrusted(stateDir, 'guard.json', '{}')).toThrow('EISDIR');
  expect(fs.readdirSync(join(stateDir, 'root')).toSorted()).toEqual(['forced.json', 'guard.json']);
  expect(readTrusted(stateDir, 'forced.json')?.toString()).toBe('[1]');
});
