/**
 * What the kernel's allow tries shall hold: the allow files, the networks of management, this host's gateways and name servers.
 *
 * A file with a bad line is refused whole, and what it said before stands: root's own record (`STATE_DIR/root/allows.json`)
 * remembers that. Where it does not, nothing is taken away.
 */
import { covers, formatPrefix, type Prefix, readPrefix } from '../address/prefix.ts';
import type { Config } from '../config/config.ts';
import { FalcodropError } from '../errors.ts';
import { readDumps } from '../host/carrier.ts';
import { gatewayPrefixes } from '../host/gateways.ts';
import { readResolvers } from '../host/resolvers.ts';
import { isStanding, isVeryWide, wideText } from './allow-file.ts';
import { allowFolderOf, type ReadAllowFile, readAllowFolder } from './allow-folder.ts';
import { type Call, stateDirOf } from './call.ts';
import { failureOf } from './failure.ts';
import { readForced } from './forced.ts';
import type { Note } from './output/answer.ts';
import { readConfig } from './settings.ts';
import { readTrusted, writeTrusted } from './trusted.ts';

export type AllowOrigin = 'file' | 'management' | 'gateway' | 'resolver';

export interface AllowWish {
  readonly prefix: Prefix;
  /** ms since 1970; null = for ever. */
  readonly until: number | null;
  readonly origin: AllowOrigin;
  /** `allow.d/10-hand:3` in full, for a file. */
  readonly where: string | null;
  readonly reason: string | null;
}

export interface AllowReading {
  /** Ended ones too. */
  readonly wishes: readonly AllowWish[];
  /** Null: it can not be read. */
  readonly config: Config | null;
  /** Not all that is wanted is known: what is allowed stays. */
  readonly keep: boolean;
  readonly problems: readonly FalcodropError[];
  readonly notes: readonly Note[];
  readonly files: readonly ReadAllowFile[];
  /** To be kept when the kernel has it. */
  readonly record: string;
}

const fileName = 'allows.json';

interface Recorded {
  readonly target: string;
  readonly until: number | null;
}

/** `allows.json`. */
interface Stored {
  readonly version: 1;
  readonly folder: string;
  readonly files: Readonly<Record<string, readonly Recorded[]>>;
}

/** `config`: read already. Throws what the kernel says when the host's routes can not be had. */
export async function readAllowWishes(call: Call, config?: Config): Promise<AllowReading> {
  const problems: FalcodropError[] = [];
  const notes: Note[] = [];
  let keep = false;
  let known: Config | null = config ?? null;
  if (known === null) {
    try {
      known = await readConfig(call);
    } catch (error) {
      keep = true;
      problems.push(failureOf(error, call.verb));
    }
  }

  const folder = allowFolderOf(call);
  const former = readRecord(call, folder);
  let files: readonly ReadAllowFile[] = [];
  let isFolderKnown = true;
  try {
    files = readAllowFolder(folder);
  } catch (error) {
    keep = true;
    isFolderKnown = false;
    problems.push(failureOf(error, call.verb));
  }
  const recorded: Record<string, readonly Recorded[]> = isFolderKnown ? {} : { ...former?.files };
  const wishes: AllowWish[] = [];
  for (const file of files) {
    if (file.problems.length === 0) {
      recorded[file.name] = file.allows.map(({ target, until }) => ({ target: formatPrefix(target), until }));
      for (const { target, until, line, reason } of file.allows) {
        wishes.push({ prefix: target, until, origin: 'file', where: `${file.path}:${line}`, reason });
      }
      continue;
    }
    const before = former?.files[file.name];
    if (before === undefined) keep = true;
    else recorded[file.name] = before;
    for (const { target, until } of before ?? []) {
      const prefix = readPrefix(target);
      if (prefix !== null)
        wishes.push({ prefix, until, origin: 'file', where: `${file.path} (as it was)`, reason: null });
    }
    problems.push(...problemsOf(file, before !== undefined));
  }

  for (const prefix of known?.management ?? []) {
    wishes.push({ prefix, until: null, origin: 'management', where: null, reason: null });
  }
  // What root has blocked by force it wants dropped, gateway or not.
  const forced = liveForced(call);
  const host = (origin: AllowOrigin, prefixes: readonly Prefix[]): void => {
    for (const prefix of prefixes.filter((each) => !forced.some((target) => covers(target, each))))
      wishes.push({ prefix, until: null, origin, where: null, reason: null });
  };
  host('gateway', gatewayPrefixes(readDumps().routes));
  host('resolver', readResolvers());

  const nowMs = call.clock.now();
  for (const { prefix, until, where } of wishes) {
    if (!isVeryWide(prefix) || !isStanding({ until }, nowMs)) continue;
    notes.push({ code: 'allow_wide', message: `${wideText(prefix)}${where === null ? '' : ` (${where})`}` });
  }
  const stored: Stored = { version: 1, folder, files: recorded };
  return { wishes, config: known, keep, problems, notes, files, record: JSON.stringify(stored) };
}

function liveForced(call: Call): Prefix[] {
  const nowMs = call.clock.now();
  return readForced(stateDirOf(call.environment))
    .filter(({ mode, until }) => mode === 'enforce' && isStanding({ until }, nowMs))
    .map(({ target }) => target);
}

const mostProblems = 20;

function problemsOf({ path, problems }: ReadAllowFile, isFormerKnown: boolean): FalcodropError[] {
  const hint = isFormerKnown
    ? 'the file is refused, and what it said before stays: mend it, then falcodrop protect'
    : 'the file is refused, and nothing is taken away meanwhile: mend it, then falcodrop protect';
  const told = problems
    .slice(0, mostProblems)
    .map(
      ({ line, message }) =>
        new FalcodropError('allow_file_invalid', `${path}${line === 0 ? '' : `:${line}:`} ${message}`, hint),
    );
  const more = problems.length - told.length;
  if (more === 0) return told;
  return [...told, new FalcodropError('allow_file_invalid', `${path}: ${more} more lines are wrong`, hint)];
}

function readRecord(call: Call, folder: string): Stored | null {
  try {
    const stored = JSON.parse(
      readTrusted(stateDirOf(call.environment), fileName)?.toString() ?? 'null',
    ) as Stored | null;
    return stored?.version === 1 && stored.folder === folder ? stored : null;
  } catch {
    return null; // of another version, or half a file
  }
}

/** Root's part, when the kernel has it. Failing is no failure: nothing is taken away then, where it would have been asked. */
export function keepRecord(call: Call, record: string): void {
  const stateDir = stateDirOf(call.environment);
  try {
    if (readTrusted(stateDir, fileName)?.toString() !== record) writeTrusted(stateDir, fileName, record);
  } catch {
    // a read-only or foreign state directory
  }
}
