/** Another build of the data plane: the C source edited and compiled beside a copy of the sources that load it. */
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab } from './lab.ts';

const root = join(import.meta.dirname, '../..');
const multiarch = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as string] ?? process.arch;

/** Replaces text that must be there: an edit that finds nothing would make a test compare a build with itself. */
export function edit(source: string, from: string, to: string): string {
  if (!source.includes(from)) throw new Error(`the source does not contain ${JSON.stringify(from)}`);
  return source.replace(from, to);
}

/** Compiles falcodrop.bpf.c as `change` returns it, with the flags of the Makefile; returns the object's path. */
export function compileVariant(lab: Lab, name: string, change: (source: string) => string): string {
  const directory = join(lab.directory, name);
  mkdirSync(join(directory, 'dist'), { recursive: true });
  const source = join(directory, 'falcodrop.bpf.c');
  const object = join(directory, 'dist/falcodrop.bpf.o');
  writeFileSync(source, change(readFileSync(join(root, 'bpf/falcodrop.bpf.c'), 'utf8')));
  lab.exec(
    null,
    'clang',
    ...['-O2', '-g', '-target', 'bpf', '-mcpu=v2', `-I/usr/include/${multiarch}-linux-gnu`, `-I${join(root, 'bpf')}`],
    ...['-c', source, '-o', object],
  );
  return object;
}

/** The same with a tree around it: the path of an act.ts that attaches this build (lab.ts `script`). */
export function buildVariant(lab: Lab, name: string, change: (source: string) => string): string {
  compileVariant(lab, name, change);
  const directory = join(lab.directory, name);
  for (const room of ['errors.ts', 'fault.ts', 'address', 'time', 'kernel']) {
    cpSync(join(root, 'src', room), join(directory, 'src', room), { recursive: true });
  }
  mkdirSync(join(directory, 'test/kernel'), { recursive: true });
  cpSync(join(import.meta.dirname, 'act.ts'), join(directory, 'test/kernel/act.ts'));
  writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
  symlinkSync(join(root, 'build'), join(directory, 'build'));
  return join(directory, 'test/kernel/act.ts');
}

/** Does nothing, but with other instructions: `#define` tells two such variants apart. */
export const sameWithOtherTag = (source: string): string =>
  edit(source, 'struct packet packet = {};', 'struct packet packet = {};\n\tasm volatile("r0 = 7");');
