/** Falco's unix socket, looked at from outside. It has no authentication: who owns the path says what we are told. */
import type { Stats } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';

/** Why a socket is not to be connected to. */
export interface NotUsable {
  readonly problem: string;
  readonly hint: string;
}

/** Null: it is there, and root's or that of the user `ourUid`. Never rejects. */
export async function socketProblem(path: string, ourUid: number): Promise<NotUsable | null> {
  let status: Stats;
  try {
    status = await stat(path);
  } catch (error) {
    return unseen(error);
  }
  if (!status.isSocket()) {
    return { problem: 'it is no socket', hint: 'grpc.bind_address in falco.yaml names it' };
  }
  if (status.uid === 0 || status.uid === ourUid) return null;
  return {
    problem: `the socket belongs to user ${status.uid}, and Falco is root's: alerts from there are not believed`,
    hint: 'whoever made it could have any address blocked: see who it is, and restart Falco',
  };
}

const sentences: Readonly<Record<string, NotUsable>> = {
  ENOENT: {
    problem: 'the socket is not there yet',
    hint: 'grpc: { enabled: true } in falco.yaml makes it; Falco 0.44 has no gRPC any more',
  },
  ENOTDIR: { problem: 'its path leads through what is no directory', hint: 'grpc.bind_address in falco.yaml names it' },
  EACCES: { problem: 'its directory may not be entered', hint: 'let the user of the service enter it' },
};

function unseen(error: unknown): NotUsable {
  const { code = '', message } = error as NodeJS.ErrnoException;
  return sentences[code] ?? { problem: message, hint: 'grpc.bind_address in falco.yaml names it' };
}

/** SS_CONNECTED of uapi/linux/net.h. */
const connected = '03';

/** /var/run is a link to /run; each Falco writes one of them. */
const short = (path: string): string => path.replace(/^\/var\/run\//, '/run/');

/**
 * How many clients have a connection to the socket at `path`, ours among them, of /proc/net/unix: an accepted socket has the path of
 * the one it came by. Null when that can not be told: Falco listens in another network namespace, or by another path.
 */
export async function clientsOf(path: string, table = '/proc/net/unix'): Promise<number | null> {
  let text: string;
  try {
    text = await readFile(table, 'utf8');
  } catch {
    return null;
  }
  let clients = 0;
  for (const line of text.split('\n')) {
    // Num RefCount Protocol Flags Type St Inode Path; a path may hold spaces.
    const [, state, name] = /^\S+ \S+ \S+ \S+ \S+ (\S+) +\d+ (.*)$/.exec(line) ?? [];
    if (state === connected && name !== undefined && short(name) === short(path)) clients++;
  }
  return clients === 0 ? null : clients;
}
