/**
 * One connection to Falco's gRPC server (0.43 and older), until it breaks: never opened again by itself, for before each opening the
 * socket's owner is looked at.
 *
 * Falco has one queue for all of its clients, and takes an alert out of it before it writes it. `sub` writes until the queue is
 * empty and looks again only when the client sends a message: hence the steady empty requests.
 */
import { isIP } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import {
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { SocketCredentials } from './credentials.ts';
import { readVersionMessage } from './message.ts';

/** Where Falco listens. */
export type FalcoAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** Each is PEM. */
export interface Tls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** That Falco's certificate is for, where that is not the host it is reached by. */
  readonly name: string | null;
}

export interface Taker {
  /** False when there is no room for this message yet. */
  readonly take: (message: Buffer) => boolean;
  /** Resolves when it was taken. Nothing more is read meanwhile. */
  readonly takeLater: (message: Buffer) => Promise<void>;
}

/** Bytes of a message; a larger one ends its stream. Alerts are some kilobytes. */
const largestMessage = 16 << 20;

/** Of a call that came nowhere; with any other answer there is a server. */
const lost: ReadonlySet<status> = new Set([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.CANCELLED,
  status.UNAUTHENTICATED,
  status.PERMISSION_DENIED,
]);

/** A gRPC server of C++ closes a connection that pings more often than every five minutes. */
const keepAlive = { everyMs: 330_000, answerMs: 20_000 };

const serialize = (): Buffer => Buffer.alloc(0);
/** Read later, each by itself: what is thrown here would end the stream. */
const deserialize = (bytes: Buffer): Buffer => bytes;

export class FalcoConnection {
  readonly #client: Client;
  readonly #credentials: SocketCredentials;
  #call: ClientReadableStream<Buffer> | null = null;
  #sub: ClientDuplexStream<null, Buffer> | null = null;
  #requests: NodeJS.Timeout | null = null;
  #isFinishing = false;

  /** Throws where the TLS library can not read a certificate or key. */
  constructor(address: FalcoAddress, tls: Tls | null) {
    const target = 'path' in address ? `unix:${address.path}` : `dns:///${bracketed(address.host)}:${address.port}`;
    const name = tls === null || 'path' in address ? null : (tls.name ?? address.host);
    this.#credentials = new SocketCredentials(
      tls === null
        ? credentials.createInsecure()
        : credentials.createSsl(Buffer.from(tls.ca), Buffer.from(tls.key), Buffer.from(tls.cert), {
            checkServerIdentity: (host, certificate) => checkServerIdentity(name ?? host, certificate),
          }),
    );
    this.#client = new Client(target, this.#credentials, {
      'grpc.max_receive_message_length': largestMessage,
      'grpc.enable_http_proxy': 0,
      'grpc.service_config_disable_resolution': 1,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_retries': 0,
      'grpc.enable_channelz': 0,
      'grpc.keepalive_time_ms': keepAlive.everyMs,
      'grpc.keepalive_timeout_ms': keepAlive.answerMs,
      // RFC 6066 knows no addresses as names.
      ...(name === null ? {} : { 'grpc.ssl_target_name_override': isIP(name) === 0 ? name : 'falco' }),
    });
  }

  /** Falco's version; null from a server that tells none. Rejects with a ServiceError when there is no connection. */
  version(withinMs: number): Promise<string | null> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest<null, Buffer>(
        '/falco.version.service/version',
        serialize,
        deserialize,
        null,
        new Metadata(),
        { deadline: Date.now() + withinMs },
        (error, reply) => {
          if (error === null) resolve(reply === undefined ? null : readVersionMessage(reply));
          else if (lost.has(error.code)) reject(error);
          else resolve(null);
        },
      );
    });
  }

  /** Takes what waits in Falco's queue now; false from a server that has no such call. Rejects with a ServiceError. */
  async drain(taker: Taker): Promise<boolean> {
    if (this.#isFinishing) return false;
    const call = this.#client.makeServerStreamRequest<null, Buffer>(
      '/falco.outputs.service/get',
      serialize,
      deserialize,
      null,
    );
    this.#call = call;
    try {
      await readAll(call, taker);
      return true;
    } catch (error) {
      if ((error as ServiceError).code === status.UNIMPLEMENTED) return false;
      throw error;
    } finally {
      this.#call = null;
    }
  }

  /** Takes what comes, asking every so many milliseconds; resolves when Falco ends it, rejects with a ServiceError. */
  async subscribe(taker: Taker, everyMs: number): Promise<void> {
    if (this.#isFinishing) return;
    const sub = this.#client.makeBidiStreamRequest<null, Buffer>('/falco.outputs.service/sub', serialize, deserialize);
    this.#call = sub;
    this.#sub = sub;
    // Not while nothing is read, nor while Falco does not read: they would only pile up.
    const ask = (): void => {
      if (!sub.isPaused() && sub.writableLength === 0) sub.write(empty);
    };
    this.#requests = setInterval(ask, everyMs);
    const over = readAll(sub, taker);
    ask();
    try {
      await over;
    } finally {
      clearInterval(this.#requests);
      this.#call = null;
      this.#sub = null;
    }
  }

  /** Asks for no more and takes what is on its way, for at most so long: Falco goes on until its queue is empty. */
  finish(graceMs: number): void {
    if (this.#isFinishing) return;
    this.#isFinishing = true;
    if (this.#requests !== null) clearInterval(this.#requests);
    this.#sub?.end();
    const call = this.#call;
    if (call === null) this.close();
    else setTimeout(() => call.cancel(), graceMs).unref();
  }

  close(): void {
    this.#call?.cancel();
    this.#client.close();
    this.#credentials.closeSockets();
  }
}

/** Anything but null and undefined, which end a stream; it is sent as no bytes at all. */
const empty = {} as unknown as null;

/**
 * Resolves when the call has ended well, rejects with its ServiceError; not before every message that came before its end was
 * taken.
 */
function readAll(call: ClientReadableStream<Buffer>, { take, takeLater }: Taker): Promise<void> {
  return new Promise((resolve, reject) => {
    let failure: ServiceError | null = null;
    call.on('data', (message: Buffer) => {
      if (take(message)) return;
      call.pause();
      void takeLater(message).then(() => call.resume());
    });
    call.on('error', (error: ServiceError) => {
      failure = error;
    });
    call.on('end', () => {
      if (failure === null) resolve();
      else reject(failure);
    });
  });
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
