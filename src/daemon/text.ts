/**
 * Text of alerts, on its way to a log that somebody reads on a terminal. JSON escapes C0 control characters; DEL, the C1
 * controls (U+009B begins an escape sequence), line separators, and format characters (bidirectional marks and overrides,
 * zero width, tags) pass through it, so they are made visible here.
 */
import type { Say } from '../sources/lines/feed.ts';
import type { Logger } from './log.ts';

const hidden = /[\u007f-\u009f\p{Cf}\p{Co}\p{Zl}\p{Zp}]/gu;

/** At most `longest` UTF-16 units, then an ellipsis. */
export function cleanText(text: string, longest: number): string {
  const short = text.length > longest ? `${text.slice(0, longest).replace(/[\ud800-\udbff]$/, '')}…` : text;
  return short.replace(hidden, (found) =>
    Array.from({ length: found.length }, (_, at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, '0')}`).join(
      '',
    ),
  );
}

/** What a source says, into the log; texts in it are others'. */
export function sayTo(logger: Logger): Say {
  return (level, message, details) => logger[level](cleanDetails(details), message);
}

function cleanDetails(details: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(details).map(([key, value]) => [key, typeof value === 'string' ? cleanText(value, 500) : value]),
  );
}
