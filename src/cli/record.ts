/** What hands do, in the system's log: who, what, and the reason that was given. The maps hold no text. */
import { formatPrefix } from '../address/prefix.ts';
import type { Claims } from '../blocklist/claims.ts';
import { native } from '../kernel/native.ts';
import { formatDuration } from '../time/duration.ts';
import { clean } from './output/clean.ts';

/** Facility daemon (3), severity notice (5): RFC 5424 table 1 and 2. */
const priority = 3 * 8 + 5;

/** Where syslogd and journald listen. */
const defaultSocket = '/dev/log';

/** Characters; a datagram to a log may be as short as 1024 bytes (RFC 3164 4.1). */
const longest = 900;

/**
 * One datagram a change, RFC 3164 as the C library writes it. It never waits, for the lock is held meanwhile: a log that is
 * full, or not there, loses the line.
 */
export function systemLog(socket: string = defaultSocket): Claims {
  const write = (text: string): void => {
    const line = clean(`uid ${process.getuid?.()}: ${text}`, longest);
    try {
      native().sendUnixDatagram(socket, Buffer.from(`<${priority}>falcodrop[${process.pid}]: ${line}`));
    } catch {
      // nobody listens
    }
  };
  return {
    made: ({ target, mode, seconds, reason }) => {
      const how = mode === 'monitor' ? 'watch' : 'block';
      const long = seconds === null ? 'for ever' : `for ${formatDuration(seconds)}`;
      write(`${how} ${formatPrefix(target)} ${long}${reason === null ? '' : `: ${reason}`}`);
    },
    withdrawn: (target) => write(`unblock ${formatPrefix(target)}`),
  };
}
