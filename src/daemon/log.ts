/** The daemon's log: JSON lines on stderr. */
import pino, { type DestinationStream, type Logger } from 'pino';

export type { Logger } from 'pino';

export interface Log {
  readonly logger: Logger;
  /** Writes what is still in memory; waits for it. */
  readonly flush: () => void;
}

/** Bytes in memory while nobody reads stderr; what comes then is dropped, for alerts go on. */
const longestBacklog = 4 << 20;

/**
 * Written by a thread of libuv's, never by the event loop: a terminal that is stopped, or a journal that hangs, must not
 * hold up an alert. `destination` instead of stderr is for tests.
 */
export function openLog(destination?: DestinationStream): Log {
  const options = {
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  if (destination !== undefined) return { logger: pino(options, destination), flush: () => undefined };
  const stderr = pino.destination({ dest: 2, sync: false, maxLength: longestBacklog });
  // Its reader is gone: there is nobody to tell.
  stderr.on('error', () => undefined);
  return {
    logger: pino(options, stderr),
    flush: () => {
      try {
        stderr.flushSync();
      } catch {
        // nobody reads it
      }
    },
  };
}
