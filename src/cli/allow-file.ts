/**
 * A file of `allow.d`: what root allows, one target a line.
 *
 *   TARGET [until=RFC3339] [force] [# reason]
 *
 * `force` is for very wide prefixes: whatever lies in them can not be blocked any more.
 */
import { formatPrefix, type Prefix, parsePrefix } from '../address/prefix.ts';
import { FalcodropError } from '../errors.ts';
import { parseMoment } from '../time/moment.ts';
import { clean } from './output/clean.ts';
import { utc } from './output/moment.ts';

export interface AllowLine {
  /** From 1 on. */
  readonly line: number;
  readonly target: Prefix;
  /** ms since 1970; null = for ever. */
  readonly until: number | null;
  readonly force: boolean;
  readonly reason: string | null;
}

export interface AllowFile {
  /** None where there are problems: half of a file may be the wrong half. */
  readonly allows: readonly AllowLine[];
  readonly problems: readonly AllowProblem[];
}

export interface AllowProblem {
  /** 0: the file as a whole. */
  readonly line: number;
  readonly message: string;
}

/** Shorter ones want `force`. */
export const widestAllow = { 4: 8, 6: 16 } as const;

export function isVeryWide({ address, length }: Prefix): boolean {
  return length < widestAllow[address.family];
}

/** What becomes of it, for a warning: `0.0.0.0/0 is allowed: nothing of IPv4 can be blocked`. */
export function wideText(target: Prefix): string {
  const { family } = target.address;
  const what =
    target.length === 0 ? `nothing of IPv${family}` : `nothing in it (1/${2 ** target.length} of IPv${family})`;
  return `${formatPrefix(target)} is very wide: while it is allowed, ${what} is dropped, whatever is blocked`;
}

/** UTF-16 units; longer lines are no lines of ours. */
const longestLine = 4096;

/** All problems at once. Never throws. */
export function parseAllowFile(text: string): AllowFile {
  const allows: AllowLine[] = [];
  const problems: AllowProblem[] = [];
  const lines = text.replace(/^\uFEFF/, '').split('\n');
  for (const [index, whole] of lines.entries()) {
    const line = index + 1;
    try {
      const allow = parseLine(whole.replace(/\r$/, ''), line);
      if (allow !== null) allows.push(allow);
    } catch (error) {
      if (!(error instanceof FalcodropError)) throw error;
      const hint = error.hint === undefined ? '' : `; ${error.hint}`;
      problems.push({ line, message: `${error.message}${hint}` });
    }
  }
  return problems.length > 0 ? { allows: [], problems } : { allows, problems };
}

/** Null: nothing stands there. */
function parseLine(text: string, line: number): AllowLine | null {
  if (text.length > longestLine) throw invalid(`the line is longer than ${longestLine} characters`);
  const at = text.indexOf('#');
  const comment = at < 0 ? '' : text.slice(at + 1).trim();
  const [first, ...words] = (at < 0 ? text : text.slice(0, at)).split(/[ \t]+/).filter((word) => word !== '');
  if (first === undefined) return null;
  const target = parsePrefix(first);
  let until: number | null = null;
  let force = false;
  for (const word of words) {
    if (word === 'force' && !force) force = true;
    else if (word.startsWith('until=') && until === null) until = parseEnd(word.slice('until='.length));
    else
      throw invalid(
        `${JSON.stringify(clean(word, 40))} does not belong there`,
        'write TARGET until=2026-11-22T14:00:00Z # reason',
      );
  }
  if (isVeryWide(target) && !force) {
    throw invalid(
      `${formatPrefix(target)} is wider than /${widestAllow[target.address.family]}`,
      'write the word force after it if it is meant',
    );
  }
  return { line, target, until, force, reason: comment === '' ? null : comment };
}

/** RFC 3339 with its offset: what is local here would be another time where the file is copied to. */
function parseEnd(text: string): number {
  if (!/^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)$/.test(text)) {
    throw invalid(`until=${clean(text, 40)} is no time`, 'write it as RFC 3339 has it: until=2026-11-22T14:00:00Z');
  }
  return parseMoment(text, 0);
}

function invalid(message: string, hint?: string): FalcodropError {
  return new FalcodropError('allow_file_invalid', message, hint);
}

/** A line that {@link parseAllowFile} reads back: ends are whole seconds, the reason is made harmless. */
export function formatAllowLine({ target, until, force, reason }: Omit<AllowLine, 'line'>): string {
  return [
    formatPrefix(target),
    until === null ? null : `until=${utc(Math.ceil(until / 1000) * 1000)}`,
    force ? 'force' : null,
    reason === null || reason.trim() === '' ? null : `# ${clean(reason, 500).trim()}`,
  ]
    .filter((part) => part !== null)
    .join(' ');
}

/** Live at that wall time. */
export function isStanding({ until }: Pick<AllowLine, 'until'>, nowMs: number): boolean {
  return until === null || nowMs < until;
}
