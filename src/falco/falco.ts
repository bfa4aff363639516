/** The Falco that is installed: its version, and whether it takes what it is given. */
import { accessSync, constants, statSync } from 'node:fs';
import { join } from 'node:path';
import { FalcodropError } from '../errors.ts';
import { lastWords, type Running, runProgram } from './program.ts';
import { type FalcoVersion, parseFalcoVersion, readVersionOutput } from './version.ts';

/** Seconds of real Falcos: one to load its configuration, some with many plugins. */
const versionTimeoutMs = 20_000;
const loadTimeoutMs = 60_000;

type Environment = Pick<Running, 'environment' | 'signal'>;

/** Of PATH and where packages put it; null where there is none. A name that is given must be there (`falco_missing`). */
export function findFalco(given: string | undefined, environment: NodeJS.ProcessEnv): string | null {
  if (given !== undefined) {
    if (isProgram(given)) return given;
    throw new FalcodropError('falco_missing', `there is no program ${given}`, 'name the falco binary, with its path');
  }
  const folders = [...(environment.PATH ?? '').split(':'), '/usr/bin', '/usr/local/bin'];
  const candidates = folders.filter((folder) => folder.startsWith('/')).map((folder) => join(folder, 'falco'));
  return candidates.find(isProgram) ?? null;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** Of `--falco-version`, or asked from the program. Throws `usage`, `falco_missing`, `falco_unfit`. */
export async function findVersion(
  given: string | undefined,
  program: string | null,
  environment: Environment,
): Promise<FalcoVersion> {
  if (given !== undefined) {
    const version = parseFalcoVersion(given);
    if (version !== null) return version;
    throw new FalcodropError('usage', `${JSON.stringify(given.slice(0, 40))} is no version`, 'it is like 0.43.1');
  }
  if (program === null) {
    throw new FalcodropError(
      'falco_missing',
      'no falco was found here to ask for its version',
      'say which: --falco PATH, or --falco-version 0.43.1 (of a Falco in a container: docker exec NAME falco --version)',
    );
  }
  const ended = await runProgram(program, ['--version'], { ...environment, timeoutMs: versionTimeoutMs });
  const version = readVersionOutput(ended.stdout.toString(), ended.stderr.toString());
  if (version !== null) return version;
  throw new FalcodropError(
    'falco_unfit',
    `${program} --version did not tell its version (${lastWords(ended, 4)})`,
    'say it: --falco-version 0.43.1; Falco reads its configuration first, and fails here with that',
  );
}

/** Why Falco refuses these rules files, which it reads in this order, together; null: it takes them. */
export async function refusedRules(
  program: string,
  main: string | null,
  files: readonly string[],
  environment: Environment,
): Promise<string | null> {
  const words = [...configured(main), ...files.flatMap((file) => ['--validate', file])];
  const ended = await runProgram(program, words, { ...environment, timeoutMs: loadTimeoutMs });
  return ended.status === 0 ? null : lastWords(ended);
}

/** Why Falco would not start with what is configured and its rules; null: it would. */
export async function refusedAsAWhole(program: string, main: string, environment: Environment): Promise<string | null> {
  const ended = await runProgram(program, [...configured(main), '--dry-run'], {
    ...environment,
    timeoutMs: loadTimeoutMs,
  });
  return ended.status === 0 ? null : lastWords(ended);
}

function configured(main: string | null): string[] {
  return main === null ? [] : ['-c', main];
}
