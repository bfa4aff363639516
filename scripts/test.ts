/**
 * `make test`: the checks of scripts/lint.ts, then all tests; the last line is `N passed, N failed`.
 *
 * What counts as failed: a test that did not pass and was not skipped with a reason; a file that did not load; a run that
 * ended with an error nothing else explains (a worker that died of SIGSEGV leaves a report full of successes). Where the
 * kernel tests can run, a skipped one is a failure too, unless its reason begins with "this kernel" or "optional: ".
 *
 * Arguments are filters for vitest (paths); with one, the checks are left out.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { checks, root, runChecks } from './lint.ts';
import type { TalliedTest, Tally } from './tally.ts';

/** Bits of /proc/self/status CapEff, uapi/linux/capability.h. */
const CAP_NET_ADMIN = 12n;
const CAP_SYS_ADMIN = 21n;

/** Null when tests may load programs and make namespaces here, else what is missing. */
export function kernelTestsMissing(): string | null {
  if (process.geteuid?.() !== 0) return 'they need root';
  const capabilities = BigInt(
    `0x${/^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`,
  );
  for (const [name, bit] of Object.entries({ CAP_NET_ADMIN, CAP_SYS_ADMIN })) {
    if ((capabilities & (1n << bit)) === 0n) return `they need ${name}`;
  }
  if (spawnSync('unshare', ['--net', '--mount', 'true']).status !== 0) return 'namespaces cannot be made here';
  if (!readFileSync('/proc/filesystems', 'utf8').includes('\tbpf\n')) return 'this kernel has no bpffs';
  return null;
}

/** Whether a test's outcome is a skip that everybody may see and accept. */
export function isAcceptedSkip(test: TalliedTest): boolean {
  if (test.state !== 'skipped' || test.reason === null || test.reason === '') return false;
  return test.project === 'unit' || /^(this kernel|optional: )/.test(test.reason);
}

export interface Count {
  readonly passed: number;
  readonly failed: number;
}

/**
 * @param tally what vitest reported; null when it died before reporting
 * @param status vitest's exit status; null when a signal ended it
 */
export function count(tally: Tally | null, status: number | null): Count {
  if (tally === null) return { passed: 0, failed: 1 };
  const passed = tally.tests.filter((test) => test.state === 'passed').length;
  const accepted = tally.tests.filter(isAcceptedSkip).length;
  const unexplained = tally.strayErrors > 0 || status !== 0 ? Math.max(1, tally.strayErrors) : 0;
  const failed = tally.tests.length - passed - accepted + tally.brokenFiles.length;
  return { passed, failed: failed === 0 ? unexplained : failed };
}

/** Network namespaces of tests (`fd<pid>…`) whose process is gone: a test did not clean up. */
function leftovers(before: ReadonlySet<string>): string[] {
  return namespaces().filter((name) => {
    const pid = /^fd(\d+)/.exec(name)?.[1];
    return pid !== undefined && !before.has(name) && !existsSync(`/proc/${pid}`);
  });
}

function namespaces(): string[] {
  return existsSync('/run/netns') ? readdirSync('/run/netns') : [];
}

/** The environment without the developer's own FALCODROP_ settings, but the Node to start: a test sets those it means. */
function withoutSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(env).filter(([name]) => name === 'FALCODROP_NODE' || !name.startsWith('FALCODROP_')),
  );
}

/** Whether other users can reach the tree: tests become the service's user, and run from it. */
function isReachable(): boolean {
  for (let path = root; ; path = dirname(path)) {
    if ((statSync(path).mode & 0o001) === 0) return false;
    if (path === dirname(path)) return true;
  }
}

/**
 * In /root and the like (mode 0700) the same tree is run from a place that others can enter: a bind mount that only these
 * processes see, gone with them. Null: there is no need.
 */
function runElsewhere(filters: readonly string[]): number | null {
  if (process.geteuid?.() !== 0 || kernelTestsMissing() !== null || isReachable()) return null;
  const place = mkdtempSync(join(tmpdir(), 'falcodrop-tree-'));
  chmodSync(place, 0o755);
  const moved = (text: string): string => text.replaceAll(root.replace(/\/$/, ''), place);
  const env = Object.fromEntries(Object.entries(process.env).map(([name, value]) => [name, moved(value ?? '')]));
  try {
    const script = 'mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@"';
    const argv = [moved(process.execPath), 'scripts/test.ts', ...filters];
    const { status } = spawnSync(
      'unshare',
      ['--mount', '--propagation', 'slave', 'sh', '-c', script, 'sh', root, place, ...argv],
      { stdio: 'inherit', env },
    );
    return status ?? 1;
  } finally {
    rmdirSync(place);
  }
}

function main(filters: readonly string[]): void {
  const status = runElsewhere(filters);
  if (status === null) runHere(filters);
  else process.exitCode = status;
}

function runHere(filters: readonly string[]): void {
  const whole = filters.length === 0;
  const failedChecks = whole ? runChecks() : [];

  const missing = kernelTestsMissing();
  const projects = missing === null ? [] : ['--project=unit'];
  const path = join(root, '.make/log/tally.json');
  mkdirSync(join(root, '.make/log'), { recursive: true });
  rmSync(path, { force: true });

  const before = new Set(namespaces());
  const { status } = spawnSync(
    process.execPath,
    [
      'node_modules/vitest/vitest.mjs',
      'run',
      '--reporter=default',
      '--reporter=./scripts/tally.ts',
      ...projects,
      ...filters,
    ],
    { cwd: root, stdio: 'inherit', env: { ...withoutSettings(process.env), TALLY_FILE: path } },
  );

  const tally = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Tally) : null;
  const tests = count(tally, status);
  const left = leftovers(before);
  let failed = tests.failed + failedChecks.length + left.length;
  const passed = tests.passed + (whole ? checks.length - failedChecks.length : 0);

  const lines: string[] = [];
  for (const test of tally?.tests ?? []) {
    if (test.state !== 'skipped') continue;
    lines.push(`skipped: ${test.file}: ${test.name}: ${test.reason ?? 'no reason given (counts as failed)'}`);
  }
  if (missing !== null) lines.push(`kernel, addon and end-to-end tests were not run: ${missing}`);
  else if (whole && !tally?.tests.some((test) => test.project === 'kernel')) {
    lines.push('no kernel test ran, and this machine could run them');
    failed += 1;
  }
  for (const file of tally?.brokenFiles ?? []) lines.push(`failed as a file: ${file}`);
  for (const name of failedChecks) lines.push(`failed check: ${name}`);
  for (const name of left) lines.push(`left behind by a test: network namespace ${name}`);
  if (tally === null) lines.push('vitest ended without a report');
  process.stdout.write(`${[...lines, `${passed} passed, ${failed} failed`].join('\n')}\n`);
  process.exitCode = failed === 0 ? 0 : 1;
}

if (import.meta.main) main(process.argv.slice(2));
