/** A line of a file of targets: an address or a prefix, or JSON as `falcodrop export` writes it. */
import { quote } from '../address/address.ts';
import { formatPorts, parsePorts } from '../address/port.ts';
import { type Prefix, parsePrefix } from '../address/prefix.ts';
import type { Owner } from '../blocklist/claims.ts';
import { FalcodropError } from '../errors.ts';

/** What the line does not say is undefined. */
export interface ImportLine {
  readonly target: Prefix;
  readonly owner?: Owner;
  readonly mode?: 'enforce' | 'monitor';
  /** Canonical; not set: every port. */
  readonly ports?: string;
  /** ms since 1970; null = for ever. */
  readonly endMs?: number | null;
  readonly reason?: string;
}

const ownerForm = /^(?:hand|(?:policy|feed):[^\p{C}\s]{1,64})$/u;

/** RFC 3339 with an offset. */
const timeForm = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/i;

/** Null for a blank line and for a comment. "#" and ";" (as in the DROP lists) begin one. Throws `import_invalid`. */
export function readImportLine(text: string): ImportLine | null {
  const trimmed = text.trim();
  if (trimmed.startsWith('{')) return readJson(trimmed);
  const [bare = ''] = trimmed.split(/[#;]/, 1);
  const word = bare.trim();
  if (word === '') return null;
  if (/\s/.test(word)) throw wrong(`${quote(word)} is more than one target`, 'write one target a line');
  return { target: readTarget(word) };
}

function readJson(text: string): ImportLine {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw wrong(`${quote(text)} is no JSON object`, 'write JSON as "falcodrop export" does, or the target alone');
  }
  const given = value as Readonly<Record<string, unknown>>;
  const field = (name: string): unknown => (Object.hasOwn(given, name) ? given[name] : undefined);
  const target = field('target');
  if (typeof target !== 'string') throw wrong('it names no "target"', 'write {"target":"203.0.113.66"}');
  const owner = field('owner');
  if (owner !== undefined && (typeof owner !== 'string' || !ownerForm.test(owner))) {
    throw wrong(`${quote(String(owner))} is no owner`, 'write hand, policy:NAME or feed:NAME');
  }
  const mode = field('mode');
  if (mode !== undefined && mode !== 'enforce' && mode !== 'monitor') {
    throw wrong(`${quote(String(mode))} is no mode`, 'write enforce or monitor');
  }
  const ports = field('ports');
  if (ports !== undefined && ports !== null && typeof ports !== 'string') {
    throw wrong('its "ports" are no text', 'write "tcp/22,udp/53", or leave them out for every port');
  }
  const reason = field('reason');
  if (reason !== undefined && reason !== null && typeof reason !== 'string') {
    throw wrong('its "reason" is no text', 'write a text, or leave it out');
  }
  const end = readEnd(field('ends_at'));
  return {
    target: readTarget(target),
    ...(owner === undefined ? {} : { owner: owner as Owner }),
    ...(mode === undefined ? {} : { mode }),
    ...(typeof ports === 'string' ? { ports: readPorts(ports) } : {}),
    ...(end === undefined ? {} : { endMs: end }),
    ...(typeof reason === 'string' ? { reason } : {}),
  };
}

function readEnd(value: unknown): number | null | undefined {
  if (value === undefined || value === null) return value;
  const ms = typeof value === 'string' && timeForm.test(value) ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(ms)) {
    throw wrong(`${quote(String(value))} is no time`, 'write "ends_at" as 2026-11-22T14:00:00Z, or null for ever');
  }
  return ms;
}

function readPorts(text: string): string {
  try {
    return formatPorts(parsePorts(text));
  } catch (error) {
    if (!(error instanceof FalcodropError)) throw error;
    throw wrong(error.message, error.hint);
  }
}

function readTarget(text: string): Prefix {
  try {
    return parsePrefix(text);
  } catch (error) {
    if (!(error instanceof FalcodropError)) throw error;
    throw wrong(error.message, error.hint);
  }
}

function wrong(message: string, hint: string | undefined): FalcodropError {
  return new FalcodropError('import_invalid', message, hint);
}
