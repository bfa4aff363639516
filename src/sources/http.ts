/**
 * Alerts over HTTP: `POST /` and `POST /falco`, one alert a body, as Falco's `http_output` and falcosidekick's webhook send
 * them.
 *
 * The answer is 202 as soon as the alert is queued and never waits for what is done about it: a server that accepts and
 * does not answer stalls every output of Falco. Falco does not try again and takes 4xx and 5xx for delivered, so these are
 * for people and for other senders.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, BlockList, isIPv6, type Socket } from 'node:net';
import type { Origin } from '../alert/alert.ts';
import { FalcodropError } from '../errors.ts';
import type { Intake } from './intake.ts';

export interface HttpLimits {
  /** Bytes. */
  readonly maxBody: number;
  readonly maxConnections: number;
  /** Bytes of the request line and all headers. */
  readonly maxHeader: number;
  /** From the first byte of a connection or the end of the answer before, to the last byte of the headers. */
  readonly headersMs: number;
  /** To the last byte of the body. */
  readonly requestMs: number;
  /** A connection without a request is closed after so long. Falco keeps one connection for all alerts. */
  readonly keepAliveMs: number;
}

export const httpLimits: HttpLimits = {
  maxBody: 1 << 20,
  maxConnections: 128,
  maxHeader: 16 << 10,
  headersMs: 5_000,
  requestMs: 10_000,
  keepAliveMs: 75_000,
};

export interface HttpOptions {
  /** An IP address. */
  readonly address: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly intake: Pick<Intake, 'push' | 'countBad'>;
  readonly limits?: Partial<HttpLimits>;
}

export interface HttpSource {
  readonly address: string;
  readonly port: number;
  /** Stops accepting, lets requests that have begun finish for at most `graceMs`, then cuts them. */
  readonly close: (graceMs: number) => Promise<void>;
}

const sourceName = 'http';
const paths: ReadonlySet<string> = new Set(['/', '/falco']);

/** A body too large is read to its end, so that the sender reads the answer; this many times the limit, then it is cut. */
const largestExcess = 16;

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** Rejects with `listen_failed`. */
export async function serveHttp({ address, port, intake, limits: given }: HttpOptions): Promise<HttpSource> {
  const limits = { ...httpLimits, ...given };
  let isClosing = false;

  /** By connection: asking a socket and a BlockList for each alert costs as much as reading the alert. */
  const origins = new WeakMap<Socket, Origin>();
  const originOf = (socket: Socket): Origin => {
    let origin = origins.get(socket);
    if (origin === undefined) {
      origin = readOrigin(socket);
      origins.set(socket, origin);
    }
    return origin;
  };

  const answer = (
    response: ServerResponse,
    status: number,
    text: string,
    headers: Record<string, string> = {},
  ): void => {
    const body = text === '' ? '' : `${text}\n`;
    response.writeHead(status, {
      ...(body === '' ? {} : { 'content-type': 'text/plain; charset=utf-8' }),
      'content-length': Buffer.byteLength(body),
      ...(isClosing ? { connection: 'close' } : {}),
      ...headers,
    });
    response.end(body);
  };

  const serve = (request: IncomingMessage, response: ServerResponse): void => {
    // The sender went away in the middle; what it sent is no alert.
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    const refusal = refuse(request, limits);
    if (refusal !== null) {
      if (refusal.isBody) intake.countBad(sourceName, { isTooLong: refusal.status === 413 });
      answer(response, refusal.status, refusal.text, refusal.headers);
      // What still comes of its body is thrown away, within the time a request has.
      discard(request, limits);
      return;
    }
    if (request.method !== 'POST') {
      answer(response, 200, 'ok');
      return;
    }
    receive(request, limits, (body, receivedNs) => {
      if (body === null) {
        intake.countBad(sourceName, { isTooLong: true });
        answer(response, 413, tooLarge(limits));
        discard(request, limits);
        return;
      }
      const pushed = intake.push(body.toString('utf8'), sourceName, originOf(request.socket), receivedNs);
      if (pushed === 'queued') {
        slots.prove(request.socket);
        answer(response, 202, '');
      } else if (pushed === 'shed') answer(response, 503, 'too many alerts are waiting', { 'retry-after': '1' });
      else answer(response, 400, pushed.problem);
    });
  };

  const server = createServer({
    maxHeaderSize: limits.maxHeader,
    headersTimeout: Math.min(limits.headersMs, limits.requestMs),
    requestTimeout: limits.requestMs,
    keepAliveTimeout: limits.keepAliveMs,
    connectionsCheckingInterval: Math.max(20, Math.min(1_000, Math.floor(limits.headersMs / 4))),
    noDelay: true,
  });
  const slots = new Slots(limits.maxConnections, () => server.closeIdleConnections());
  server.on('connection', (socket: Socket) => slots.take(socket));
  // Who does not read its answers holds no connection either.
  server.timeout = limits.requestMs * 2;
  server.on('request', serve);
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    if (refuse(request, limits) === null) response.writeContinue();
    // Told no, the sender may leave its body out: what comes next would be read as the body.
    else response.shouldKeepAlive = false;
    serve(request, response);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    if (error.code === 'ECONNRESET' || !socket.writable) {
      socket.destroy();
      return;
    }
    const status = statusOf[error.code ?? ''] ?? '400 Bad Request';
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
  });

  await listen(server, address, port);
  const bound = server.address() as AddressInfo;
  return {
    address: bound.address,
    port: bound.port,
    close: (graceMs) => {
      isClosing = true;
      return new Promise((resolve) => {
        const cut = setTimeout(() => server.closeAllConnections(), graceMs);
        server.close(() => {
          clearTimeout(cut);
          resolve();
        });
      });
    },
  };
}

/**
 * Which connections are kept when there are too many: those that have brought an alert. Falco's next alert is lost when its
 * connection is refused, so a new one makes the oldest unproven one give way, and not the other way round: who opens
 * connections and says nothing takes no slot from who speaks.
 */
class Slots {
  readonly #most: number;
  readonly #whenAllProven: () => void;
  readonly #unproven = new Set<Socket>();
  #open = 0;

  /** `whenAllProven`: closes idle ones; their owners connect anew. */
  constructor(most: number, whenAllProven: () => void) {
    this.#most = most;
    this.#whenAllProven = whenAllProven;
  }

  take(socket: Socket): void {
    this.#open++;
    this.#unproven.add(socket);
    socket.once('close', () => {
      this.#open--;
      this.#unproven.delete(socket);
    });
    if (this.#open <= this.#most) return;
    const [oldest = socket] = this.#unproven;
    // Not waited for: until its 'close' it would be chosen again.
    this.#unproven.delete(oldest);
    oldest.destroy();
    if (oldest === socket) this.#whenAllProven();
  }

  prove(socket: Socket): void {
    this.#unproven.delete(socket);
  }
}

const statusOf: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

interface Refusal {
  readonly status: number;
  readonly text: string;
  readonly headers: Record<string, string>;
  /** True when it counts as a bad alert. */
  readonly isBody: boolean;
}

const tooLarge = (limits: HttpLimits): string => `an alert has at most ${limits.maxBody} bytes`;

/** What can be said from the headers alone; null = go on. */
function refuse(request: IncomingMessage, limits: HttpLimits): Refusal | null {
  const say = (status: number, text: string, headers: Record<string, string> = {}, isBody = false): Refusal => ({
    status,
    text,
    headers,
    isBody,
  });
  const path = (request.url ?? '').split('?', 1)[0] ?? '';
  if (path === '/healthz') {
    const isRead = request.method === 'GET' || request.method === 'HEAD';
    return isRead ? null : say(405, 'only GET', { allow: 'GET, HEAD' });
  }
  if (!paths.has(path)) return say(404, 'alerts are POSTed to / or /falco');
  if (request.method !== 'POST') return say(405, 'alerts are POSTed', { allow: 'POST' });
  // Browsers always name the page that makes them POST; neither Falco nor falcosidekick is one. A page somebody opens on
  // this host must not be able to have an address blocked.
  if (request.headers.origin !== undefined) return say(403, 'alerts are not taken from web pages', {}, true);
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (encoding.toLowerCase() !== 'identity') {
    return say(415, 'alerts are sent uncompressed', { 'accept-encoding': 'identity' }, true);
  }
  if (Number(request.headers['content-length'] ?? 0) > limits.maxBody) return say(413, tooLarge(limits), {}, true);
  return null;
}

/** Calls back once: with the whole body and the time of its last byte, or with null as soon as it is too large. */
function receive(
  request: IncomingMessage,
  limits: HttpLimits,
  done: (body: Buffer | null, receivedNs: bigint) => void,
): void {
  let chunks: Buffer[] = [];
  let size = 0;
  let receivedNs = process.hrtime.bigint();
  let isDone = false;
  request.on('data', (chunk: Buffer) => {
    if (isDone) return;
    receivedNs = process.hrtime.bigint();
    size += chunk.length;
    if (size <= limits.maxBody) {
      chunks.push(chunk);
      return;
    }
    isDone = true;
    chunks = [];
    done(null, receivedNs);
  });
  request.on('end', () => {
    if (isDone) return;
    isDone = true;
    const [first] = chunks;
    done(chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks), receivedNs);
  });
}

function discard(request: IncomingMessage, limits: HttpLimits): void {
  let excess = 0;
  request.on('data', (chunk: Buffer) => {
    excess += chunk.length;
    if (excess > limits.maxBody * largestExcess) request.socket.destroy();
  });
}

function readOrigin(socket: Socket): Origin {
  const address = socket.remoteAddress ?? '';
  return loopback.check(
    address.replace(/^::ffff:/, ''),
    isIPv6(address) && !address.startsWith('::ffff:') ? 'ipv6' : 'ipv4',
  )
    ? 'local'
    : 'network';
}

function listen(server: Server, address: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const [sentence, hint] = whyNotListening[error.code ?? ''] ?? [error.message, undefined];
      reject(new FalcodropError('listen_failed', `HTTP on ${address} port ${port}: ${sentence}`, hint, error));
    });
    server.listen({ host: address, port, exclusive: true }, () => {
      server.removeAllListeners('error');
      // EMFILE and the like on accept: the connection waits in the kernel, those we have go on.
      server.on('error', () => undefined);
      resolve();
    });
  });
}

const whyNotListening: Readonly<Record<string, readonly [sentence: string, hint: string]>> = {
  EADDRINUSE: [
    'the port is taken',
    'is a falcodrop running already? ("ss -ltnp" tells who has it); http.port names another',
  ],
  EACCES: ['ports below 1024 are for root', 'set http.port to 1024 or more'],
  EADDRNOTAVAIL: ['this host does not have that address', 'set http.address to 127.0.0.1 or ::1'],
};
