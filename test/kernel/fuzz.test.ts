/** The corpus of the fuzzer (`make fuzz`), run once through the parser: what it found stays found. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';

const source = fileURLToPath(new URL('../fuzz/packet.c', import.meta.url));
const corpus = join(dirname(source), 'corpus');
const files = readdirSync(corpus).map((name) => join(corpus, name));
const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64';

function build(main: string): string {
  const dir = mkdtempSync(join(tmpdir(), `fd${process.pid}-fuzz-`));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const program = join(dir, 'packet');
  const flags = ['-O1', '-Wall', '-Werror', '-DCORPUS', `-I/usr/include/${machine}-linux-gnu`];
  execFileSync('clang', [...flags, main, '-o', program], { stdio: ['ignore', 'ignore', 'inherit'] });
  return program;
}

test('the parser says nothing that contradicts itself about the corpus', () => {
  expect(files.length).toBeGreaterThan(50);
  expect(execFileSync(build(source), files, { encoding: 'utf8' })).toBe(`${files.length}\n`);
});

test('a port read from the wrong place would be seen', () => {
  const header = readFileSync(fileURLToPath(new URL('../../bpf/packet.h', import.meta.url)), 'utf8');
  const wrong = header.replace('bpf_ntohs(ports[1])', 'bpf_ntohs(ports[0])');
  expect(wrong).not.toBe(header);
  const dir = mkdtempSync(join(tmpdir(), `fd${process.pid}-fuzz-`));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, 'packet.h'), wrong.replace('"abi.h"', `"${join(dirname(source), '../../bpf/abi.h')}"`));
  writeFileSync(join(dir, 'packet.c'), readFileSync(source, 'utf8').replace('../../bpf/packet.h', 'packet.h'));
  const program = build(join(dir, 'packet.c'));
  expect(() => execFileSync(program, files, { stdio: 'ignore' })).toThrow();
});
