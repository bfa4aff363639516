/** kill -9 at any moment, of ours and of journalctl: every alert comes at least once, and no journalctl is left behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { alert, append } from './journals.ts';

const script = join(import.meta.dirname, 'fixtures', 'read.ts');

let root = '';
const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0))
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  rmSync(root, { recursive: true, force: true });
});

/** Those that read this directory; a zombie has no arguments any more. */
function journalctls(directory: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/cmdline`, 'utf8').startsWith(`journalctl\0--directory=${directory}\0`);
      } catch {
        return false;
      }
    })
    .map(Number);
}

interface Place {
  readonly directory: string;
  readonly stateDir: string;
  readonly out: string;
}

function openPlace(): Place {
  root = mkdtempSync(join(tmpdir(), `fd${process.pid}-killed-`));
  const place = { directory: join(root, 'journal'), stateDir: join(root, 'state'), out: join(root, 'out') };
  mkdirSync(place.directory);
  mkdirSync(place.stateDir);
  writeFileSync(place.out, '');
  return place;
}

function start({ directory, stateDir, out }: Place): ChildProcess {
  const child = spawn(process.execPath, [script, directory, stateDir, out], { stdio: ['ignore', 'ignore', 'inherit'] });
  children.push(child);
  return child;
}

const came = ({ out }: Place): Set<string> => new Set(readFileSync(out, 'utf8').split('\n').slice(0, -1));

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('write' as const), entries: fc.integer({ min: 1, max: 40 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('rotate', 'wait', 'kill', 'kill journalctl') }) },
);

test('nothing is lost', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 6, maxLength: 14 }), async (steps) => {
      const place = openPlace();
      let written = 0;
      const write = (entries: number): void => {
        append(
          place.directory,
          Array.from({ length: entries }, () => alert(`${written++}`)),
        );
      };
      const all = (): Set<string> => new Set(Array.from({ length: written }, (_, n) => `${n}`));
      const allCame = () => expect.poll(() => came(place), { timeout: 20_000, interval: 10 }).toEqual(all());
      write(1);
      let child = start(place);
      for (const each of steps) {
        if ('entries' in each) write(each.entries);
        else if (each.do === 'wait') await allCame();
        else if (each.do === 'kill') {
          // After it has kept something, else it is killed before it has begun.
          await expect.poll(() => existsSync(join(place.stateDir, 'journal.json')), { interval: 5 }).toBe(true);
          child.kill('SIGKILL');
          await once(child, 'close');
          child = start(place);
        } else if (each.do === 'kill journalctl') {
          for (const pid of journalctls(place.directory)) process.kill(pid, 'SIGKILL');
        } else {
          renameSync(join(place.directory, 'system.journal'), join(place.directory, `system@${written}.journal`));
          write(1);
        }
      }
      write(1);
      await allCame();
      child.kill('SIGTERM');
      await once(child, 'close');
      expect(child.exitCode).toBe(0);
      expect(journalctls(place.directory)).toEqual([]);
      rmSync(root, { recursive: true });
    }),
    { numRuns: 4, endOnFailure: true },
  );
}, 120_000);

test('killed with -9, it leaves no journalctl behind: that ends with its pipe', async () => {
  const place = openPlace();
  append(place.directory, [alert('a')]);
  const child = start(place);
  await expect.poll(() => came(place), { timeout: 20_000 }).toEqual(new Set(['a']));
  await expect.poll(() => journalctls(place.directory), { timeout: 20_000 }).toHaveLength(1);
  child.kill('SIGKILL');
  await once(child, 'close');
  await expect.poll(() => journalctls(place.directory), { timeout: 20_000 }).toEqual([]);
});
