/**
 * What the addon's tests stand on: the compiled fixture, a bpffs and veth pairs of their own, child processes.
 * Everything is made under a temporary directory or named after this process, and `close()` takes it away again.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BpfObject, isNativeError, type NativeError, native } from '../../src/kernel/native.ts';

const fixtures = join(import.meta.dirname, 'fixtures');
const multiarch = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as string] ?? process.arch;

export interface Lab {
  readonly directory: string;
  /** The compiled test/native/fixtures/objects.bpf.c. */
  readonly objectPath: string;
  readonly objectBytes: Buffer;
  /** The fixture opened and loaded; closed with the lab. */
  loaded(): BpfObject;
  /** A bpffs of the lab's own. */
  bpffs(): string;
  /** A veth pair fd<pid>a and fd<pid>b in this network namespace, both up; taken away by the returned function. */
  veth(): { readonly a: string; readonly b: string; readonly ifindex: number; remove(): void };
  close(): void;
}

export function openLab(): Lab {
  const directory = mkdtempSync(join(tmpdir(), 'fd-native-'));
  const objectPath = join(directory, 'objects.bpf.o');
  execFileSync('clang', [
    '-O2',
    '-g',
    '-Wall',
    '-Werror',
    '-target',
    'bpf',
    `-I/usr/include/${multiarch}-linux-gnu`,
    '-c',
    join(fixtures, 'objects.bpf.c'),
    '-o',
    objectPath,
  ]);
  const objectBytes = readFileSync(objectPath);
  const undo: (() => void)[] = [];
  let mounted: string | undefined;
  return {
    directory,
    objectPath,
    objectBytes,
    loaded() {
      const object = native().openObject(objectBytes, 'objects');
      undo.push(() => object.close());
      object.load();
      return object;
    },
    bpffs() {
      if (mounted === undefined) {
        const target = mkdtempSync(join(directory, 'bpffs-'));
        native().mountBpffs(target, 0o700);
        undo.push(() => native().unmount(target, true));
        mounted = target;
      }
      return mounted;
    },
    veth() {
      const a = `fd${process.pid}a`;
      const b = `fd${process.pid}b`;
      execFileSync('ip', ['link', 'add', a, 'type', 'veth', 'peer', 'name', b]);
      let there = true;
      const remove = () => {
        if (there && existsSync(`/sys/class/net/${a}`)) execFileSync('ip', ['link', 'del', a]);
        there = false;
      };
      undo.push(remove);
      execFileSync('ip', ['link', 'set', a, 'up']);
      execFileSync('ip', ['link', 'set', b, 'up']);
      const [link] = json<{ ifindex: number }[]>('ip', '-j', 'link', 'show', 'dev', a);
      if (link === undefined) throw new Error(`${a} is not there`);
      return { a, b, ifindex: link.ifindex, remove };
    },
    close() {
      for (const step of undo.reverse()) step();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** The output of a command that prints JSON; nothing printed is an empty list. */
export function json<T>(command: string, ...args: string[]): T {
  const text = execFileSync(command, args, { encoding: 'utf8' });
  return JSON.parse(text.trim() === '' ? '[]' : text) as T;
}

/** Runs a call that must fail in the kernel, and hands back its error. */
export function refusal(call: () => unknown): NativeError {
  try {
    call();
  } catch (error) {
    if (isNativeError(error)) return error;
    throw error;
  }
  throw new Error('the call was expected to fail');
}

export function u32(...words: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(words).buffer);
}

export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** Runs a script of fixtures/ in a Node of its own. */
export function startScript(name: string, args: readonly string[], execArgv: readonly string[] = []): ChildProcess {
  return spawn(process.execPath, [...execArgv, join(fixtures, name), ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
}

export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export async function ending(child: ChildProcess): Promise<Ending> {
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
    child.on('close', (...how) => resolve(how));
  });
  return { code, signal, stdout, stderr };
}

/** The first line a child prints: how the scripts here say that they are ready. */
export async function firstLine(child: ChildProcess): Promise<string> {
  let text = '';
  return await new Promise((resolve, reject) => {
    child.stdout?.setEncoding('utf8').on('data', (piece: string) => {
      text += piece;
      const end = text.indexOf('\n');
      if (end >= 0) resolve(text.slice(0, end));
    });
    child.on('close', (code, signal) => reject(new Error(`ended with ${code ?? signal} before it was ready`)));
  });
}
