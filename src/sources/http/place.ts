/** Where it listens: an address and a port, or a unix socket. */
import { chmodSync, chownSync, lstatSync, renameSync, rmSync, statSync } from 'node:fs';
import type { Server } from 'node:http';
import { connect } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { FalcodropError } from '../../errors.ts';

export interface TcpPlace {
  /** An IP address. */
  readonly address: string;
  /** 0 takes a free one. */
  readonly port: number;
}

export interface UnixPlace {
  /** Absolute. */
  readonly socket: string;
  /** Whose members may send; null: the group that this process runs with. */
  readonly gid: number | null;
}

/** Rejects with `listen_failed`. */
export async function listenTcp(server: Server, { address, port }: TcpPlace): Promise<void> {
  await listen(server, { host: address, port, exclusive: true }, ({ code = '', message }) => {
    const [sentence, hint] = whyNotListening[code] ?? [message, undefined];
    return [`HTTP on ${address} port ${port}: ${sentence}`, hint];
  });
}

/** `sun_path` of sockaddr_un has 108 bytes, the last one NUL; libuv would cut a longer one off. */
const longestPath = 107;

/**
 * Bound under another name, given its mode and group and renamed into place: nobody meets it half made, and what a killed daemon
 * left is replaced. Who may open it (0660) may send: that is its authentication. Rejects with `listen_failed`. Resolves to what
 * takes the socket away again, where it is still ours.
 */
export async function listenUnix(server: Server, { socket, gid }: UnixPlace): Promise<() => void> {
  const fresh = join(dirname(socket), `.${basename(socket)}.${process.pid}`);
  if (Buffer.byteLength(fresh) > longestPath) {
    throw new FalcodropError(
      'listen_failed',
      `${fresh} is too long for the name of a socket (${longestPath} bytes)`,
      'let http.socket name a shorter one',
    );
  }
  await requirePlace(socket);
  rmSync(fresh, { force: true });
  await listen(server, { path: fresh }, ({ code = '', message }) => {
    const [sentence, hint] = whyNoSocket[code] ?? [message, undefined];
    return [`${socket}: ${sentence}`, hint];
  });
  try {
    if (gid !== null && lstatSync(fresh).gid !== gid) chownSync(fresh, -1, gid);
    chmodSync(fresh, 0o660);
    const { ino } = lstatSync(fresh);
    renameSync(fresh, socket);
    return () => {
      if (lstatSync(socket, { throwIfNoEntry: false })?.ino === ino) rmSync(socket, { force: true });
    };
  } catch (error) {
    server.close();
    rmSync(fresh, { force: true });
    const { message } = error as Error;
    throw new FalcodropError('listen_failed', `${socket}: ${message}`, undefined, error);
  }
}

/** Nothing, or a socket of our own that nobody listens at. */
async function requirePlace(path: string): Promise<void> {
  let status: ReturnType<typeof lstatSync> | undefined;
  try {
    // libuv calls it EACCES.
    if (statSync(dirname(path), { throwIfNoEntry: false }) === undefined) {
      const hint = 'make the directory, or let http.socket name another';
      throw new FalcodropError('listen_failed', `${path}: there is no such directory`, hint);
    }
    status = lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if (error instanceof FalcodropError) throw error;
    throw new FalcodropError('listen_failed', `${path}: ${(error as Error).message}`, undefined, error);
  }
  if (status === undefined) return;
  if (!status.isSocket()) throw new FalcodropError('listen_failed', `${path} is there, and no socket`, 'remove it');
  const uid = process.geteuid?.() ?? 0;
  if (status.uid !== uid) {
    throw new FalcodropError(
      'listen_failed',
      `${path} is the socket of somebody else (uid ${status.uid}, not ${uid})`,
      'remove it if nobody needs it, or let http.socket name another',
    );
  }
  if (!(await isAnswered(path))) return;
  throw new FalcodropError('listen_failed', `another daemon answers at ${path}`, 'one is enough: stop that one');
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function listen(
  server: Server,
  at: { readonly host: string; readonly port: number; readonly exclusive: boolean } | { readonly path: string },
  explain: (error: NodeJS.ErrnoException) => readonly [message: string, hint: string | undefined],
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const [message, hint] = explain(error);
      reject(new FalcodropError('listen_failed', message, hint, error));
    });
    server.listen(at, () => {
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
  EADDRNOTAVAIL: ['this host does not have that address', 'set http.address to one it has, or to 127.0.0.1'],
};

const whyNoSocket: Readonly<Record<string, readonly [sentence: string, hint: string]>> = {
  EACCES: ['this user may make no socket there', 'give the service its directory, or let http.socket name another'],
};
