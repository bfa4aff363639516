/**
 * Falco's gRPC messages (0.43 and older): `falco.outputs.response` and `falco.version.response`. Numbers of fields never changed their
 * meaning, so this reads every version.
 *
 * All output fields come as strings, whatever they are; with `json_output` the text of `output` is the whole alert as the
 * other outputs write it, types included. Then that is the alert.
 */
import { type NotAlert, readJson } from '../../alert/alert.ts';
import { Fields } from './wire.ts';

export interface GrpcAlert {
  /** As Falco's JSON has it. */
  readonly value: Readonly<Record<string, unknown>>;
  /** Of the value, as JSON. */
  readonly text: string;
}

/** Of the fields of `falco.outputs.response`. */
const field = {
  time: 1,
  priority: 2,
  sourceDeprecated: 3,
  rule: 4,
  output: 5,
  outputFields: 6,
  hostname: 7,
  tags: 8,
  source: 9,
} as const;

/** By number. Absent on the wire is number 0. */
const priorities = ['Emergency', 'Alert', 'Critical', 'Error', 'Warning', 'Notice', 'Informational', 'Debug'] as const;
const deprecatedSources = ['syscall', 'k8s_audit', 'internal', 'plugin'] as const;

/** `falco.outputs.response`. Never throws. */
export function readAlertMessage(bytes: Buffer): GrpcAlert | NotAlert {
  try {
    const message = readMessage(bytes);
    const whole = wholeAlert(message);
    if (whole !== null && Object.hasOwn(whole, 'output_fields')) return { value: whole, text: message.output };
    // They can be switched off for the text alone (Falco 0.41).
    const value = { ...(whole ?? message), output_fields: readEntries(bytes) };
    return { value, text: JSON.stringify(value) };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { problem: `a message that is not Falco's: ${error.message}` };
  }
}

/** `falco.version.response`: its text, at most 64 characters; null where there is none. Never throws. */
export function readVersionMessage(bytes: Buffer): string | null {
  const fields = new Fields(bytes);
  try {
    while (fields.next()) {
      if (fields.number === 1 && fields.type === 'bytes' && fields.to > fields.from) return fields.text().slice(0, 64);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return null;
}

/** As Falco's JSON, for what reads that is to read this; without its output fields. */
interface Message {
  readonly hostname?: string;
  readonly output: string;
  readonly priority: string;
  readonly rule: string;
  readonly source: string;
  readonly tags: readonly string[];
  readonly time?: string;
}

function readMessage(bytes: Buffer): Message {
  const fields = new Fields(bytes);
  const tags: string[] = [];
  let [priority, sourceDeprecated] = [0, 0];
  let [rule, output, hostname, source] = ['', '', '', ''];
  let time: string | null = null;
  while (fields.next()) {
    const { number, type } = fields;
    if (type === 'number') {
      if (number === field.priority) priority = fields.value;
      else if (number === field.sourceDeprecated) sourceDeprecated = fields.value;
    } else if (type === 'bytes') {
      if (number === field.rule) rule = fields.text();
      else if (number === field.output) output = fields.text();
      else if (number === field.tags) tags.push(fields.text());
      else if (number === field.hostname) hostname = fields.text();
      else if (number === field.source) source = fields.text();
      else if (number === field.time) time = readTime(new Fields(bytes, fields.from, fields.to));
    }
  }
  return {
    ...(hostname === '' ? {} : { hostname }),
    output,
    priority: priorities[priority] ?? '',
    rule,
    source: source === '' ? (deprecatedSources[sourceDeprecated] ?? '') : source,
    tags,
    ...(time === null ? {} : { time }),
  };
}

/** `output_fields`, a `map<string, string>`. */
function readEntries(bytes: Buffer): Readonly<Record<string, string>> {
  // A key may be "__proto__".
  const entries = new Map<string, string>();
  const fields = new Fields(bytes);
  while (fields.next()) {
    if (fields.number !== field.outputFields || fields.type !== 'bytes') continue;
    const entry = new Fields(bytes, fields.from, fields.to);
    let [key, text] = ['', ''];
    while (entry.next()) {
      if (entry.type !== 'bytes') continue;
      if (entry.number === 1) key = entry.text();
      else if (entry.number === 2) text = entry.text();
    }
    entries.set(key, text);
  }
  return Object.fromEntries(entries);
}

/** The last second that RFC 3339 can write. */
const lastSecond = 253_402_300_799;

/** `google.protobuf.Timestamp` as Falco's JSON writes it: UTC, nine decimals. Null before 1970 and after 9999. */
function readTime(fields: Fields): string | null {
  let [seconds, nanos] = [0, 0];
  while (fields.next()) {
    if (fields.type !== 'number') continue;
    if (fields.number === 1) seconds = fields.value;
    else if (fields.number === 2) nanos = fields.value;
  }
  if (seconds > lastSecond || nanos > 999_999_999) return null;
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${String(nanos).padStart(9, '0')}Z`;
}

/**
 * The alert that `output` holds, where it says of itself what the message says: time to the nanosecond, rule, host and source. Else
 * the message is the alert, for without `json_output` that text is partly written by who is observed.
 */
function wholeAlert(message: Message): Readonly<Record<string, unknown>> | null {
  if (!message.output.startsWith('{')) return null;
  const read = readJson(message.output);
  if ('problem' in read || typeof read.value !== 'object' || read.value === null) return null;
  const line = read.value as Readonly<Record<string, unknown>>;
  for (const key of ['time', 'rule', 'hostname', 'source'] as const) {
    if (!Object.hasOwn(line, key) || line[key] !== message[key]) return null;
  }
  return line;
}
