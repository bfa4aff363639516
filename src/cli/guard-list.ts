/** `falcodrop guard list`: all that is protected, from where, and whether the kernel has it. */
import { formatPorts } from '../address/port.ts';
import { comparePrefixes, formatPrefix, hostPrefix, type Prefix } from '../address/prefix.ts';
import { FalcodropError } from '../errors.ts';
import { attachedIfindexes } from '../host/attached.ts';
import { readCaller } from '../host/caller.ts';
import { readHostFacts } from '../host/facts.ts';
import { loopback, neverBlocked, privateRanges } from '../judge/guard/ranges.ts';
import { coveringAllows } from '../kernel/allows.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { PinnedSet } from '../kernel/set.ts';
import { readAction } from './action.ts';
import { readAllowWishes } from './allow-wishes.ts';
import type { Call } from './call.ts';
import { clean } from './output/clean.ts';
import { endAt, shortEnd, wholeSeconds } from './output/entry.ts';
import { offset } from './output/moment.ts';
import { table } from './output/table.ts';

/**
 * Where a protection comes from. The kernel lets `file`, `management`, `gateway` and `resolver` pass, and `port` whoever
 * comes; the others are what block refuses.
 */
export type GuardSource =
  | 'file'
  | 'management'
  | 'gateway'
  | 'resolver'
  | 'port'
  | 'own_address'
  | 'container'
  | 'broadcast'
  | 'session'
  | 'caller'
  | 'configuration'
  | 'builtin';

interface Guarded {
  /** Null: a port. */
  readonly prefix: Prefix | null;
  readonly target: string;
  readonly source: GuardSource;
  readonly detail: string;
  /** Null = for ever; 0 = ended. */
  readonly seconds: number | null;
  /** Null: it is not for the kernel. */
  readonly inKernel: boolean | null;
}

const sourceTexts: Readonly<Record<GuardSource, string>> = {
  file: 'allow file',
  management: 'management',
  gateway: 'gateway',
  resolver: 'name server',
  port: 'never_drop_ports',
  own_address: 'own address',
  container: 'container network',
  broadcast: 'broadcast address',
  session: 'SSH session',
  caller: 'your SSH session',
  configuration: 'guard.protected',
  builtin: 'built in',
};

export async function guardList(call: Call): Promise<void> {
  const { operands } = readAction(call, ['list']);
  if (operands.length > 0)
    throw new FalcodropError('usage', 'guard list takes no target', 'falcodrop show TARGET tells of one');
  const { answer, clock } = call;
  const nowMs = clock.now();
  const pinDir = pinDirOf(call.environment);
  const reading = await readAllowWishes(call);
  for (const problem of reading.problems) answer.fail(problem);
  for (const { message } of reading.notes) answer.warn('allow_wide', message);
  const { config } = reading;
  const host = readHostFacts({ attachedIfindexes: attachedIfindexes(pinDir), aliases: config?.hostAliases ?? [] });
  const caller = readCaller(call.environment)?.client ?? null;
  const set = openPinned(pinDir);
  try {
    const plain = (source: GuardSource, prefixes: readonly Prefix[], detail = ''): Guarded[] =>
      prefixes.map((prefix) => ({
        prefix,
        target: formatPrefix(prefix),
        source,
        detail,
        seconds: null,
        inKernel: null,
      }));
    const wished = reading.wishes.map(({ prefix, until, origin, where, reason }): Guarded => {
      const seconds = until === null ? null : Math.max(0, (until - nowMs) / 1000);
      const detail = [where, reason].filter((part) => part !== null).join(': ');
      const inKernel = seconds !== 0 && set !== null && isInKernel(set, prefix, seconds);
      return { prefix, target: formatPrefix(prefix), source: origin, detail, seconds, inKernel };
    });
    const ports = (config?.neverDropPorts ?? []).map((port): Guarded => {
      const target = formatPorts([port]);
      const inKernel = set?.settings.neverDrop.some((each) => formatPorts([each]) === target) ?? false;
      return { prefix: null, target, source: 'port', detail: 'local port', seconds: null, inKernel };
    });
    const guarded = [
      ...wished,
      ...plain('own_address', host.own.prefixes),
      ...plain('container', host.containers.prefixes),
      ...plain('session', host.sessions.prefixes),
      ...(caller === null ? [] : plain('caller', [hostPrefix(caller)])),
      ...plain('configuration', config?.rules.guard.protected.prefixes ?? []),
      ...plain('broadcast', host.broadcasts.prefixes),
      ...plain('builtin', loopback.prefixes, 'loopback'),
      ...(config?.rules.guard.allowPrivate === true ? [] : plain('builtin', privateRanges.prefixes, 'private ranges')),
      ...neverBlocked.flatMap(({ range, what }) => plain('builtin', range.prefixes, what)),
    ].toSorted(compare);
    print(call, [...guarded, ...ports], nowMs);
  } finally {
    set?.close();
  }
}

function compare(a: Guarded, b: Guarded): number {
  return a.prefix === null || b.prefix === null ? 0 : comparePrefixes(a.prefix, b.prefix);
}

/** Whether what the kernel allows holds the target whole, and as long. Throws `not_permitted`. */
export function isInKernel(set: PinnedSet, target: Prefix, seconds: number | null): boolean {
  return coveringAllows(set, target).some(
    // Ends are computed from two clocks, and written to the second.
    (held) => held.seconds === null || (seconds !== null && held.seconds >= seconds - 2),
  );
}

function openPinned(pinDir: string): PinnedSet | null {
  try {
    return new PinnedSet(pinDir);
  } catch (error) {
    if (error instanceof FalcodropError && error.code === 'pin_dir_missing') return null;
    throw error;
  }
}

function print({ answer }: Call, guarded: readonly Guarded[], nowMs: number): void {
  if (answer.json) {
    for (const { target, source, detail, seconds, inKernel } of guarded) {
      answer.object({
        target,
        source,
        detail: detail === '' ? null : detail,
        ends_at: endAt(seconds, nowMs),
        ends_in_seconds: wholeSeconds(seconds),
        in_kernel: inKernel,
      });
    }
    return;
  }
  const columns = [{ title: 'TARGET' }, { title: `ENDS (${offset(nowMs)})` }, { title: 'KERNEL' }, { title: 'FROM' }];
  const rows = () =>
    guarded.map(({ target, source, detail, seconds, inKernel }) => [
      target,
      shortEnd(seconds, nowMs),
      inKernel === null ? '-' : inKernel ? 'yes' : 'no',
      clean(detail === '' ? sourceTexts[source] : `${sourceTexts[source]}: ${detail}`, 100),
    ]);
  for (const line of table(columns, rows, answer.colour)) answer.line(line);
  const missing = guarded.filter(({ inKernel, seconds }) => inKernel === false && seconds !== 0).length;
  if (missing > 0) answer.note(`${missing} of them the kernel does not have yet: falcodrop protect`);
}
