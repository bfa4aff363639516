/**
 * A Falco alert, whatever way it came: the JSON of `http_output`, `file_output`, stdout and falcosidekick's webhook, or a
 * gRPC message (Falco 0.43 and older) as proto-loader hands it over. Everything in it is text that somebody else wrote:
 * nothing here throws, and nothing is believed beyond its type.
 */
import { type Fields, leanFields, textField } from './fields.ts';

/** Where an alert came from: `local` = loopback, a unix socket, a local file. Decides what a missing hostname means. */
export type Origin = 'local' | 'network';

export interface Alert {
  /** ns since 1970; null when absent, unreadable, or no date ({@link latestNs}). */
  readonly timeNs: bigint | null;
  readonly rule: string;
  /** As Falco's JSON writes it: `Emergency`, `Alert`, … `Debug`; other text as it came; '' when absent. */
  readonly priority: string;
  /** `syscalls` (falcosidekick's default) and absent are `syscall`. */
  readonly source: string;
  readonly hostname: string | null;
  readonly tags: readonly string[];
  readonly uuid: string | null;
  readonly output: string;
  /** null: the alert has no `output_fields` at all (they can be switched off since Falco 0.41). */
  readonly fields: Fields;
  readonly origin: Origin;
}

/** Why something is no alert; one sentence. */
export interface NotAlert {
  readonly problem: string;
}

/** Characters of an alert's text; real ones are a few kilobytes. */
export const longestAlert = 1_048_576;
/** Levels of objects and arrays; real alerts have two or three. */
export const deepestAlert = 32;
/** Objects and lists in an alert; real ones have a handful, and an empty one is twenty times its text in memory. */
export const widestAlert = 4_096;

type Members = Readonly<Record<string, unknown>>;

/**
 * From parsed JSON, or from a gRPC message (fields all strings, lists `(a,b)`, `time` as `{seconds, nanos}`, priority in
 * upper case, numbers for enums taken too). Never throws.
 */
export function decodeAlert(value: unknown, origin: Origin): Alert | NotAlert {
  if (!isMembers(value)) return { problem: 'an alert is a JSON object' };
  const rule = text(value, 'rule');
  if (rule === null) return { problem: 'an alert names its rule, and this has no "rule"' };
  const fields = own(value, 'output_fields') ?? null;
  if (fields !== null && !isMembers(fields)) return { problem: '"output_fields" is not an object' };
  return {
    timeNs: readTime(own(value, 'time')) ?? eventTime(fields),
    rule,
    priority: readPriority(own(value, 'priority')),
    source: readSource(value),
    hostname: text(value, 'hostname'),
    tags: readTags(own(value, 'tags')),
    uuid: text(value, 'uuid'),
    output: text(value, 'output') ?? '',
    fields: fields === null ? null : leanFields(fields),
    origin,
  };
}

/**
 * From text holding one JSON object, white space around it allowed. Bounded before anything is parsed: at most
 * {@link longestAlert} characters, {@link deepestAlert} levels and {@link widestAlert} objects and lists. Never throws.
 */
export function parseAlert(text: string, origin: Origin): Alert | NotAlert {
  const read = readJson(text);
  return 'problem' in read ? read : decodeAlert(read.value, origin);
}

/** What an alert's text holds, bounded as {@link parseAlert} says. Never throws. */
export function readJson(text: string): { readonly value: unknown } | NotAlert {
  if (text.length > longestAlert) return { problem: 'the text is longer than an alert may be (1 MiB)' };
  const shape = shapeOf(text);
  if (shape === 'deep') return { problem: `the JSON is nested more than ${deepestAlert} levels deep` };
  if (shape === 'wide') return { problem: `the JSON has more than ${widestAlert} objects and lists` };
  try {
    return { value: JSON.parse(text) as unknown };
  } catch {
    return { problem: 'the text is not JSON' };
  }
}

function isMembers(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Own members only: a "__proto__" in the JSON is a member like any other, and what is inherited is not the sender's. */
function own(value: Members, key: string): unknown {
  return Object.hasOwn(value, key) ? value[key] : undefined;
}

function text(value: Members, key: string): string | null {
  return textField(value, key);
}

/** ECMA-262, 21.4.1.1: what a Date can hold, on either side of 1970; some 274 000 years. Whoever prints it needs one. */
const latestNs = 8_640_000_000_000_000_000_000n;

/** RFC 3339 with up to nine decimals (falcosidekick drops trailing zeros), or a protobuf timestamp. ns since 1970. */
function readTime(value: unknown): bigint | null {
  if (typeof value === 'string') return readRfc3339(value);
  if (!isMembers(value)) return null;
  const seconds = readInt64(own(value, 'seconds'));
  const nanos = readInt64(own(value, 'nanos')) ?? 0n;
  if (seconds === null || nanos < 0n || nanos > 999_999_999n) return null;
  const ns = seconds * 1_000_000_000n + nanos;
  return ns > latestNs || ns < -latestNs ? null : ns;
}

/** Of one second come many alerts, in Falco's own form (nine decimals, Z): the second that was read last, and its ns since 1970. */
const known = { second: '', ns: 0n };
const secondLength = '2026-11-22T12:30:00'.length;
const decimals = /^\.(\d{9})Z$/;

function readRfc3339(text: string): bigint | null {
  const second = text.slice(0, secondLength);
  const nanos = decimals.exec(text.slice(secondLength))?.[1];
  if (nanos === undefined) return readAnyRfc3339(text);
  if (second !== known.second) {
    const ns = readAnyRfc3339(`${second}Z`);
    if (ns === null) return null;
    known.second = second;
    known.ns = ns;
  }
  return known.ns + BigInt(nanos);
}

function readAnyRfc3339(text: string): bigint | null {
  const match = /^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))$/.exec(
    text,
  );
  if (match === null) return null;
  const [, years, months, days, hours, minutes, rest, fraction = '', sign = '+', zoneHour = '0', zoneMinute = '0'] =
    match;
  const [year, month, day] = [Number(years), Number(months), Number(days)];
  const [hour, minute, second] = [Number(hours), Number(minutes), Number(rest)];
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  const isCalendarDay = date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  if (!isCalendarDay || hour > 23 || minute > 59 || second > 59 || Number(zoneHour) > 23 || Number(zoneMinute) > 59) {
    return null;
  }
  const zoneSeconds = (sign === '-' ? -1 : 1) * (Number(zoneHour) * 3600 + Number(zoneMinute) * 60);
  const seconds = date.getTime() / 1000 + hour * 3600 + minute * 60 + second - zoneSeconds;
  return BigInt(seconds) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0'));
}

/** proto-loader's ways with a 64-bit integer: string, number, or the Long library's two halves. */
function readInt64(value: unknown): bigint | null {
  if (typeof value === 'string') return /^-?\d{1,18}$/.test(value) ? BigInt(value) : null;
  if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : null;
  if (!isMembers(value)) return null;
  const low = own(value, 'low');
  const high = own(value, 'high');
  if (typeof low !== 'number' || typeof high !== 'number' || !Number.isInteger(low) || !Number.isInteger(high))
    return null;
  return BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt.asUintN(32, BigInt(low)));
}

/**
 * For an alert without a time of its own. `evt.time` is ns since 1970, an integer that JSON.parse has rounded (by up to
 * 128 ns); container images call it `evt.time.iso8601`, and it is still the integer.
 */
function eventTime(fields: Fields): bigint | null {
  for (const key of ['evt.time', 'evt.time.iso8601']) {
    if (fields === null || !Object.hasOwn(fields, key)) continue;
    const value = fields[key];
    if (typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 2 ** 63) return BigInt(value);
    if (typeof value === 'string' && /^\d{1,19}$/.test(value)) return BigInt(value);
  }
  return null;
}

const priorities = ['Emergency', 'Alert', 'Critical', 'Error', 'Warning', 'Notice', 'Informational', 'Debug'] as const;

const priorityOf: ReadonlyMap<string, string> = new Map([
  ...priorities.map((priority) => [priority.toLowerCase(), priority] as const),
  ['info', 'Informational'],
]);

/** Falco's own spelling for upper case (gRPC), `INFO` (rule files, falcosidekick) and the enum's number. */
function readPriority(value: unknown): string {
  if (typeof value === 'number') return priorities[value] ?? '';
  if (typeof value !== 'string') return '';
  return priorityOf.get(value.toLowerCase()) ?? value;
}

/** Of the gRPC enum that Falco before 0.30 had instead of the name. */
const deprecatedSources: Readonly<Record<string, string>> = {
  SYSCALL: 'syscall',
  K8S_AUDIT: 'k8s_audit',
  INTERNAL: 'internal',
  PLUGIN: 'plugin',
};

function readSource(value: Members): string {
  const source = text(value, 'source');
  if (source !== null) return source.toLowerCase() === 'syscalls' ? 'syscall' : source;
  const deprecated = own(value, 'source_deprecated');
  const name = typeof deprecated === 'number' ? Object.keys(deprecatedSources)[deprecated] : deprecated;
  if (typeof name !== 'string') return 'syscall';
  return Object.hasOwn(deprecatedSources, name) ? (deprecatedSources[name] ?? name) : name;
}

function readTags(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((tag): tag is string => typeof tag === 'string') : [];
}

/** How often a character occurs, to one more than asked for; a search in native code, where a loop takes ten times as long. */
function countUpTo(most: number, text: string, character: string): number {
  let count = 0;
  for (let at = text.indexOf(character); at >= 0 && count <= most; at = text.indexOf(character, at + 1)) count++;
  return count;
}

/** By its brackets outside strings. One pass; malformed JSON gives any answer. */
function shapeOf(text: string): 'plain' | 'deep' | 'wide' {
  if (countUpTo(deepestAlert, text, '{') + countUpTo(deepestAlert, text, '[') <= deepestAlert) return 'plain';
  let depth = 0;
  let count = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (inString) {
      if (code === 0x5c) i++;
      else if (code === 0x22) inString = false;
    } else if (code === 0x22) {
      inString = true;
    } else if (code === 0x7b || code === 0x5b) {
      if (++depth > deepestAlert) return 'deep';
      if (++count > widestAlert) return 'wide';
    } else if (code === 0x7d || code === 0x5d) {
      depth--;
    }
  }
  return 'plain';
}
