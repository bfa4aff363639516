/**
 * The checks that need no test: types, Biome (format, lint, the import table), clang-format. `make lint` runs them all,
 * `make test` counts each as one test.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));

export interface Check {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
}

/** C and C++ sources of one folder, at any depth; nothing when the folder is not there. */
function cSources(folder: string): string[] {
  const names = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' });
  return names.filter((name) => /\.(c|h|cc)$/.test(name)).map((name) => join(folder, name));
}

const colors = process.stderr.isTTY ? '--colors=force' : '--colors=off';

export const checks: readonly Check[] = [
  { name: 'types', command: ['node_modules/.bin/tsc', '--noEmit'] },
  {
    name: 'biome',
    command: ['node_modules/.bin/biome', 'ci', colors, '--error-on-warnings', '--max-diagnostics=50', '.'],
  },
  {
    name: 'clang-format',
    command: [
      process.env.CLANG_FORMAT ?? 'clang-format',
      '--dry-run',
      '-Werror',
      ...cSources('bpf'),
      ...cSources('native'),
    ],
  },
];

/** Runs every check; its output is shown only when it fails. Returns the names of those that failed. */
export function runChecks(): string[] {
  const failed: string[] = [];
  for (const { name, command } of checks) {
    process.stdout.write(`  LINT  ${name}\n`);
    const [program, ...args] = command;
    const { status, stdout, stderr, error } = spawnSync(program, args, { cwd: root, encoding: 'utf8' });
    if (status === 0) continue;
    failed.push(name);
    process.stderr.write(`${stdout ?? ''}${stderr ?? ''}${error === undefined ? '' : `${error.message}\n`}`);
  }
  return failed;
}

if (import.meta.main) {
  const failed = runChecks();
  if (failed.length > 0) {
    process.stderr.write(`lint failed: ${failed.join(', ')}\n`);
    process.exitCode = 1;
  }
}
