/** Programs of others (falco, systemctl, tar): run without a shell, in a bounded time, with bounded output. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

export interface Ended {
  /** Null: it was killed, or did not start. */
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** Why there is no status. */
  readonly trouble: string | null;
}

export interface Running {
  readonly environment: NodeJS.ProcessEnv;
  readonly timeoutMs: number;
  readonly input?: Uint8Array;
  /** Bytes of stdout and of stderr that are kept, each; what comes after them is read and thrown away. */
  readonly keep?: number;
  readonly signal?: AbortSignal;
}

/** Does not reject. Who is not done in time is killed. */
export async function runProgram(program: string, words: readonly string[], running: Running): Promise<Ended> {
  const { environment, timeoutMs, input, keep = 1 << 20, signal } = running;
  const child = spawn(program, words, { env: environment, stdio: ['pipe', 'pipe', 'pipe'] });
  const said: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
  for (const name of ['stdout', 'stderr'] as const) {
    let left = keep;
    child[name].on('data', (bytes: Buffer) => {
      if (left > 0) said[name].push(bytes.subarray(0, left));
      left -= bytes.length;
    });
    child[name].on('error', () => undefined);
  }
  child.stdin.on('error', () => undefined); // who does not read it ends without it
  child.stdin.end(input);

  let trouble: string | null = null;
  const end = (why: string) => (): void => {
    trouble ??= why;
    child.kill('SIGKILL');
    // Its own children may hold the pipes.
    child.stdout.destroy();
    child.stderr.destroy();
  };
  const timer = setTimeout(end(`it was not done after ${timeoutMs / 1000} s, and was ended`), timeoutMs);
  const onAbort = end('it was ended');
  signal?.addEventListener('abort', onAbort);
  let status: number | null = null;
  try {
    const [code, by] = (await once(child, 'close')) as [number | null, string | null];
    status = trouble === null ? code : null;
    if (status === null) trouble ??= `it was ended by ${by ?? 'a signal'}`;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    trouble = code === 'ENOENT' ? 'there is no such program' : code === 'EACCES' ? 'it may not be run' : message;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
  return { status, stdout: Buffer.concat(said.stdout), stderr: Buffer.concat(said.stderr), trouble };
}

/** The last words of a program, on one line: of stderr, and of stdout where it says there what is wrong. */
export function lastWords({ stdout, stderr, trouble, status }: Ended, most = 12): string {
  const lines = [stdout, stderr]
    .flatMap((bytes) => bytes.toString().split('\n'))
    .map((line) => line.trim())
    // What Falco says of each rules file that is right.
    .filter((line) => line !== '' && !/: Ok(, with warnings)?$/.test(line));
  const words = [...new Set(lines)].slice(-most).join(' | ');
  const why = trouble ?? `it ended with ${status}`;
  return words === '' ? why : `${why}: ${words}`;
}
