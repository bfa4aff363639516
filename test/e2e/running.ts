/** A daemon that a test has started, and what it says. */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { canary, type Line } from '../daemon/double.ts';

export interface Run {
  readonly child: ChildProcess;
  /** What it has logged; a line that is no JSON is a message alone. */
  readonly lines: readonly Line[];
  /** The first line with that message and, if given, of that offender; or the first that fits. Rejects when it ends before. */
  said(wanted: string | ((line: Line) => boolean), offender?: string): Promise<Line>;
}

/** `child` logs to a pipe that nobody reads yet. */
export function listenTo(child: ChildProcess): Run {
  if (child.stderr === null) throw new Error('no pipe');
  const lines: Line[] = [];
  const waiting = new Set<() => void>();
  const wake = (): void => {
    for (const each of waiting) each();
    waiting.clear();
  };
  createInterface(child.stderr).on('line', (text) => {
    lines.push(text.startsWith('{') ? (JSON.parse(text) as Line) : { msg: text });
    wake();
  });
  child.on('close', wake);
  return {
    child,
    lines,
    said: async (wanted, offender) => {
      const fits =
        typeof wanted === 'string'
          ? (line: Line) => line.msg === wanted && (offender ?? line.offender) === line.offender
          : wanted;
      for (;;) {
        const found = lines.find(fits);
        if (found !== undefined) return found;
        if (child.exitCode !== null || child.signalCode !== null) throw new Error(`ended: ${JSON.stringify(lines)}`);
        await new Promise<void>((resolve) => waiting.add(resolve));
      }
    },
  };
}

/** A line of Falco's: the edge's own address is that of the lab, its host name `edge`. */
export const alertAtEdge = (client: string, more: Record<string, unknown> = {}): string =>
  canary(client, { hostname: 'edge', ...more }).replaceAll('203.0.113.10', '198.51.100.1');
