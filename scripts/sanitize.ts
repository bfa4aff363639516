/**
 * `make sanitize`: the addon's own tests with AddressSanitizer and UBSan compiled in, then some of them under valgrind. Both in a
 * copy of the tree under .make/sanitize, so that the addon in use stays as it is.
 *
 * Of valgrind's findings those count whose innermost frame outside the C library is the addon's: V8's compiler reads what it has
 * not initialised, and libbpf hands bpf(2) less of the union than valgrind knows.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { root } from './lint.ts';

const place = join(root, '.make/sanitize');
const tree = join(place, 'tree');
const bin = join(place, 'bin');
const logs = join(place, 'valgrind');

/** Programs that tests start beside Node: not ours, and ASan's runtime is not for them. */
const tools = ['ip', 'tc', 'bpftool', 'clang', 'ethtool', 'ping', 'tcpdump', 'sh', 'setpriv', 'mount', 'umount'];

function copyTree(): void {
  rmSync(place, { recursive: true, force: true });
  mkdirSync(tree, { recursive: true });
  for (const name of [
    'src',
    'native',
    'bpf',
    'test',
    'scripts',
    'dist',
    'package.json',
    'binding.gyp',
    'tsconfig.json',
    'vitest.config.ts',
  ]) {
    cpSync(join(root, name), join(tree, name), { recursive: true, filter: (path) => !path.endsWith('.node') });
  }
  for (const name of ['node_modules', '.node']) symlinkSync(join(root, name), join(tree, name));
}

function buildAddon(): void {
  const gyp = ['node_modules/node-gyp/bin/node-gyp.js', 'rebuild', '--release', '--jobs=max'];
  const options = [
    `--nodedir=${process.env.npm_package_config_node_gyp_nodedir ?? ''}`,
    '--',
    '-Dfalcodrop_sanitize=address,undefined',
  ];
  const { status, stdout, stderr } = spawnSync(process.execPath, [...gyp, ...options], { cwd: tree, encoding: 'utf8' });
  if (status !== 0) throw new Error(`the addon did not build:\n${stdout}${stderr}`);
}

/** Wrappers without LD_PRELOAD for what is not Node. */
function wrapTools(): void {
  mkdirSync(bin, { recursive: true });
  for (const tool of tools) {
    const found = spawnSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).stdout.trim();
    if (!found.startsWith('/')) continue;
    writeFileSync(join(bin, tool), `#!/bin/sh\nunset LD_PRELOAD\nexec ${found} "$@"\n`);
    chmodSync(join(bin, tool), 0o755);
  }
}

function runAsan(): boolean {
  const library = (name: string): string =>
    execFileSync('gcc', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
  const { status } = spawnSync(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', 'test/native'], {
    cwd: tree,
    stdio: 'inherit',
    env: {
      ...process.env,
      PATH: `${bin}:${process.env.PATH}`,
      LD_PRELOAD: `${library('libasan.so')} ${library('libubsan.so')}`,
      // V8 keeps what it has until the end; an allocation that is too large must fail, not end the process.
      ASAN_OPTIONS: 'detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=0',
      UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1',
    },
  });
  return status === 0;
}

function runValgrind(files: readonly string[]): boolean {
  mkdirSync(logs, { recursive: true });
  const { status } = spawnSync(
    'valgrind',
    [
      ...['-q', '--smc-check=all-non-file', '--trace-children=yes', `--log-file=${logs}/%p.log`],
      '--trace-children-skip=*/ip,*/tc,*/bpftool,*/clang*,/bin/*,/usr/bin/*,/sbin/*,/usr/sbin/*',
      ...[process.execPath, 'node_modules/vitest/vitest.mjs', 'run', '--testTimeout=1200000', ...files],
    ],
    // The addon as it is shipped: valgrind and ASan do not go together.
    { cwd: root, stdio: 'inherit' },
  );
  const ours = readdirSync(logs).flatMap((name) => findings(readFileSync(join(logs, name), 'utf8')));
  for (const finding of ours) process.stderr.write(`${finding}\n`);
  process.stdout.write(`${ours.length} findings of valgrind in the addon\n`);
  return status === 0 && ours.length === 0;
}

/** Blocks of a log whose innermost frame outside libc is in the addon. */
function findings(log: string): string[] {
  return log
    .replaceAll(/^==\d+== ?/gm, '')
    .split(/\n\s*\n/)
    .filter((block) => {
      const frames = block.split('\n').filter((line) => /^\s+(at|by) 0x/.test(line));
      const innermost = frames.find((line) => !/vg(preload)?_|libc\.so|syscall\.S|string|memmove/.test(line));
      return innermost?.includes('falcodrop.node') ?? false;
    });
}

const step = (text: string): void => void process.stdout.write(`  SAN   ${text}\n`);
step('the addon with ASan and UBSan');
copyTree();
buildAddon();
wrapTools();
if (!existsSync(join(tree, 'build/Release/falcodrop.node'))) throw new Error('no addon was built');
step('test/native with it');
const isClean = runAsan();
step('test/native/map, program, object under valgrind');
const isValid = runValgrind(['test/native/map.test.ts', 'test/native/program.test.ts', 'test/native/object.test.ts']);
process.stdout.write(`ASan and UBSan: ${isClean ? 'clean' : 'FAILED'}; valgrind: ${isValid ? 'clean' : 'FAILED'}\n`);
process.exitCode = isClean && isValid ? 0 : 1;
