/**
 * The daemon's socket, `run.sock` in the state directory: who may open it (root, the service's user and group) asks the
 * running daemon something.
 *
 * A client writes one line, a JSON object with `verb`, and reads lines, one JSON object each, until the daemon closes; it goes
 * by closing its own side. Nothing is kept for a slow client beyond its buffer: what would not fit is lost,
 * counted, and told with `{"lost": n}` as soon as the client reads again. `{"error": {…}}` is the last line of who asked for
 * something that can not be; `{"end": "stopping"}` that of a daemon that stops.
 */
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { type ErrorCode, FalcodropError } from '../errors.ts';
import { harmlessJson } from '../observe/text.ts';
import { listenUnix } from '../sources/unix-socket.ts';

export const socketName = 'run.sock';

export const socketPath = (stateDir: string): string => join(stateDir, socketName);

export interface Client {
  /** False: there was no room, and the line is lost. */
  send(line: object): boolean;
  /** What is on its way still gets there. */
  end(): void;
  /** Called once, when either has closed. */
  onClose(step: () => void): void;
}

/** What is thrown becomes the answer's error. */
export type SocketVerb = (request: Readonly<Record<string, unknown>>, client: Client) => void | Promise<void>;

export interface SocketLimits {
  readonly clients: number;
  /** Bytes of a request, and of what a client may send after it. */
  readonly request: number;
  /** Milliseconds until the request is there. */
  readonly requestWithin: number;
  /** Bytes on their way to one client. */
  readonly buffer: number;
}

export interface DaemonSocket {
  readonly path: string;
  /** Says `stopping` to all, and takes the socket away where it is still ours. */
  close(): Promise<void>;
}

export const socketLimits: SocketLimits = { clients: 32, request: 4096, requestWithin: 5_000, buffer: 256 * 1024 };

/** Rejects with `listen_failed`, as {@link listenUnix} does. */
export async function serveSocket(
  path: string,
  verbs: Readonly<Record<string, SocketVerb>>,
  limits: SocketLimits = socketLimits,
): Promise<DaemonSocket> {
  const clients = new Set<ClientOnSocket>();
  const server = createServer((socket) => {
    const client = new ClientOnSocket(socket, limits, verbs);
    clients.add(client);
    socket.once('close', () => clients.delete(client));
    if (clients.size > limits.clients) client.fail('failed', `${limits.clients} clients are connected already`);
  });
  // Those beyond the limit are told so before they are let go.
  server.maxConnections = 2 * limits.clients;
  // The state directory is the service's: root's daemon and the service's follow each other there.
  const remove = await listenUnix(server, { path, gid: null, replacesOthers: true, setting: 'FALCODROP_STATE_DIR' });
  return {
    path,
    close: async () => {
      remove();
      const closed = new Promise((resolve) => server.close(resolve));
      for (const client of clients) client.stop();
      await closed;
    },
  };
}

/** From its connection to its end. */
class ClientOnSocket implements Client {
  readonly #socket: Socket;
  readonly #limits: SocketLimits;
  readonly #verbs: Readonly<Record<string, SocketVerb>>;
  readonly #patience: NodeJS.Timeout;
  #request: Buffer | null = Buffer.alloc(0);
  #extra = 0;
  #lost = 0;
  #isEnded = false;

  constructor(socket: Socket, limits: SocketLimits, verbs: Readonly<Record<string, SocketVerb>>) {
    this.#socket = socket;
    this.#limits = limits;
    this.#verbs = verbs;
    this.#patience = setTimeout(() => this.fail('usage', 'no request came'), limits.requestWithin);
    this.#patience.unref();
    socket.on('error', () => socket.destroy()); // it went away
    socket.on('close', () => clearTimeout(this.#patience));
    socket.on('drain', () => this.#tellLost());
    socket.on('data', (bytes) => this.#take(bytes));
    // Who closes his side has gone.
    socket.on('end', () => socket.destroy());
  }

  send(line: object): boolean {
    if (this.#isEnded || this.#socket.destroyed) return false;
    if (this.#socket.writableLength > this.#limits.buffer) {
      this.#lost++;
      return false;
    }
    this.#tellLost();
    this.#write(line);
    return true;
  }

  end(): void {
    if (this.#isEnded) return;
    this.#tellLost();
    this.#isEnded = true;
    this.#socket.end();
    // Who never reads does not keep it open.
    const late = setTimeout(() => this.#socket.destroy(), this.#limits.requestWithin);
    late.unref();
    this.#socket.once('close', () => clearTimeout(late));
  }

  onClose(step: () => void): void {
    if (this.#socket.destroyed) step();
    else this.#socket.once('close', step);
  }

  fail(code: ErrorCode, message: string, hint?: string): void {
    this.#request = null;
    clearTimeout(this.#patience);
    if (!this.#isEnded) this.#write({ error: { code, message, hint: hint ?? null } });
    this.end();
  }

  /** The daemon goes: what can be written at once is. */
  stop(): void {
    if (!this.#isEnded) this.#write({ end: 'stopping' });
    this.#isEnded = true;
    this.#socket.destroy();
  }

  #take(bytes: Buffer): void {
    if (this.#request === null) {
      this.#extra += bytes.length;
      if (this.#extra > this.#limits.request) this.#socket.destroy();
      return;
    }
    const all = Buffer.concat([this.#request, bytes]);
    const end = all.indexOf(0x0a);
    if (end < 0 && all.length <= this.#limits.request) {
      this.#request = all;
      return;
    }
    if (end < 0 || end > this.#limits.request) {
      this.fail('usage', `a request has ${this.#limits.request} bytes at most`);
      return;
    }
    this.#request = null;
    this.#extra = all.length - end - 1;
    clearTimeout(this.#patience);
    void this.#answer(all.toString('utf8', 0, end));
  }

  async #answer(text: string): Promise<void> {
    try {
      const request = readRequest(text);
      const { verb: name } = request;
      const verb = typeof name === 'string' && Object.hasOwn(this.#verbs, name) ? this.#verbs[name] : undefined;
      if (verb === undefined) {
        const known = Object.keys(this.#verbs).join(', ');
        throw new FalcodropError('usage', 'the daemon knows no such verb', `it knows ${known}`);
      }
      await verb(request, this);
    } catch (error) {
      if (error instanceof FalcodropError) this.fail(error.code, error.message, error.hint);
      else this.fail('failed', 'the daemon failed at it', 'its log tells more');
    }
  }

  #tellLost(): void {
    if (this.#lost === 0 || this.#isEnded || this.#socket.destroyed) return;
    const lost = this.#lost;
    this.#lost = 0;
    this.#write({ lost });
  }

  #write(line: object): void {
    if (!this.#socket.destroyed) this.#socket.write(`${harmlessJson(line)}\n`);
  }
}

function readRequest(text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // below
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new FalcodropError('usage', 'a request is one line with a JSON object', '{"verb": "watch_drops"}');
}
