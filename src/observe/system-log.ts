/** The system's log: journald where it runs, with fields to search by; else whoever listens on /dev/log. */
import { native } from '../kernel/native.ts';
import type { AuditLine } from './audit-line.ts';
import { harmless } from './text.ts';

export interface LogSockets {
  readonly journal: string;
  readonly syslog: string;
}

export const defaultSockets: LogSockets = { journal: '/run/systemd/journal/socket', syslog: '/dev/log' };

/** RFC 5424 6.2.1: daemon. */
const facility = 3;
const notice = 5;

/** Characters; a datagram to a log may be as short as 1024 bytes (RFC 3164 4.1). */
const longestMessage = 900;
const longestField = 1024;

/**
 * One datagram. It never waits, for the lock may be held meanwhile: a log that is full, or not there, loses the line, and
 * false is returned.
 */
export function tellSystemLog(message: string, line: AuditLine, sockets: LogSockets = defaultSockets): boolean {
  const text = harmless(message, longestMessage);
  return (
    send(sockets.journal, () => journalEntry(text, line)) ||
    send(sockets.syslog, () => `<${facility * 8 + notice}>falcodrop[${process.pid}]: ${text}`)
  );
}

/** systemd.io/JOURNAL_NATIVE_PROTOCOL: a field a line. No value holds a line feed, for it has been made harmless. */
export function journalEntry(message: string, line: AuditLine): string {
  const fields = [
    ['MESSAGE', message],
    ['PRIORITY', String(notice)],
    ['SYSLOG_FACILITY', String(facility)],
    ['SYSLOG_IDENTIFIER', 'falcodrop'],
    ['SYSLOG_PID', String(process.pid)],
    ...Object.entries(line).map(([name, value]) => [fieldName(name), harmless(String(value), longestField)]),
  ];
  return fields.map(([name, value]) => `${name}=${value}\n`).join('');
}

/** `event.action` → `FALCODROP_EVENT_ACTION`: A to Z, digits and underscores, at most 64. */
function fieldName(name: string): string {
  const word = name.replace(/^falcodrop\./, '').replaceAll(/[^a-z0-9]+/gi, '_');
  return `FALCODROP_${word.replace(/^_/, '').toUpperCase()}`.slice(0, 64);
}

/** Nobody listened there: when it is tried again, in ms of `performance.now`. A failed try costs more than one that works. */
const quietUntil = new Map<string, number>();
const quietMs = 1_000;

function send(socket: string, text: () => string): boolean {
  if ((quietUntil.get(socket) ?? 0) > performance.now()) return false;
  try {
    native().sendUnixDatagram(socket, Buffer.from(text()));
    return true;
  } catch (error) {
    // A full queue may have room for the next line.
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') quietUntil.set(socket, performance.now() + quietMs);
    return false;
  }
}
