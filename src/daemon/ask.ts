/** Asking the running daemon over its socket. Nothing of what comes is believed: the service's user could be another's. */
import { connect } from 'node:net';
import { FalcodropError } from '../errors.ts';

/** `absent`: no daemon answers there; `ended`: one did, and closed. */
export type Asked = 'absent' | 'ended';

/** Characters of a line of the daemon's. */
const longestLine = 65_536;

/**
 * Sends `request` and hands each JSON object that comes to `onLine`, until the daemon closes or `signal` is aborted. Lines
 * that are no objects are passed over; one that is too long ends it. Throws `not_permitted`, and what `onLine` throws.
 */
export function askDaemon(
  path: string,
  request: object,
  onLine: (line: Readonly<Record<string, unknown>>) => void,
  signal: AbortSignal,
): Promise<Asked> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      resolve('absent');
      return;
    }
    const socket = connect(path);
    let asked: Asked = 'absent';
    let rest = '';
    const stop = (): void => void socket.destroy();
    signal.addEventListener('abort', stop);
    socket.setEncoding('utf8');
    socket.once('connect', () => {
      asked = 'ended';
      socket.write(`${JSON.stringify(request)}\n`);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EACCES' && error.code !== 'EPERM') return;
      const hint = 'run it as root, as the service user or as a member of its group';
      reject(new FalcodropError('not_permitted', `${path} may not be opened by this user`, hint, error));
    });
    socket.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > longestLine) socket.destroy();
      try {
        for (const line of lines) {
          const object = objectOf(line);
          if (object !== null && !signal.aborted) onLine(object);
        }
      } catch (error) {
        reject(error);
        socket.destroy();
      }
    });
    socket.once('close', () => {
      signal.removeEventListener('abort', stop);
      resolve(asked);
    });
  });
}

function objectOf(line: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
