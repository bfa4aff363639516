/**
 * What a command says: answers on stdout, notes and errors on stderr, and the exit status. Nobody else writes or exits:
 * `process.exit` after more than 64 KiB into a pipe would cut the rest off.
 */
import { exitStatusOf, FalcodropError } from '../../errors.ts';
import { clean, jsonLine } from './clean.ts';
import { paint } from './colour.ts';

export type Status = 0 | 1 | 2 | 3 | 4 | 5;

/** The worst of several targets wins. A usage error stands alone: nothing was done. */
const worstFirst: readonly Status[] = [2, 1, 5, 3, 4, 0];

/** Characters gathered before they are written. */
const batch = 65_536;

/** Something to know beside the answer, e.g. "no interface is attached". In JSON it is part of the answer's object. */
export interface Note {
  readonly code: string;
  readonly message: string;
}

/** A refusal of the guard: its reason is a member of the JSON error. */
export class RefusedError extends FalcodropError {
  readonly reason: string;

  constructor(reason: string, message: string, hint: string) {
    super('refused', message, hint);
    this.reason = reason;
  }
}

export interface AnswerOptions {
  readonly json: boolean;
  /** Whether colour is wanted on stdout and on stderr. */
  readonly colour: { readonly out: boolean; readonly error: boolean };
  /** Stack traces with errors. */
  readonly debug: boolean;
  /** Columns of the terminal on stdout; null where there is none. */
  readonly width?: number | null;
}

export class Answer {
  readonly json: boolean;
  readonly colour: boolean;
  readonly debug: boolean;
  /** Columns of the terminal; null: nobody looks at a terminal, and rows are as long as they are. */
  readonly width: number | null;
  readonly #colourErrors: boolean;
  readonly #out: NodeJS.WritableStream;
  readonly #errors: NodeJS.WritableStream;
  #pending = '';
  #closed = false;
  #status: Status = 0;

  constructor(out: NodeJS.WritableStream, errors: NodeJS.WritableStream, options: AnswerOptions) {
    this.#out = out;
    this.#errors = errors;
    this.json = options.json;
    this.colour = options.colour.out;
    this.debug = options.debug;
    this.width = options.width ?? null;
    this.#colourErrors = options.colour.error;
    out.on('error', (error: NodeJS.ErrnoException) => this.#broken(error));
    errors.on('error', () => undefined); // nobody is left to tell
  }

  get status(): Status {
    return this.#status;
  }

  /** The reader went away (`| head`): whoever only answers may stop. */
  get closed(): boolean {
    return this.#closed;
  }

  /** True: `await flush()` before more lines. */
  get full(): boolean {
    return this.#pending.length >= batch;
  }

  /** There is something that was not handed over yet. */
  get pending(): boolean {
    return this.#pending !== '';
  }

  line(text: string): void {
    if (!this.#closed) this.#pending += `${text}\n`;
  }

  object(value: unknown): void {
    this.line(jsonLine(value));
  }

  flush(): Promise<void> {
    const text = this.#pending;
    this.#pending = '';
    if (text === '' || this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      this.#out.write(text, () => resolve());
    });
  }

  /** A line on stderr. With --json stderr is for error objects: notes go into the answer instead. */
  note(message: string): void {
    if (this.json) return;
    this.#say(`${paint('note:', 'dim', this.#colourErrors)} ${clean(message, 1000)}`);
  }

  /** Not fatal and no matter for the exit status: a line of input that is passed over. */
  warn(code: keyof typeof exitStatusOf, message: string): void {
    if (this.json) this.#say(jsonLine({ code, message, hint: null }));
    else this.#say(`${paint('warning:', 'yellow', this.#colourErrors)} ${clean(message, 1000)}`);
  }

  /** An error, one line or object; the exit status becomes its own unless it is worse already. */
  fail(error: FalcodropError): void {
    this.worsen(exitStatusOf[error.code]);
    const { code, message, hint = null } = error;
    if (this.json) {
      const reason = error instanceof RefusedError ? { reason: error.reason } : {};
      this.#say(jsonLine({ code, message, hint, ...reason }));
    } else {
      const remedy = hint === null ? '' : `\n  ${clean(hint, 1000)}`;
      this.#say(`${paint('falcodrop:', 'red', this.#colourErrors)} ${clean(message, 2000)}${remedy}`);
    }
    if (this.debug) this.#say(traceOf(error));
  }

  worsen(status: Status): void {
    if (worstFirst.indexOf(status) < worstFirst.indexOf(this.#status)) this.#status = status;
  }

  /** As it is: help texts, questions. */
  say(text: string): void {
    this.#say(text);
  }

  /** How far it is, over what was said before; on a terminal alone, and empty to take it away. */
  progress(text: string): void {
    if (this.json || (this.#errors as { isTTY?: boolean }).isTTY !== true) return;
    this.#errors.write(`\r${text}\x1b[K`);
  }

  #say(text: string): void {
    void this.flush(); // in order where both go to one terminal
    this.#errors.write(`${text}\n`);
  }

  #broken(error: NodeJS.ErrnoException): void {
    const first = !this.#closed;
    this.#closed = true;
    this.#pending = '';
    // A terminal that hung up says EIO.
    const isGone =
      error.code === 'EPIPE' || (error.code === 'EIO' && (this.#out as { isTTY?: boolean }).isTTY === true);
    if (isGone || !first) return;
    this.fail(new FalcodropError('failed', `the output could not be written: ${error.message}`));
  }
}

/** The stack, those of the causes, and the verifier's log where there is one. */
function traceOf(error: Error): string {
  const parts: string[] = [];
  for (let current: unknown = error; current instanceof Error; current = current.cause) {
    parts.push(current.stack ?? String(current));
    const { log } = current as { log?: unknown };
    if (typeof log === 'string' && log !== '') parts.push(log);
  }
  return parts
    .join('\ncaused by ')
    .split('\n')
    .map((line) => clean(line, 1000))
    .join('\n');
}
