/**
 * A gRPC server that does with alerts what a Falco up to 0.43 does: one unbounded queue for all clients; an alert is taken out of
 * it before it is written, so that what was taken when a connection breaks is lost; `sub` writes until the queue is empty, and then
 * waits for the next message of its client.
 */
import { fileURLToPath } from 'node:url';
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const definition = loadSync(fileURLToPath(new URL('outputs.proto', import.meta.url)), { keepCase: true });

interface MessageType {
  readonly serialize: (message: object) => Buffer;
  readonly deserialize: (bytes: Buffer) => object;
}

function typeOf(name: string): MessageType {
  const type = definition[name];
  if (type === undefined || !('serialize' in type)) throw new Error(name);
  return type as MessageType;
}

/** `falco.outputs.response` of what proto-loader takes for one: enums by name, time as seconds and nanos. */
export const encodeAlert = typeOf('falco.outputs.response').serialize;
export const decodeResponse = typeOf('falco.outputs.response').deserialize;
const encodeVersion = typeOf('falco.outputs.version').serialize;

export interface FalcoOptions {
  /** `unix:///PATH`, `127.0.0.1:0`. */
  readonly listen: string;
  readonly credentials?: ServerCredentials;
  /** Null: such a call is unknown. */
  readonly version?: string | null;
  /** Calls there are; both, if not said. */
  readonly calls?: readonly ('sub' | 'get')[];
  /** Of one whose connections alone broke. */
  readonly queue?: Buffer[];
}

export interface FakeFalco {
  /** Not taken by anybody yet. May be pushed to at any time, and given to the next Falco. */
  readonly queue: Buffer[];
  readonly port: number;
  /** Messages of clients of `sub`, and how many of those are there. */
  readonly seen: { requests: number; subs: number };
  /** Breaks every connection at once, in the middle of whatever is written. */
  readonly kill: () => void;
}

const raw = (bytes: Buffer): Buffer => bytes;
const nothing = (): object => ({});

type Out = ServerDuplexStream<object, Buffer> | ServerWritableStream<object, Buffer>;

export async function startFalco({
  listen,
  credentials,
  version = '0.43.1',
  calls = ['sub', 'get'],
  queue = [],
}: FalcoOptions): Promise<FakeFalco> {
  const seen = { requests: 0, subs: 0 };
  const server = new Server({ 'grpc.max_send_message_length': -1 });

  const writeAll = async (call: Out): Promise<void> => {
    for (;;) {
      const message = call.cancelled ? undefined : queue.shift();
      if (message === undefined) return;
      await new Promise<void>((resolve) => {
        call.once('cancelled', resolve);
        call.write(message, () => resolve());
      });
      call.removeAllListeners('cancelled');
    }
  };

  const sub = async (call: ServerDuplexStream<object, Buffer>): Promise<void> => {
    call.on('error', () => undefined);
    seen.subs++;
    try {
      // Node 22 and 26 destroy a duplex stream whose readable side has been read to its end, before a status could be sent.
      for await (const _ of call.iterator({ destroyOnReturn: false })) {
        seen.requests++;
        await writeAll(call);
      }
    } catch {
      // the client went away
    }
    seen.subs--;
    // Falco ends no call in order: it drops its side.
    if (!call.cancelled) call.emit('error', { code: status.CANCELLED, details: '' });
  };
  const get = async (call: ServerWritableStream<object, Buffer>): Promise<void> => {
    call.on('error', () => undefined);
    await writeAll(call);
    call.end();
  };

  const plain = {
    requestSerialize: raw,
    requestDeserialize: nothing,
    responseSerialize: raw,
    responseDeserialize: raw,
  };
  if (calls.includes('sub')) {
    server.addService(
      { sub: { ...plain, path: '/falco.outputs.service/sub', requestStream: true, responseStream: true } },
      { sub: (call: ServerDuplexStream<object, Buffer>) => void sub(call) },
    );
  }
  if (calls.includes('get')) {
    server.addService(
      { get: { ...plain, path: '/falco.outputs.service/get', requestStream: false, responseStream: true } },
      { get: (call: ServerWritableStream<object, Buffer>) => void get(call) },
    );
  }
  if (version !== null) {
    server.addService(
      { version: { ...plain, path: '/falco.version.service/version', requestStream: false, responseStream: false } },
      {
        version: (_call: ServerUnaryCall<object, Buffer>, answer: sendUnaryData<Buffer>) =>
          answer(null, encodeVersion({ version, major: 0, minor: 43, patch: 1 })),
      },
    );
  }
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(listen, credentials ?? ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { queue, port, seen, kill: () => server.forceShutdown() };
}
