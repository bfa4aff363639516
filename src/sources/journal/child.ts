/**
 * One journalctl. It is read as fast as there is room and no faster: a pipe that is full makes it wait. It only reads, so
 * kill -9 harms nothing; and it ends by itself when this process is gone: it waits for an end of its stdout too (and has a
 * broken pipe when it writes).
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { LineSplitter } from '../lines/splitter.ts';

export interface ChildOptions {
  readonly arguments: readonly string[];
  /** Bytes of a line of its stdout. */
  readonly longest: number;
  /** It is ended when it says nothing for so long while it is listened to. */
  readonly quietMs: number;
  /** Of stderr, in bounded pieces. */
  readonly onError: (line: string) => void;
}

export interface ChildEnd {
  /** `stopped`: by {@link Journalctl.stop}. */
  readonly why: 'ended' | 'quiet' | 'stopped';
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Pieces of stdout that came. */
  readonly pieces: number;
}

/** Bytes of a line of stderr. */
const longestError = 1_024;

export class Journalctl {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly #options: ChildOptions;
  readonly #exited: Promise<unknown>;
  #why: ChildEnd['why'] = 'ended';

  private constructor(child: ChildProcessByStdio<null, Readable, Readable>, options: ChildOptions) {
    this.#child = child;
    this.#options = options;
    this.#exited = once(child, 'exit').catch(() => undefined);
  }

  /** Never through a shell. Rejects as spawn(2) does: ENOENT, EACCES, EAGAIN … */
  static async start(options: ChildOptions): Promise<Journalctl> {
    const { PATH = '/usr/local/bin:/usr/bin:/bin' } = process.env;
    const child = spawn('journalctl', options.arguments, {
      // Nothing else of ours is its business: neither secrets nor the socket of systemd's notifications.
      env: { PATH, LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const started = new Journalctl(child, options);
    await once(child, 'spawn');
    // Of kill(2), later.
    child.on('error', () => undefined);
    started.#listen();
    return started;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Hands over each line (null: over-long) and waits for what comes of it. Resolves when it has ended and all is read. */
  async read(onLine: (line: string | null, receivedNs: bigint) => Promise<void>): Promise<ChildEnd> {
    const { longest, quietMs } = this.#options;
    const splitter = new LineSplitter({ longest });
    const pieces = this.#child.stdout[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    let count = 0;
    for (;;) {
      const quiet = setTimeout(() => this.#end('quiet'), quietMs);
      const piece = await pieces.next().catch(() => null);
      clearTimeout(quiet);
      if (piece === null || piece.done === true) break;
      count++;
      const receivedNs = process.hrtime.bigint();
      for (const line of splitter.split(piece.value)) {
        // Those that are read already are not needed: they come again.
        if (this.#why === 'stopped') continue;
        await onLine(line, receivedNs);
      }
    }
    // Who closes its stdout and stays is of no use.
    const late = setTimeout(() => this.#end(this.#why), longestGoodbyeMs);
    await this.#exited;
    clearTimeout(late);
    await this.#lastWords();
    return { why: this.#why, code: this.#child.exitCode, signal: this.#child.signalCode, pieces: count };
  }

  /** What it said at its end, unless another process holds the pipe. */
  async #lastWords(): Promise<void> {
    const { stderr } = this.#child;
    if (stderr.closed) return;
    const late = setTimeout(() => stderr.destroy(), this.#why === 'ended' ? longestGoodbyeMs : 0);
    await once(stderr, 'close').catch(() => undefined);
    clearTimeout(late);
  }

  stop(): void {
    this.#end('stopped');
  }

  #end(why: ChildEnd['why']): void {
    this.#why = why;
    this.#child.kill('SIGKILL');
    // Another process may hold the other end.
    this.#child.stdout.destroy();
  }

  #listen(): void {
    const splitter = new LineSplitter({ longest: longestError });
    this.#child.stderr.on('error', () => undefined);
    this.#child.stderr.on('data', (piece: Buffer) => {
      for (const line of splitter.split(piece)) this.#options.onError(line ?? '(a line of more than 1024 bytes)');
    });
  }
}

const longestGoodbyeMs = 1_000;
