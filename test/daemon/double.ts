/** A log in memory and a block list that only remembers. */
import type { Wish } from '../../src/blocklist/blocklist.ts';
import type { DaemonBlocklist } from '../../src/daemon/daemon.ts';
import { type Log, openLog } from '../../src/daemon/log.ts';

export type Line = Readonly<Record<string, unknown>> & { readonly msg: string };

export interface LogDouble extends Log {
  readonly lines: Line[];
  readonly texts: string[];
  of(message: string): Line[];
  /** The first line with that message from now on or before. */
  waitFor(message: string): Promise<Line>;
}

export function logDouble(): LogDouble {
  const texts: string[] = [];
  const lines: Line[] = [];
  let wake: () => void = () => undefined;
  const log = openLog({
    write: (text) => {
      texts.push(text);
      lines.push(JSON.parse(text) as Line);
      wake();
    },
  });
  const of = (message: string) => lines.filter(({ msg }) => msg === message);
  return {
    ...log,
    lines,
    texts,
    of,
    waitFor: async (message) => {
      for (;;) {
        const [line] = of(message);
        if (line !== undefined) return line;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

export interface BlocklistDouble extends DaemonBlocklist {
  readonly wishes: Wish[];
  readonly calls: string[];
}

export function blocklistDouble(act: (wish: Wish) => ReturnType<DaemonBlocklist['blockAtOnce']>): BlocklistDouble {
  const wishes: Wish[] = [];
  const calls: string[] = [];
  return {
    wishes,
    calls,
    blockAtOnce: (wish) => {
      wishes.push(wish);
      return act(wish);
    },
    holds: () => false,
    settle: async () => {
      calls.push('settle');
    },
    reap: async () => {
      calls.push('reap');
      return 0;
    },
    limitsPorts: () => false,
    close: () => {
      calls.push('close');
    },
  };
}

/** An alert of our own canary rule; the offender is the client. */
export function canary(
  client: string,
  { rule = 'Connection to Canary Port', ...rest }: Record<string, unknown> = {},
): string {
  return JSON.stringify({
    time: new Date().toISOString(),
    rule,
    priority: 'Warning',
    source: 'syscall',
    output: 'x',
    ...rest,
    output_fields: {
      'evt.type': 'accept4',
      'fd.type': 'ipv4',
      'fd.l4proto': 'tcp',
      'fd.name': `${client}:40000->203.0.113.10:2222`,
      'fd.cip': client,
      'fd.cport': 40_000,
      'fd.sip': '203.0.113.10',
      'fd.sport': 2222,
    },
  });
}
