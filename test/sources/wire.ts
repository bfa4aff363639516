/** Raw sockets and the recorded requests, for tests of what goes over the wire. */
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';

/** Requests with their headers, byte for byte; Content-Length cuts the body off the file's own line ends. */
export function requests(name: 'http-0.43' | 'sidekick-2.34'): Buffer[] {
  const file = new URL(`../fixtures/alerts/${name}.requests.txt`, import.meta.url);
  return readFileSync(file, 'latin1')
    .split(/^=====\n/m)
    .filter((request) => request.trim() !== '')
    .map((request) => {
      const head = request.indexOf('\r\n\r\n') + 4;
      const length = Number(/^content-length: (\d+)\r$/im.exec(request)?.[1]);
      const bytes = Buffer.from(request.slice(0, head + length), 'latin1');
      if (bytes.length !== head + length) throw new Error(`a request of ${name} is cut`);
      return bytes;
    });
}

export const bodyOf = (request: Buffer): string => request.subarray(request.indexOf('\r\n\r\n') + 4).toString('utf8');

export interface Answer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

export interface Wire {
  readonly socket: Socket;
  send(bytes: Buffer | string): void;
  /** The next answer; rejects when the connection ends before it. */
  answer(): Promise<Answer>;
  /** Resolves when the other side has ended it. */
  readonly closed: Promise<void>;
  close(): void;
}

export function openWire(port: number, host = '127.0.0.1'): Promise<Wire> {
  return wireOver(connect({ port, host, noDelay: true }), 'connect');
}

export function openUnixWire(path: string): Promise<Wire> {
  return wireOver(connect(path), 'connect');
}

/** Rejects when the handshake fails; with TLS 1.3 a client hears of its certificate only after it. */
export function openTlsWire(port: number, options: ConnectionOptions): Promise<Wire> {
  return wireOver(connectTls({ port, host: '127.0.0.1', ...options }), 'secureConnect');
}

async function wireOver(socket: Socket, opened: 'connect' | 'secureConnect'): Promise<Wire> {
  let received = '';
  let isOver = false;
  let wake: () => void = () => undefined;
  socket.setEncoding('latin1');
  socket.on('data', (text: string) => {
    received += text;
    wake();
  });
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => {
    socket.on('close', () => {
      isOver = true;
      wake();
      resolve();
    });
  });
  await new Promise<void>((resolve, reject) => {
    socket.once(opened, resolve);
    socket.once('error', reject);
  });
  return {
    socket,
    closed,
    send: (bytes) => {
      socket.write(bytes);
    },
    answer: async () => {
      for (;;) {
        const end = received.indexOf('\r\n\r\n');
        const head = received.slice(0, Math.max(0, end));
        const length = Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? 0);
        if (end >= 0 && received.length >= end + 4 + length) {
          const body = received.slice(end + 4, end + 4 + length);
          received = received.slice(end + 4 + length);
          return { status: Number(head.split(' ')[1]), head, body };
        }
        if (isOver) throw new Error(`closed after ${JSON.stringify(received)}`);
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    close: () => {
      socket.destroy();
    },
  };
}

export function post(body: string | Buffer, { path = '/', headers = '' } = {}): Buffer {
  const bytes = Buffer.from(body);
  return Buffer.concat([
    Buffer.from(`POST ${path} HTTP/1.1\r\nHost: x\r\n${headers}Content-Length: ${bytes.length}\r\n\r\n`),
    bytes,
  ]);
}
