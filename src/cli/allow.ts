/** `falcodrop allow add|remove|list`: what always passes, in the allow files and in the kernel. */
import { comparePrefixes, covers, formatPrefix, type Prefix } from '../address/prefix.ts';
import { FalcodropError } from '../errors.ts';
import { ownerOfPins } from '../kernel/owner.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { blockMapNames, PinnedSet } from '../kernel/set.ts';
import { longestSeconds, parseDuration } from '../time/duration.ts';
import { parseMoment } from '../time/moment.ts';
import { readAction } from './action.ts';
import { type AllowLine, isStanding, isVeryWide, widestAllow, wideText } from './allow-file.ts';
import { allowFolderOf, changeHandFile, handFile, readAllowFolder } from './allow-folder.ts';
import { tellHistory } from './allow-history.ts';
import { type Call, flag, text } from './call.ts';
import { isInKernel } from './guard-list.ts';
import type { Note } from './output/answer.ts';
import { clean } from './output/clean.ts';
import { endAt, shortEnd, untilText, wholeSeconds } from './output/entry.ts';
import { offset } from './output/moment.ts';
import { table } from './output/table.ts';
import { type Protection, protectKernel, requireRoot } from './protect.ts';
import { openRootAudit } from './root-audit.ts';
import { parseTargets } from './target.ts';

export async function allow(call: Call): Promise<void> {
  const { action, operands } = readAction(call, ['add', 'remove', 'list']);
  if (action === 'list') {
    refuseOptions(call, 'list', ['for', 'until', 'reason', 'force']);
    if (operands.length > 0)
      throw new FalcodropError('usage', 'allow list takes no target', 'falcodrop show TARGET tells what allows it');
    listAllows(call);
    return;
  }
  if (operands.length === 0) {
    throw new FalcodropError('usage', `nothing was named to ${action}`, `falcodrop allow ${action} 203.0.113.0/24`);
  }
  if (action === 'remove') refuseOptions(call, 'remove', ['for', 'until', 'force']);
  requireRoot(`allow ${action}`);
  const targets = parseTargets(operands);
  const change = action === 'add' ? await add(call, targets) : await remove(call, targets);
  if (change.length > 0) tellHistory(call, change);
}

function refuseOptions(call: Call, action: string, names: readonly string[]): void {
  const given = names.find((name) => call.options[name] !== undefined);
  if (given !== undefined)
    throw new FalcodropError('usage', `allow ${action} takes no --${given}`, 'falcodrop allow --help');
}

/** A row for the history. */
export interface AllowChange {
  readonly action: 'allowed' | 'disallowed';
  readonly target: Prefix;
  readonly detail: string;
}

async function add(call: Call, targets: readonly Prefix[]): Promise<AllowChange[]> {
  const { answer, clock } = call;
  const nowMs = clock.now();
  const until = readEnd(call, nowMs);
  const reason = text(call, 'reason') ?? null;
  const force = flag(call, 'force');
  const folder = allowFolderOf(call);
  const wanted = distinct(targets).filter((target) => {
    if (!isVeryWide(target) || force) return true;
    answer.fail(
      new FalcodropError(
        'allow_wide',
        `${formatPrefix(target)} is wider than /${widestAllow[target.address.family]}: next to nothing could be blocked any more`,
        'say --force if it is meant',
      ),
    );
    return false;
  });
  if (wanted.length === 0) return [];

  const told = new Map<
    Prefix,
    { readonly status: 'allowed' | 'extended' | 'unchanged'; readonly until: number | null }
  >();
  await changeHandFile(folder, nowMs, (allows) => ({
    remove: [],
    add: wanted.flatMap((target) => {
      const there = standing(allows, target, nowMs);
      if (there !== null && (there.until === null || (until !== null && until <= there.until))) {
        told.set(target, { status: 'unchanged', until: there.until });
        return [];
      }
      told.set(target, { status: there === null ? 'allowed' : 'extended', until });
      return [{ target, until, force: isVeryWide(target), reason: reason ?? there?.reason ?? null }];
    }),
  }));
  const protection = await putIntoKernel(call);
  const changes: AllowChange[] = [];
  for (const [target, { status, until: end }] of told) {
    const seconds = end === null ? null : (end - nowMs) / 1000;
    const notes = protection === null ? [notAttached] : overruled(call, target);
    if (isVeryWide(target)) answer.warn('allow_wide', wideText(target));
    if (status !== 'unchanged') {
      changes.push({ action: 'allowed', target, detail: endText(end, reason) });
    }
    if (answer.json) {
      answer.object({
        target: formatPrefix(target),
        status,
        ends_at: endAt(seconds, nowMs),
        ends_in_seconds: wholeSeconds(seconds),
        in_kernel: protection !== null && holds(call, target, seconds),
        notes,
      });
      continue;
    }
    const name = formatPrefix(target);
    answer.line(
      status === 'unchanged'
        ? `${name} unchanged, allowed ${untilText(seconds, nowMs)}`
        : `${name} ${status} ${untilText(seconds, nowMs)}`,
    );
    for (const { message } of notes) answer.note(message);
  }
  audit(call, changes);
  return changes;
}

function endText(until: number | null, reason: string | null): string {
  const end = until === null ? 'for ever' : `until ${new Date(until).toISOString()}`;
  return reason === null ? end : `${end}: ${clean(reason, 500)}`;
}

const notAttached: Note = {
  code: 'nothing_attached',
  message: 'nothing is attached, and nothing dropped: falcodrop attach brings it into the kernel',
};

function standing(allows: readonly AllowLine[], target: Prefix, nowMs: number): AllowLine | null {
  const found = allows.filter((each) => isStanding(each, nowMs) && comparePrefixes(each.target, target) === 0);
  return (
    found.find(({ until }) => until === null) ?? found.toSorted((a, b) => (b.until ?? 0) - (a.until ?? 0))[0] ?? null
  );
}

async function remove(call: Call, targets: readonly Prefix[]): Promise<AllowChange[]> {
  const { answer, clock } = call;
  const nowMs = clock.now();
  const folder = allowFolderOf(call);
  const wanted = distinct(targets);
  const found: Prefix[] = [];
  await changeHandFile(folder, nowMs, (allows) => {
    found.push(...wanted.filter((target) => allows.some((each) => comparePrefixes(each.target, target) === 0)));
    return { add: [], remove: found };
  });
  const protection = found.length === 0 ? null : await putIntoKernel(call);
  for (const target of wanted) {
    const name = formatPrefix(target);
    if (!found.includes(target)) {
      answer.fail(new FalcodropError('not_allowed', `${name} is not allowed by ${handFile}`, elsewhere(call, target)));
      continue;
    }
    const notes = protection === null ? [] : stillAllowed(call, target, protection);
    if (answer.json) answer.object({ target: name, status: 'removed', notes });
    else {
      answer.line(`${name} allowed no more`);
      for (const { message } of notes) answer.note(message);
    }
  }
  const reason = text(call, 'reason') ?? '';
  const changes = found.map((target): AllowChange => ({ action: 'disallowed', target, detail: clean(reason, 500) }));
  audit(call, changes);
  return changes;
}

/** Where else it stands, for a hint. */
function elsewhere(call: Call, target: Prefix): string {
  const wider: string[] = [];
  for (const { path, allows } of readAllowFolder(allowFolderOf(call))) {
    for (const each of allows) {
      if (!covers(each.target, target)) continue;
      const place = `${path}:${each.line}`;
      if (comparePrefixes(each.target, target) === 0)
        return `${place} allows it: take it out there, then falcodrop protect`;
      wider.push(`${formatPrefix(each.target)} is, which holds it (${place})`);
    }
  }
  return wider[0] ?? 'falcodrop allow list tells what is; falcodrop guard list tells all that is protected';
}

/** Null: there are no maps to put it into, and no drops. Problems of other files are told, and stop nothing. */
async function putIntoKernel(call: Call): Promise<Protection | null> {
  try {
    const protection = await protectKernel(call);
    for (const problem of protection.reading.problems) call.answer.fail(problem);
    return protection;
  } catch (error) {
    if (error instanceof FalcodropError && error.code === 'pin_dir_missing') return null;
    if (error instanceof FalcodropError) {
      throw new FalcodropError(
        error.code,
        `${error.message}. The allow file is written; the kernel does not have it`,
        error.hint ?? 'falcodrop protect tries again',
        error,
      );
    }
    throw error;
  }
}

function holds(call: Call, target: Prefix, seconds: number | null): boolean {
  const set = new PinnedSet(pinDirOf(call.environment));
  try {
    return isInKernel(set, target, seconds);
  } finally {
    set.close();
  }
}

const mostNamed = 8;

/** Live blocks that drop nothing of the target any more. */
function overruled(call: Call, target: Prefix): Note[] {
  const { inside, around } = liveBlocks(call, target);
  const notes: Note[] = [];
  if (inside.length > 0) {
    const count =
      inside.length === 1 ? '1 block, which stays as a claim' : `${inside.length} blocks, which stay as claims`;
    notes.push({ code: 'overrules', message: `overrules ${count}: ${nameSome(inside)}` });
  }
  if (around.length > 0)
    notes.push({ code: 'frees', message: `frees it of ${nameSome(around)}, which goes on for the rest` });
  return notes;
}

function nameSome(prefixes: readonly Prefix[]): string {
  const more = prefixes.length - mostNamed;
  return `${prefixes.slice(0, mostNamed).map(formatPrefix).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** What still lets it pass, or what drops from now on. */
function stillAllowed(call: Call, target: Prefix, { reading }: Protection): Note[] {
  const nowMs = call.clock.now();
  const other = reading.wishes.find((wish) => isStanding(wish, nowMs) && covers(wish.prefix, target));
  if (other !== undefined) {
    const by = other.where ?? other.origin;
    return [{ code: 'still_allowed', message: `it still passes: ${formatPrefix(other.prefix)} is allowed (${by})` }];
  }
  if (reading.keep) {
    return [
      { code: 'still_allowed', message: 'it still passes: nothing is taken away until what is refused is mended' },
    ];
  }
  const { inside, around } = liveBlocks(call, target);
  const all = [...around, ...inside];
  return all.length === 0 ? [] : [{ code: 'drops_again', message: `dropped again: ${nameSome(all)}` }];
}

/** Live blocks that lie in the target, and those that hold it and more. */
function liveBlocks(call: Call, target: Prefix): { readonly inside: Prefix[]; readonly around: Prefix[] } {
  const inside: Prefix[] = [];
  const around: Prefix[] = [];
  const set = new PinnedSet(pinDirOf(call.environment));
  try {
    const now = set.now();
    for (const name of blockMapNames) {
      if (!name.endsWith(`v${target.address.family}`)) continue;
      for (const { target: blocked, value } of set.entries(name)) {
        if (value.dropUntil <= now) continue;
        if (covers(target, blocked)) inside.push(blocked);
        else if (covers(blocked, target)) around.push(blocked);
      }
    }
  } finally {
    set.close();
  }
  return { inside: inside.toSorted(comparePrefixes), around: around.toSorted(comparePrefixes) };
}

/** ms since 1970, null = for ever. Throws `usage`, `duration_invalid`, `time_invalid`. */
function readEnd(call: Call, nowMs: number): number | null {
  const lasting = text(call, 'for');
  const at = text(call, 'until');
  if (lasting !== undefined && at !== undefined) {
    throw new FalcodropError('usage', '--for and --until exclude each other', 'give one of them');
  }
  if (lasting !== undefined) return nowMs + parseDuration(lasting) * 1000;
  if (at === undefined) return null;
  // A clock time alone is the next one that comes.
  const moment = /^\d\d:\d\d(:\d\d)?$/.test(at.trim()) ? nextOf(at.trim(), nowMs) : parseMoment(at, nowMs);
  if (moment <= nowMs) {
    throw new FalcodropError(
      'time_invalid',
      `${clean(at, 40)} has passed`,
      'write 2026-11-22T14:00:00Z, 18:00, or a duration: --for 8h',
    );
  }
  if (moment - nowMs > longestSeconds * 10_000) {
    throw new FalcodropError(
      'time_invalid',
      `${clean(at, 40)} is more than a hundred years away`,
      'leave --until out for one without an end',
    );
  }
  return moment;
}

function nextOf(clock: string, nowMs: number): number {
  const today = parseMoment(`today ${clock}`, nowMs);
  // A day later by the calendar: a day may have 23 or 25 hours.
  return today > nowMs ? today : new Date(today).setDate(new Date(today).getDate() + 1);
}

function distinct(targets: readonly Prefix[]): Prefix[] {
  return targets.filter((target, index) => targets.findIndex((each) => comparePrefixes(each, target) === 0) === index);
}

function audit(call: Call, changes: readonly AllowChange[]): void {
  if (changes.length === 0) return;
  const tellAct = openRootAudit(call, serviceOf(call));
  for (const { action, target, detail } of changes) tellAct({ action, target, ...(detail === '' ? {} : { detail }) });
}

function serviceOf(call: Call): { readonly uid: number; readonly gid: number } {
  try {
    return ownerOfPins(pinDirOf(call.environment));
  } catch {
    return { uid: 0, gid: 0 };
  }
}

/** Of all allow files. */
function listAllows(call: Call): void {
  const { answer, clock } = call;
  const nowMs = clock.now();
  const files = readAllowFolder(allowFolderOf(call));
  for (const { path, problems } of files) {
    for (const { line, message } of problems) {
      answer.fail(
        new FalcodropError(
          'allow_file_invalid',
          `${path}${line === 0 ? '' : `:${line}:`} ${message}`,
          'mend it, then falcodrop protect',
        ),
      );
    }
  }
  const all = files.flatMap(({ path, allows }) => allows.map((each) => ({ ...each, path })));
  all.sort((a, b) => comparePrefixes(a.target, b.target));
  const set = openSet(call);
  try {
    const rows = all.map((each) => {
      const seconds = each.until === null ? null : Math.max(0, (each.until - nowMs) / 1000);
      return { ...each, seconds, isHeld: seconds !== 0 && set !== null && isInKernel(set, each.target, seconds) };
    });
    if (answer.json) {
      for (const { target, seconds, force, reason, path, line, isHeld } of rows) {
        answer.object({
          target: formatPrefix(target),
          ends_at: endAt(seconds, nowMs),
          ends_in_seconds: wholeSeconds(seconds),
          force,
          reason,
          file: path,
          line,
          in_kernel: isHeld,
        });
      }
      return;
    }
    if (rows.length === 0) {
      answer.line('nothing is allowed by hand: falcodrop guard list tells what is protected');
      return;
    }
    const columns = [
      { title: 'TARGET' },
      { title: `ENDS (${offset(nowMs)})` },
      { title: 'KERNEL' },
      { title: 'WHERE' },
      { title: 'WHY' },
    ];
    const cells = () =>
      rows.map(({ target, seconds, isHeld, path, line, reason }) => [
        formatPrefix(target),
        shortEnd(seconds, nowMs),
        isHeld ? 'yes' : 'no',
        `${path.split('/').at(-1)}:${line}`,
        clean(reason ?? '', 60),
      ]);
    for (const line of table(columns, cells, answer.colour)) answer.line(line);
  } finally {
    set?.close();
  }
}

/** Null where nothing was ever attached. */
export function openSet(call: Call): PinnedSet | null {
  try {
    return new PinnedSet(pinDirOf(call.environment));
  } catch (error) {
    if (error instanceof FalcodropError && error.code === 'pin_dir_missing') return null;
    throw error;
  }
}
