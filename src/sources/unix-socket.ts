/** The place of a unix socket that this process listens at: taken when it is free, whole or not at all. */
import { chmodSync, chownSync, lstatSync, renameSync, rmSync, statSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { FalcodropError } from '../errors.ts';

export interface UnixPlace {
  /** Absolute. */
  readonly path: string;
  /** Whose members may connect beside our own user; null: the group that the directory or this process gives. */
  readonly gid: number | null;
  /** Whether a socket that another user left there is replaced too: in a directory that is ours alone. */
  readonly replacesOthers?: boolean;
  /** What names another place: the rest of "let … name another". */
  readonly setting: string;
}

/** `sun_path` of sockaddr_un has 108 bytes, the last one NUL; libuv would cut a longer one off. */
const longestPath = 107;

/**
 * Bound under another name, given its mode (0660) and group and renamed into place: nobody meets it half made, and what a killed
 * process left is replaced. Rejects with `listen_failed`: somebody answers there, something else lies there, it is another
 * user's, or the system refuses. Resolves to what takes the socket away again where it is still ours.
 */
export async function listenUnix(server: Server, place: UnixPlace): Promise<() => void> {
  const { path, gid, setting } = place;
  const fresh = join(dirname(path), `.${basename(path)}.${process.pid}`);
  if (Buffer.byteLength(fresh) > longestPath) {
    const message = `${fresh} is too long for the name of a socket (${longestPath} bytes)`;
    throw new FalcodropError('listen_failed', message, `let ${setting} name a shorter one`);
  }
  try {
    await requireFree(place);
    rmSync(fresh, { force: true });
    await bind(server, fresh);
    if (gid !== null && lstatSync(fresh).gid !== gid) chownSync(fresh, -1, gid);
    chmodSync(fresh, 0o660);
    const { ino } = lstatSync(fresh);
    renameSync(fresh, path);
    return () => {
      if (lstatSync(path, { throwIfNoEntry: false })?.ino === ino) rmSync(path, { force: true });
    };
  } catch (error) {
    if (server.listening) {
      server.close();
      rmSync(fresh, { force: true });
    }
    if (error instanceof FalcodropError) throw error;
    const { code = '', message } = error as NodeJS.ErrnoException;
    throw code === 'EACCES'
      ? new FalcodropError(
          'listen_failed',
          `${path}: this user may make no socket there`,
          `give the service its directory, or let ${setting} name another`,
          error,
        )
      : new FalcodropError('listen_failed', `${path}: ${message}`, undefined, error);
  }
}

/** Whether somebody accepts connections there. */
export function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Nothing is there, or a socket of our own that nobody listens at. */
async function requireFree({ path, replacesOthers = false, setting }: UnixPlace): Promise<void> {
  // libuv calls it EACCES.
  if (statSync(dirname(path), { throwIfNoEntry: false }) === undefined) {
    const hint = `make the directory, or let ${setting} name another`;
    throw new FalcodropError('listen_failed', `${path}: there is no such directory`, hint);
  }
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined) return;
  if (!status.isSocket()) throw new FalcodropError('listen_failed', `${path} is there, and no socket`, 'remove it');
  const uid = process.geteuid?.() ?? 0;
  if (!replacesOthers && status.uid !== uid) {
    throw new FalcodropError(
      'listen_failed',
      `${path} is the socket of somebody else (uid ${status.uid}, not ${uid})`,
      `remove it if nobody needs it, or let ${setting} name another`,
    );
  }
  if (!(await isAnswered(path))) return;
  throw new FalcodropError('listen_failed', `another daemon answers at ${path}`, 'one is enough: stop that one');
}

function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      // EMFILE and the like on accept: the connection waits in the kernel, those we have go on.
      server.on('error', () => undefined);
      resolve();
    });
  });
}
