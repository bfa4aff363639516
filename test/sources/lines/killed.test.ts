/** kill -9 at any moment, rotation at any moment: after the restarts every alert has come, at least once. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { line, numbers } from './log.ts';

const script = join(import.meta.dirname, 'fixtures', 'follow.ts');

let directory = '';
const children: ChildProcess[] = [];
afterEach(async () => {
  for (const child of children.splice(0))
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  rmSync(directory, { recursive: true, force: true });
});

type Change = { readonly do: 'write'; readonly lines: number } | { readonly do: 'rotate' };
type Step =
  | Change
  /** The next so many times that something got durable are waited for. */
  | { readonly do: 'wait'; readonly times: number }
  /** With what happens until it is started again. */
  | { readonly do: 'kill'; readonly until: readonly Change[] };

const writing = fc.record({ do: fc.constant('write' as const), lines: fc.integer({ min: 1, max: 60 }) });
const rotation = fc.constant({ do: 'rotate' as const });

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: writing },
  { weight: 3, arbitrary: rotation },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('wait' as const), times: fc.integer({ min: 1, max: 2 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('kill' as const),
      until: fc.array(fc.oneof(writing, rotation), { maxLength: 6 }),
    }),
  },
);

/** As many as logrotate would keep. */
const rotations = 30;

function rotate(path: string, how: 'rename' | 'copytruncate'): void {
  for (let n = rotations; n >= 1; n--) if (existsSync(`${path}.${n}`)) renameSync(`${path}.${n}`, `${path}.${n + 1}`);
  if (how === 'rename') {
    renameSync(path, `${path}.1`);
    writeFileSync(path, '');
  } else {
    copyFileSync(path, `${path}.1`);
    truncateSync(path);
  }
}

describe.each(['rename', 'copytruncate'] as const)('%s', (how) => {
  test('nothing is lost', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
        directory = mkdtempSync(join(tmpdir(), `fd${process.pid}-killed-`));
        const [path, stateDir, out] = [join(directory, 'a.jsonl'), directory, join(directory, 'out')];
        writeFileSync(path, '');
        writeFileSync(out, '');
        let child: ChildProcess | null = null;
        let durable = 0;
        let wake: () => void = () => undefined;
        const start = (): ChildProcess => {
          const started = spawn(process.execPath, [script, path, stateDir, out], {
            stdio: ['ignore', 'pipe', 'inherit'],
          });
          children.push(started);
          if (started.stdout === null) throw new Error('no pipe');
          createInterface(started.stdout).on('line', () => {
            durable++;
            wake();
          });
          return started;
        };
        const came = (): Set<string> => new Set(readFileSync(out, 'utf8').split('\n'));
        const anotherDurable = async (): Promise<void> => {
          const before = durable;
          while (durable === before) {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          }
        };
        const anotherKept = async (folder: string): Promise<void> => {
          while (!readdirSync(folder).some((name) => /^lines-.*\.json$/.test(name))) {
            write(1);
            await anotherDurable();
          }
        };
        let written = 0;
        const write = (lines: number): void => {
          appendFileSync(
            path,
            numbers(written, written + lines)
              .map((n) => `${line(n)}\n`)
              .join(''),
          );
          written += lines;
        };
        // Who was killed before anything got durable has not been there; what was rotated away before is nobody's.
        child = start();
        write(1);
        await anotherDurable();
        await anotherKept(stateDir);
        const change = (each: Change): void => {
          if (each.do === 'write') write(each.lines);
          else rotate(path, how);
        };
        for (const each of steps) {
          child ??= start();
          if (each.do === 'wait') {
            for (let n = 0; n < each.times; n++) {
              write(1);
              await anotherDurable();
            }
          } else if (each.do === 'kill') {
            child.kill('SIGKILL');
            await once(child, 'close');
            child = null;
            for (const one of each.until) change(one);
          } else {
            change(each);
          }
        }
        child ??= start();
        write(1);
        while (came().size - 1 < written) await anotherDurable();
        child.kill('SIGTERM');
        await once(child, 'close');
        expect(child.exitCode).toBe(0);
        expect(came()).toEqual(new Set(['', ...numbers(0, written)]));
        rmSync(directory, { recursive: true });
      }),
      { numRuns: 6, endOnFailure: true },
    );
  }, 120_000);
});
