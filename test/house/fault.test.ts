import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { faults } from '../../src/fault.ts';
import { families } from '../e2e/families.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Every name in a call, however often. */
function called(): string[] {
  const paths = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter(
    (path) => path.endsWith('.ts') && path !== 'fault.ts',
  );
  return paths.flatMap((path) =>
    [...readFileSync(join(root, 'src', path), 'utf8').matchAll(/\bfault\(([^)]*)\)/g)].map(([, name = '']) => name),
  );
}

describe('fault points', () => {
  test('the table names what the sources call, each once, and nothing else', () => {
    const names = called().map((name) => /^'([\w.]+)'$/.exec(name)?.[1] ?? name);
    expect(names.toSorted()).toEqual(Object.keys(faults).toSorted());
  });

  test('each says something else', () => {
    const sayings: string[] = Object.values(faults);
    expect(new Set(sayings).size).toBe(sayings.length);
    for (const saying of sayings) expect(saying.length).toBeGreaterThan(15);
  });

  test('each belongs to one file that kills there', () => {
    const words = Object.keys(faults).map((name) => name.split('.')[0]);
    expect(Object.values(families).flat().toSorted()).toEqual([...new Set(words)].toSorted());
    for (const file of Object.keys(families)) {
      expect(readFileSync(join(root, 'test/e2e', file), 'utf8')).toContain(`missing(families['${file}'])`);
    }
  });

  test.each([
    ['block.mapped', 'SIGKILL', ''],
    ['block.mapped@1', 'SIGKILL', ''],
    ['block.mapped@2', null, 'after'],
    ['block.begun', null, 'after'],
    ['', null, 'after'],
  ])('FAULT=%s at block.mapped: signal %s', (name, signal, stdout) => {
    const script = `import { fault } from '${root}src/fault.ts'; process.on('exit', () => console.log('exit')); fault('block.mapped'); console.log('after'); process.reallyExit(0);`;
    const ended = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      env: { ...process.env, FAULT: name },
      encoding: 'utf8',
    });
    expect({ signal: ended.signal, stdout: ended.stdout.trim() }).toEqual({ signal, stdout });
  });
});
