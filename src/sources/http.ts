/**
 * Alerts over HTTP: `POST /` and `POST /falco` (or the secret path), as Falco's `http_output`, falcosidekick's webhook and log
 * shippers send them: one alert in a body, a list of them, or one a line; as they are or gzipped.
 *
 * The answer is 202 as soon as the alert is queued and never waits for what is done about it: a server that accepts and
 * does not answer stalls every output of Falco. Falco does not try again and takes 4xx and 5xx for delivered, so these are
 * for people and for other senders.
 */
import { createServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Origin } from '../alert/alert.ts';
import {
  type Access,
  type Credentials,
  isLoopback,
  noCredentials,
  openAccess,
  requireAuthentication,
} from './http/access.ts';
import { Complaints } from './http/complaints.ts';
import { type BodyShape, elementsOf, shapeOf } from './http/elements.ts';
import { inflate } from './http/inflate.ts';
import { type HttpLimits, httpLimits } from './http/limits.ts';
import { listenTcp, type TcpPlace } from './http/place.ts';
import { Rate } from './http/rate.ts';
import { Slots } from './http/slots.ts';
import { overloaded, type Reply, replyToOne, Tally } from './http/tally.ts';
import { requireTls, secureOptions, type TlsMaterial } from './http/tls.ts';
import { nextRound, Turns } from './http/turns.ts';
import type { Intake, Pushed } from './intake.ts';
import type { Say } from './lines/feed.ts';
import { joined } from './pieces.ts';
import { listenUnix } from './unix-socket.ts';

export { type HttpLimits, httpLimits } from './http/limits.ts';

export interface HttpAuthentication {
  readonly credentials: Credentials;
  /** null: plain HTTP. */
  readonly tls: TlsMaterial | null;
}

interface Common extends Partial<HttpAuthentication> {
  readonly intake: Pick<Intake, 'push' | 'countBad'>;
  readonly limits?: Partial<HttpLimits>;
  /** For `/readyz`: why an attacker could not be blocked now; null = he could. */
  readonly notReady?: () => string | null;
  readonly say?: Say;
}

/** A unix socket asks for no secret and speaks no TLS: who may open it may send. */
export type HttpOptions = Common & (TcpPlace | { readonly socket: string; readonly gid: number | null });

/** What never was an alert, since the start; all others the intake counts. */
export interface HttpCounts {
  /** Answered 401 or 403: without a secret, or with a wrong one. */
  readonly unauthenticated: number;
  /** Connections that TLS refused: no certificate, one that has expired, one of another CA, no TLS at all. */
  readonly handshakes: number;
  /** Answered 429: bodies. */
  readonly limited: number;
  /** Answered 503 because bodies were waiting to be inflated or taken apart. */
  readonly overloaded: number;
}

export interface HttpSource {
  /** `http`, or `http:unix`. */
  readonly name: string;
  /** The unix socket's path where it is one; port 0 then. */
  readonly address: string;
  readonly port: number;
  /**
   * Other secrets and certificates from now on, for connections that are open too: their next answer is their last. Throws
   * `tls_invalid`, and then nothing has changed.
   */
  readonly renew: (authentication: HttpAuthentication) => void;
  readonly counts: () => HttpCounts;
  /** Stops accepting, lets requests that have begun finish for at most `graceMs`, then cuts them. */
  readonly close: (graceMs: number) => Promise<void>;
}

const paths: ReadonlySet<string> = new Set(['/', '/falco']);

/** A body too large is read to its end, so that the sender reads the answer; this many times the limit, then it is cut. */
const largestExcess = 16;

/** Bytes of a body with several alerts that is done at once; some 70 alerts, half a millisecond. */
const smallBody = 64 << 10;

const noBody = { 'content-length': 0 };

/** Milliseconds of taking a body apart before the event loop gets its turn. */
const sliceMs = 2;

/** Who is at the other end of a connection. Asked once: a socket's address is a system call. */
interface Peer {
  readonly origin: Origin;
  /** Whose rate it is. */
  readonly sender: string;
  /** Of the secrets and certificates that were in force when it connected. */
  readonly generation: number;
  /** Requests may come before the answer to the one before them. */
  readonly unanswered: Set<ServerResponse>;
}

/** Rejects with `listen_failed`, `authentication_missing`, `tls_invalid`. */
export async function serveHttp(options: HttpOptions): Promise<HttpSource> {
  const { intake, notReady = () => null, say = () => undefined } = options;
  const limits = { ...httpLimits, ...options.limits };
  const isUnix = 'socket' in options;
  const sourceName = isUnix ? 'http:unix' : 'http';
  const tls = isUnix ? null : (options.tls ?? null);
  const credentials = isUnix ? noCredentials : (options.credentials ?? noCredentials);
  if (!isUnix) requireAuthentication(options.address, credentials, tls !== null && tls.clientCa !== null);
  if (tls !== null) requireTls(tls);

  let access = openAccess(credentials);
  let generation = 0;
  let isClosing = false;
  let isCut = false;
  const counts = { unauthenticated: 0, handshakes: 0, limited: 0, overloaded: 0 };
  const complaints = new Complaints((level, message, details) =>
    say(level, message, { source: sourceName, ...details }),
  );
  const rate = new Rate(limits.alertsPerSecond, limits.burst);
  const turns = new Turns(limits.maxWaiting);

  const peers = new WeakMap<Socket, Peer>();
  const peerOf = (socket: Socket): Peer => {
    let peer = peers.get(socket);
    if (peer === undefined) {
      const sender = isUnix ? 'unix' : (socket.remoteAddress ?? '');
      const origin = isUnix || isLoopback(sender) ? 'local' : 'network';
      peer = { origin, sender, generation, unanswered: new Set() };
      peers.set(socket, peer);
    }
    return peer;
  };

  const answer = (request: IncomingMessage, response: ServerResponse, { status, text, headers }: Reply): void => {
    const peer = peerOf(request.socket);
    const isLast = isClosing || peer.generation !== generation;
    peer.unanswered.delete(response);
    if (status === 202 && !isLast) {
      response.writeHead(202, noBody);
      response.end();
      return;
    }
    const body = text === '' ? '' : `${text}\n`;
    response.writeHead(status, {
      ...(body === '' ? {} : { 'content-type': 'text/plain; charset=utf-8' }),
      'content-length': Buffer.byteLength(body),
      ...(isLast ? { connection: 'close' } : {}),
      ...headers,
    });
    response.end(body);
  };

  const say400 = (request: IncomingMessage, problem: string): void => {
    complaints.about('what came over HTTP is no alert', () => ({ from: peerOf(request.socket).sender, problem }));
  };

  const refused = (request: IncomingMessage, { isBody, status, cause }: Refusal): void => {
    const from = (): { from: string } => ({ from: peerOf(request.socket).sender });
    if (isBody) intake.countBad(sourceName, { isTooLong: status === 413 });
    if (cause === 'limited') counts.limited++;
    if (cause === 'limited') complaints.about('a sender is over its rate', from);
    if (cause !== 'missing' && cause !== 'wrong') return;
    counts.unauthenticated++;
    const problem = cause === 'missing' ? 'it carries no secret' : 'its secret is wrong';
    complaints.about('a sender was not authenticated', () => ({ ...from(), problem }));
  };

  const serve = (request: IncomingMessage, response: ServerResponse, refusal: Refusal | null): void => {
    // The sender went away in the middle; what it sent is no alert.
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    peerOf(request.socket).unanswered.add(response);
    if (refusal !== null) {
      refused(request, refusal);
      answer(request, response, refusal);
      // What still comes of its body is thrown away, within the time a request has.
      discard(request, limits.maxBody * (refusal.cause === undefined ? largestExcess : 1));
      return;
    }
    if (request.method !== 'POST') {
      answer(request, response, health(request.url ?? '', isClosing, notReady));
      return;
    }
    receive(request, limits, (body, receivedNs) => {
      if (body !== null) {
        take(request, response, body, receivedNs);
        return;
      }
      intake.countBad(sourceName, { isTooLong: true });
      answer(request, response, tooLarge(limits));
      discard(request, limits.maxBody * largestExcess);
    });
  };

  const take = (request: IncomingMessage, response: ServerResponse, body: Buffer, receivedNs: bigint): void => {
    const { sender } = peerOf(request.socket);
    const late = rate.wait(sender);
    if (late > 0) {
      const it = overRate(late);
      refused(request, it);
      answer(request, response, it);
      return;
    }
    const shape = encodingOf(request) === 'identity' ? shapeOf(body) : null;
    // Nearly all are that.
    if (shape === 'one') takeOne(request, response, body, receivedNs);
    else takeSeveral(request, response, body, shape, receivedNs);
  };

  const takeOne = (request: IncomingMessage, response: ServerResponse, body: Buffer, receivedNs: bigint): void => {
    const { sender, origin } = peerOf(request.socket);
    rate.spend(sender, 1);
    const pushed = intake.push(body.toString('utf8'), sourceName, origin, receivedNs);
    if (pushed === 'queued') slots.prove(rawOf(request.socket));
    else if (pushed !== 'shed') say400(request, pushed.problem);
    answer(request, response, replyToOne(pushed));
  };

  /** `given` null: that is known when it is inflated. */
  const takeSeveral = (
    request: IncomingMessage,
    response: ServerResponse,
    body: Buffer,
    given: Exclude<BodyShape, 'one'> | null,
    receivedNs: bigint,
  ): void => {
    const peer = peerOf(request.socket);
    const reply = (it: Reply): void => answer(request, response, it);
    const push = (text: string): Pushed => intake.push(text, sourceName, peer.origin, receivedNs);

    const end = (tally: Tally, isTooMany: boolean): void => {
      rate.spend(peer.sender, tally.looked);
      if (tally.firstProblem !== null) say400(request, tally.firstProblem);
      if (tally.queued > 0) slots.prove(rawOf(request.socket));
      reply(tally.reply(isTooMany));
    };

    /** Yields after each of them; what it returns is whether there were more than may be. */
    function* takeApart(whole: Buffer, shape: Exclude<BodyShape, 'one'>, tally: Tally): Generator<void, boolean> {
      for (const element of elementsOf(whole, shape)) {
        if (tally.looked >= limits.maxAlerts) {
          const problem = `a body has at most ${limits.maxAlerts} alerts: the rest was not looked at`;
          intake.countBad(sourceName, { isTooLong: true });
          tally.add({ problem });
          return true;
        }
        if ('problem' in element) {
          intake.countBad(sourceName);
          tally.add(element);
        } else {
          tally.add(push(whole.toString('utf8', element.from, element.to)));
        }
        yield;
      }
      return false;
    }

    const inSlices = async (whole: Buffer, shape: BodyShape): Promise<void> => {
      if (shape === 'one') {
        takeOne(request, response, whole, receivedNs);
        return;
      }
      const tally = new Tally();
      const parts = takeApart(whole, shape, tally);
      let until = performance.now() + sliceMs;
      for (;;) {
        const { done, value } = parts.next();
        if (done === true) {
          end(tally, value);
          return;
        }
        if (performance.now() < until) continue;
        await nextRound();
        if (isCut) return;
        until = performance.now() + sliceMs;
      }
    };

    if (given !== null && body.length <= smallBody) {
      const tally = new Tally();
      const parts = takeApart(body, given, tally);
      let step = parts.next();
      while (step.done !== true) step = parts.next();
      end(tally, step.value);
    } else {
      const isTaken = turns.add(body.length, async () => {
        if (isCut) return;
        if (given !== null) {
          await inSlices(body, given);
          return;
        }
        const inflated = await inflate(body, limits.maxBody);
        if (isCut) return;
        if (Buffer.isBuffer(inflated)) {
          await inSlices(inflated, shapeOf(inflated));
          return;
        }
        const isTooLarge = inflated === 'too_large';
        intake.countBad(sourceName, { isTooLong: isTooLarge });
        const problem = isTooLarge ? 'more comes out of the gzip than a body may have' : 'the gzip is broken';
        say400(request, problem);
        reply({ status: isTooLarge ? 413 : 400, text: problem, headers: {} });
      });
      if (isTaken) return;
      counts.overloaded++;
      reply(overloaded);
    }
  };

  const serverOptions: ServerOptions = {
    maxHeaderSize: limits.maxHeader,
    headersTimeout: Math.min(limits.headersMs, limits.requestMs),
    requestTimeout: limits.requestMs,
    keepAliveTimeout: limits.keepAliveMs,
    connectionsCheckingInterval: Math.max(20, Math.min(1_000, Math.floor(limits.headersMs / 4))),
    noDelay: true,
  };
  const tlsServer =
    tls === null
      ? null
      : createTlsServer({
          ...serverOptions,
          ...secureOptions(tls),
          handshakeTimeout: limits.headersMs,
          requestCert: tls.clientCa !== null,
          rejectUnauthorized: tls.clientCa !== null,
        });
  const server: Server = tlsServer ?? createServer(serverOptions);
  const slots = new Slots(limits.maxConnections, () => server.closeIdleConnections());
  server.on('connection', (socket: Socket) => slots.take(socket));
  // TLS makes a socket of its own over the one that takes the slot; they have their ends in common.
  const plain = new Map<string, { readonly socket: Socket; readonly generation: number }>();
  const carriers = new WeakMap<Socket, Socket>();
  const rawOf = (socket: Socket): Socket => carriers.get(socket) ?? socket;
  if (tlsServer !== null) {
    tlsServer.on('connection', (socket: Socket) => {
      const ends = endsOf(socket);
      plain.set(ends, { socket, generation });
      socket.once('close', () => plain.delete(ends));
    });
    tlsServer.on('secureConnection', (socket: TLSSocket) => {
      const raw = plain.get(endsOf(socket));
      if (raw === undefined) return;
      carriers.set(socket, raw.socket);
      // Its certificates are those of when it connected, however long the handshake took.
      peers.set(socket, { ...peerOf(socket), generation: raw.generation });
    });
    tlsServer.on('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) => {
      counts.handshakes++;
      complaints.about('TLS with a sender failed', () => ({
        from: socket.remoteAddress ?? null,
        problem: tlsProblem(error, socket),
      }));
      socket.destroy();
    });
  }
  // Who does not read its answers holds no connection either.
  server.timeout = limits.requestMs * 2;
  const refuse = (request: IncomingMessage): Refusal | null => {
    const { sender } = peerOf(request.socket);
    return refusalOf(request, limits, access, () => rate.wait(sender));
  };
  server.on('request', (request: IncomingMessage, response: ServerResponse) =>
    serve(request, response, refuse(request)),
  );
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    const refusal = refuse(request);
    if (refusal === null) response.writeContinue();
    // Told no, the sender may leave its body out: what comes next would be read as the body.
    else response.shouldKeepAlive = false;
    serve(request, response, refusal);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    if (error.code === 'ECONNRESET' || !socket.writable) {
      socket.destroy();
      return;
    }
    const status = statusOf[error.code ?? ''] ?? '400 Bad Request';
    const end = (): void => {
      socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
    };
    // What came whole before it is answered first, or its sender would take this for the answer.
    const before = [...peerOf(socket).unanswered].findLast(({ req }) => req.complete);
    if (before === undefined) end();
    else before.once('close', end);
  });

  let removeSocket = (): void => undefined;
  if (isUnix)
    removeSocket = await listenUnix(server, { path: options.socket, gid: options.gid, setting: 'http.socket' });
  else await listenTcp(server, options);
  const bound = server.address() as AddressInfo | string;
  return {
    name: sourceName,
    ...(isUnix || typeof bound === 'string'
      ? { address: isUnix ? options.socket : '', port: 0 }
      : { address: bound.address, port: bound.port }),
    counts: () => ({ ...counts }),
    renew: ({ credentials: fresh, tls: material }) => {
      if (isUnix) return;
      requireAuthentication(options.address, fresh, tls !== null && tls.clientCa !== null);
      if (tlsServer !== null && material !== null) {
        requireTls(material);
        tlsServer.setSecureContext(secureOptions(material));
      }
      access = openAccess(fresh);
      generation++;
      server.closeIdleConnections();
    },
    close: (graceMs) => {
      isClosing = true;
      complaints.end();
      removeSocket();
      removeSocket = () => undefined;
      return new Promise((resolve) => {
        const cut = setTimeout(() => {
          isCut = true;
          server.closeAllConnections();
          slots.cutAll();
        }, graceMs);
        server.close(() => {
          clearTimeout(cut);
          resolve();
        });
      });
    },
  };
}

const statusOf: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

interface Refusal extends Reply {
  /** True when it counts as a bad alert. */
  readonly isBody?: boolean;
  readonly cause?: 'missing' | 'wrong' | 'limited';
}

const tooLarge = (limits: HttpLimits): Refusal => ({
  status: 413,
  text: `a body has at most ${limits.maxBody} bytes`,
  headers: {},
  isBody: true,
});

const overRate = (seconds: number): Refusal => ({
  status: 429,
  text: 'that are more alerts than one sender may send',
  headers: { 'retry-after': String(seconds) },
  cause: 'limited',
});

/** What can be said from the headers alone; null = go on. */
function refusalOf(
  request: IncomingMessage,
  limits: HttpLimits,
  access: Access,
  secondsToWait: () => number,
): Refusal | null {
  const { method, headers } = request;
  const path = pathOf(request.url ?? '');
  if (path === '/healthz' || path === '/readyz') {
    return method === 'GET' || method === 'HEAD' ? null : notAllowed('only GET', 'GET, HEAD');
  }
  // Before anything else, so that who is not admitted learns nothing.
  const admission = access.admit(request, path);
  if (admission !== 'admitted') {
    const { challenge } = access;
    if (challenge === null) return { status: 403, text: 'not for you', headers: {}, cause: admission };
    return { status: 401, text: 'who are you?', headers: { 'www-authenticate': challenge }, cause: admission };
  }
  if (!paths.has(path) && !access.isSecretPath(path)) {
    return { status: 404, text: 'alerts are POSTed to / or /falco', headers: {} };
  }
  if (method !== 'POST') return notAllowed('alerts are POSTed', 'POST');
  // Browsers always name the page that makes them POST; neither Falco nor falcosidekick is one. A page somebody opens on
  // this host must not be able to have an address blocked.
  if (headers.origin !== undefined) {
    return { status: 403, text: 'alerts are not taken from web pages', headers: {}, isBody: true };
  }
  if (encodingOf(request) === null) {
    const text = 'alerts are sent as they are, or gzipped';
    return { status: 415, text, headers: { 'accept-encoding': 'gzip, identity' }, isBody: true };
  }
  if (Number(headers['content-length'] ?? 0) > limits.maxBody) return tooLarge(limits);
  const seconds = secondsToWait();
  return seconds > 0 ? overRate(seconds) : null;
}

function notAllowed(text: string, allow: string): Refusal {
  return { status: 405, text, headers: { allow } };
}

function pathOf(url: string): string {
  const query = url.indexOf('?');
  return query < 0 ? url : url.slice(0, query);
}

/** null: one that is not understood. */
function encodingOf({ headers }: IncomingMessage): 'identity' | 'gzip' | null {
  const encoding = headers['content-encoding'];
  if (encoding === undefined) return 'identity';
  const named = encoding.trim().toLowerCase();
  if (named === 'gzip' || named === 'x-gzip') return 'gzip';
  return named === 'identity' || named === '' ? 'identity' : null;
}

function health(url: string, isClosing: boolean, notReady: () => string | null): Reply {
  if (pathOf(url) === '/healthz') return { status: 200, text: 'ok', headers: {} };
  const why = isClosing ? 'stopping' : notReady();
  if (why === null) return { status: 200, text: 'ready', headers: {} };
  return { status: 503, text: why, headers: { 'retry-after': '1' } };
}

const nothing = Buffer.alloc(0);

/** Calls back once: with the whole body and the time of its last byte, or with null as soon as it is too large. */
function receive(
  request: IncomingMessage,
  limits: HttpLimits,
  done: (body: Buffer | null, receivedNs: bigint) => void,
): void {
  let held: Buffer = nothing;
  let size = 0;
  let receivedNs = process.hrtime.bigint();
  let isDone = false;
  request.on('data', (chunk: Buffer) => {
    if (isDone) return;
    receivedNs = process.hrtime.bigint();
    const before = size;
    size += chunk.length;
    if (size <= limits.maxBody) {
      // Nearly all come whole.
      held = before === 0 ? chunk : joined(held, before, chunk, limits.maxBody);
      return;
    }
    isDone = true;
    held = nothing;
    done(null, receivedNs);
  });
  request.on('end', () => {
    if (isDone) return;
    isDone = true;
    done(held.subarray(0, size), receivedNs);
  });
}

function discard(request: IncomingMessage, mostBytes: number): void {
  let excess = 0;
  request.on('data', (chunk: Buffer) => {
    excess += chunk.length;
    if (excess > mostBytes) request.socket.destroy();
  });
}

const endsOf = (socket: Socket): string => `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress}`;

const tlsProblems: Readonly<Record<string, string>> = {
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'it showed no certificate',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is of another CA',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate is of another CA',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is of another CA',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is of another CA',
  ERR_SSL_HTTP_REQUEST: 'it speaks plain HTTP',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'it did not finish its handshake',
  ECONNRESET: 'it went away',
};

function tlsProblem(error: NodeJS.ErrnoException, socket: TLSSocket): string {
  // What Node calls an error is a code (`X509_V_ERR_…` without its beginning).
  const code = String(socket.authorizationError ?? error.code ?? error.message);
  return tlsProblems[code] ?? code;
}
