/**
 * `make mutants`: plants the bugs of test/mutants in copies of the tree, one at a time, and expects the tests that each one names
 * to fail. A test that no bug can make fail shows nothing. Prints `N of N caught`, and ends with 0 when that is all of them.
 *
 * Arguments choose: mutants whose file name contains one of them. An hour is not needed, but some minutes are: each is built, and
 * its tests run with real programs and namespaces, as root.
 */
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './lint.ts';

/** Some lines of one file, and what they become. */
interface Edit {
  readonly path: string;
  readonly from: string;
  readonly to: string;
}

export interface Mutant {
  /** The patch's file name without its extension. */
  readonly name: string;
  /** What is wrong then, in a sentence. */
  readonly wrong: string;
  /** The test file that fails, and a regular expression for the names of the tests that are enough to run. */
  readonly file: string;
  readonly pattern: string;
  readonly edits: readonly Edit[];
}

const folder = join(root, 'test/mutants');

export function readMutants(): Mutant[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.patch'))
    .toSorted()
    .map((name) => parseMutant(name.slice(0, -'.patch'.length), readFileSync(join(folder, name), 'utf8')));
}

/**
 * A unified diff below two lines of words: what is wrong, and `Caught by: FILE -t "PATTERN"`. Line numbers are not looked at: the
 * context of a hunk says where it belongs, so that the patch outlives edits elsewhere in the file. Throws when it is none.
 */
export function parseMutant(name: string, patch: string): Mutant {
  const [wrong = '', caught = '', ...lines] = patch.trimEnd().split('\n');
  const [, file, pattern] = /^Caught by: (\S+) -t "(.+)"$/.exec(caught) ?? [];
  if (file === undefined || pattern === undefined) throw new Error(`${name}: no line "Caught by: FILE -t "PATTERN""`);
  const edits: { path: string; from: string[]; to: string[] }[] = [];
  let path = '';
  for (const line of lines) {
    if (line.startsWith('+++ b/')) path = line.slice('+++ b/'.length);
    else if (line.startsWith('@@')) edits.push({ path, from: [], to: [] });
    else if (edits.length === 0 || line.startsWith('--- a/')) continue;
    else {
      const edit = edits.at(-1);
      if (!line.startsWith('+')) edit?.from.push(line.slice(1));
      if (!line.startsWith('-')) edit?.to.push(line.slice(1));
    }
  }
  if (edits.length === 0) throw new Error(`${name}: it changes nothing`);
  const text = (some: readonly string[]): string => some.map((line) => `${line}\n`).join('');
  return {
    ...{ name, wrong, file, pattern },
    edits: edits.map((edit) => ({ path: edit.path, from: text(edit.from), to: text(edit.to) })),
  };
}

/** The file with the bug in it; throws unless there is exactly one place for it. */
export function plant(source: string, { path, from, to }: Edit): string {
  const [before = '', after, ...more] = source.split(from);
  if (after === undefined) throw new Error(`${path} does not hold these lines any more:\n${from}`);
  if (more.length > 0) throw new Error(`${path} holds these lines more than once:\n${from}`);
  return `${before}${to}${after}`;
}

/** Of ours, as they are: nothing below writes there. */
const linked = ['node_modules', '.node', 'build'];

/** A tree of its own under the temporary directory, with what `make build` has made. */
function copyTree(): string {
  const tree = mkdtempSync(join(tmpdir(), 'falcodrop-mutants-'));
  for (const name of readdirSync(root)) {
    if (linked.includes(name)) symlinkSync(join(root, name), join(tree, name));
    else if (name !== '.git') cpSync(join(root, name), join(tree, name), { recursive: true });
  }
  return tree;
}

const multiarch = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as string] ?? process.arch;
const clang = ['-O2', '-g', '-target', 'bpf', '-mcpu=v2', '-Wall', '-Werror', `-I/usr/include/${multiarch}-linux-gnu`];

/** Not by make, which brings what it takes for old: it would do that in the folders that are linked. */
function build(tree: string): void {
  for (const [program, ...args] of [
    [process.execPath, 'scripts/bundle.mjs'],
    ['clang', ...clang, '-c', 'bpf/falcodrop.bpf.c', '-o', 'dist/falcodrop.bpf.o'],
  ] as const) {
    const { status, stdout, stderr } = spawnSync(program, args, { cwd: tree, encoding: 'utf8' });
    if (status !== 0) throw new Error(`it does not build:\n${stdout}${stderr}`);
  }
}

interface Ran {
  readonly passed: number;
  readonly failed: number;
  readonly output: string;
}

/** Builds the tree and runs those tests there. Throws when that can not be done. */
function runTests(tree: string, { file, pattern }: Pick<Mutant, 'file' | 'pattern'>): Ran {
  build(tree);
  const report = join(tree, 'report.json');
  rmSync(report, { force: true });
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['node_modules/vitest/vitest.mjs', 'run', '--reporter=json', `--outputFile=${report}`, '-t', pattern, file],
    { cwd: tree, encoding: 'utf8', maxBuffer: 1 << 28 },
  );
  if (!existsSync(report)) throw new Error(`its tests did not run:\n${stdout}${stderr}`);
  const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, 'utf8')) as {
    readonly numPassedTests: number;
    readonly numFailedTests: number;
  };
  return { passed: numPassedTests, failed: numFailedTests, output: stderr };
}

/** Plants, and puts back what was there; the tree stays as it is found. */
function withMutant<T>(tree: string, { edits }: Mutant, work: () => T): T {
  const before = new Map(edits.map(({ path }) => [path, readFileSync(join(tree, path), 'utf8')] as const));
  try {
    for (const edit of edits) {
      const path = join(tree, edit.path);
      writeFileSync(path, plant(readFileSync(path, 'utf8'), edit));
    }
    return work();
  } finally {
    for (const [path, text] of before) writeFileSync(join(tree, path), text);
  }
}

/** Why it is not caught; null when it is. */
function missed(tree: string, mutant: Mutant): string | null {
  try {
    // A failure must be the bug's: without it they pass.
    const sound = runTests(tree, mutant);
    if (sound.passed === 0 || sound.failed > 0) {
      return `its tests do not pass without it (${sound.passed} passed, ${sound.failed} failed)\n${sound.output}`;
    }
    const sick = withMutant(tree, mutant, () => runTests(tree, mutant));
    return sick.failed > 0 ? null : `${sick.passed} tests pass with it`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function main(chosen: readonly string[]): void {
  const mutants = readMutants().filter(({ name }) => chosen.length === 0 || chosen.some((part) => name.includes(part)));
  const tree = copyTree();
  process.once('exit', () => rmSync(tree, { recursive: true, force: true }));
  let caught = 0;
  for (const mutant of mutants) {
    const begun = performance.now();
    const why = missed(tree, mutant);
    if (why === null) caught++;
    const seconds = ((performance.now() - begun) / 1000).toFixed(0);
    process.stdout.write(
      `${why === null ? 'caught' : 'MISSED'}  ${mutant.name}: ${mutant.wrong} (${mutant.file}, ${seconds} s)\n`,
    );
    if (why !== null) process.stdout.write(`        ${why.trim().replaceAll('\n', '\n        ')}\n`);
  }
  process.stdout.write(`${caught} of ${mutants.length} caught\n`);
  process.exitCode = mutants.length > 0 && caught === mutants.length ? 0 : 1;
}

if (import.meta.main) main(process.argv.slice(2));
