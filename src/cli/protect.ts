/**
 * `falcodrop protect`: makes the kernel's allow tries equal to what is wanted (allow-wishes.ts), and the ports that are never
 * dropped to the configuration's. Ends are of CLOCK_MONOTONIC in the kernel and of the wall clock in the files: after a step of
 * the clock or a suspend the next run mends them.
 */
import { formatPorts, isSamePorts, type Ports } from '../address/port.ts';
import { comparePrefixes, formatPrefix } from '../address/prefix.ts';
import type { Config } from '../config/config.ts';
import { FalcodropError } from '../errors.ts';
import { fault } from '../fault.ts';
import {
  type AllowEntry,
  type AllowStep,
  allowCapacity,
  applyAllows,
  planAllows,
  readAllows,
} from '../kernel/allows.ts';
import { monotonicNs, secondsLeft } from '../kernel/clock.ts';
import { forEver } from '../kernel/layout.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { PinnedSet } from '../kernel/set.ts';
import { changeSettings, lockRoot } from '../kernel/settings.ts';
import { type AllowReading, type AllowWish, keepRecord, readAllowWishes } from './allow-wishes.ts';
import { type Call, flag, isRoot } from './call.ts';
import { failureOf } from './failure.ts';
import { endAt, untilText, wholeSeconds } from './output/entry.ts';

export interface Protection {
  readonly reading: AllowReading;
  /** What was done, or would be; a removal of what has ended anyway is none. */
  readonly steps: readonly AllowStep[];
  /** Entries of the kernel afterwards that live. */
  readonly entries: readonly AllowEntry[];
  /** Null: they are as they were. */
  readonly ports: { readonly before: Ports; readonly after: Ports } | null;
  /** CLOCK_MONOTONIC when it was planned. */
  readonly now: bigint;
}

export async function protect(call: Call): Promise<void> {
  const { answer } = call;
  const dryRun = flag(call, 'dryRun');
  requireRoot('protect');
  const done = await protectKernel(call, { dryRun });
  for (const problem of done.reading.problems) answer.fail(problem);
  for (const { message } of done.reading.notes) answer.warn('allow_wide', message);
  tell(call, done, dryRun);
}

export function requireRoot(verb: string): void {
  if (isRoot()) return;
  throw new FalcodropError(
    'not_permitted',
    `"falcodrop ${verb}" changes what the kernel does whatever the service wants, which is root's part`,
    `sudo falcodrop ${verb} …`,
  );
}

/** For verbs that change what is protected beside what they do: whatever goes wrong is a note, and `falcodrop protect`'s to tell. */
export async function protectAnew(call: Call): Promise<void> {
  try {
    await protectKernel(call);
  } catch (error) {
    if (error instanceof FalcodropError && error.code === 'pin_dir_missing') return;
    call.answer.note(`what always passes is as it was: ${failureOf(error, 'protect').message}; falcodrop protect`);
  }
}

/**
 * Under root's lock, files read too: who wrote them before and waits for the lock finds them in the kernel when it has it.
 * Throws `pin_dir_missing`, `allows_full`; what is wrong with files and configuration is in `reading.problems`.
 */
export async function protectKernel(
  call: Call,
  { dryRun = false, config }: { readonly dryRun?: boolean; readonly config?: Config } = {},
): Promise<Protection> {
  const pinDir = pinDirOf(call.environment);
  const lock = dryRun ? null : await lockRoot(pinDir);
  try {
    const reading = await readAllowWishes(call, config);
    const set = new PinnedSet(pinDir);
    try {
      const now = monotonicNs();
      const before = readAllows(set, dryRun);
      const wanted = entriesOf(reading.wishes, call.clock.now(), now);
      const steps = planAllows({ before, wanted, now, capacity: allowCapacity(set), keep: reading.keep });
      if (!dryRun) {
        applyAllows(set, steps);
        fault('protect.allowed');
      }
      const ports = reading.config === null ? null : changePorts(pinDir, reading.config.neverDropPorts, set, dryRun);
      if (!dryRun) keepRecord(call, reading.record);
      const entries = entriesAfter(before, steps).filter(({ until }) => now < until);
      return {
        reading,
        steps: steps.filter((step) => step.kind !== 'remove' || now < step.until),
        entries,
        ports,
        now,
      };
    } finally {
      set.close();
    }
  } finally {
    lock?.release();
  }
}

/** Each prefix once, with its latest end; what has ended is left out. */
export function entriesOf(wishes: readonly AllowWish[], nowMs: number, now: bigint): AllowEntry[] {
  const entries = new Map<string, AllowEntry>();
  for (const { prefix, until: untilMs } of wishes) {
    if (untilMs !== null && untilMs <= nowMs) continue;
    const until = untilMs === null ? forEver : now + BigInt(Math.round((untilMs - nowMs) * 1e6));
    const name = formatPrefix(prefix);
    const other = entries.get(name);
    if (other === undefined || other.until < until) entries.set(name, { prefix, until });
  }
  return [...entries.values()];
}

function entriesAfter(before: readonly AllowEntry[], steps: readonly AllowStep[]): AllowEntry[] {
  const entries = new Map(before.map((entry) => [formatPrefix(entry.prefix), entry]));
  for (const { kind, prefix, until } of steps) {
    if (kind === 'remove') entries.delete(formatPrefix(prefix));
    else entries.set(formatPrefix(prefix), { prefix, until });
  }
  return [...entries.values()];
}

function changePorts(pinDir: string, wanted: Ports, set: PinnedSet, dryRun: boolean): Protection['ports'] {
  const { neverDrop } = set.settings;
  if (isSamePorts(neverDrop, wanted)) return null;
  if (!dryRun) changeSettings(pinDir, (settings) => ({ ...settings, neverDrop: wanted }));
  return { before: neverDrop, after: wanted };
}

function tell({ answer, clock }: Call, { steps, entries, ports, now, reading }: Protection, dryRun: boolean): void {
  const nowMs = clock.now();
  const changed = steps.length > 0 || ports !== null;
  const sorted = steps.toSorted((a, b) => comparePrefixes(a.prefix, b.prefix));
  if (answer.json) {
    const of = (...kinds: readonly AllowStep['kind'][]) =>
      sorted.filter(({ kind }) => kinds.includes(kind)).map((step) => stepObject(step, now, nowMs));
    answer.object({
      status: changed ? 'changed' : 'unchanged',
      dry_run: dryRun,
      allowed: entries.length,
      added: of('add'),
      changed: of('raise', 'lower'),
      removed: of('remove').map(({ target }) => target),
      never_drop_ports: ports === null ? null : formatPorts(ports.after),
      refused_files: reading.files.filter(({ problems }) => problems.length > 0).map(({ path }) => path),
      kept: reading.keep,
    });
    return;
  }
  const would = dryRun ? 'would be ' : '';
  for (const { kind, prefix, until } of sorted) {
    const name = formatPrefix(prefix);
    const end = untilText(secondsLeft(until, now), nowMs);
    if (kind === 'remove') answer.line(`${name} ${would}allowed no more`);
    else answer.line(`${name} ${would}allowed ${end}`);
  }
  if (ports !== null) {
    const list = formatPorts(ports.after);
    answer.line(
      list === '' ? `no port ${would}spared any more` : `never dropped ${would}: packets to ${list}`.replace(' :', ':'),
    );
  }
  if (!changed)
    answer.line(`unchanged: ${entries.length} ${entries.length === 1 ? 'prefix is' : 'prefixes are'} allowed`);
}

function stepObject({ prefix, until }: AllowStep, now: bigint, nowMs: number) {
  const seconds = secondsLeft(until, now);
  return { target: formatPrefix(prefix), ends_at: endAt(seconds, nowMs), ends_in_seconds: wholeSeconds(seconds) };
}
