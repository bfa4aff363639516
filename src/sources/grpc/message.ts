/**
 * Falco's gRPC messages (0.43 and older): `falco.outputs.response` and `falco.version.response`. Numbers of fields never changed their
 * meaning, so this reads every version.
 *
 * All output fields come as strings, whatever they are; with `json_output` the text of `output` is the whole alert as the
 * other outputs write it, types included. Then that is the alert.
 */
import { type NotAlert, readJson } from '../../alert/alert.ts';
import { readFields } from './wire.ts';

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
  let message: Message;
  try {
    message = readMessage(bytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { problem: `a message that is not Falco's: ${error.message}` };
  }
  return wholeAlert(message) ?? { value: message, text: JSON.stringify(message) };
}

/** `falco.version.response`: its text, at most 64 characters; null where there is none. Never throws. */
export function readVersionMessage(bytes: Buffer): string | null {
  try {
    for (const { number, value } of readFields(bytes)) {
      if (number === 1 && Buffer.isBuffer(value) && value.length > 0) return value.toString('utf8').slice(0, 64);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return null;
}

/** As Falco's JSON, for what reads that is to read this. */
interface Message extends Readonly<Record<string, unknown>> {
  hostname?: string;
  output: string;
  output_fields: Record<string, string>;
  priority: string;
  rule: string;
  source: string;
  tags: string[];
  time?: string;
}

function readMessage(bytes: Buffer): Message {
  // A map: a key may be "__proto__".
  const fields = new Map<string, string>();
  const tags: string[] = [];
  let [priority, sourceDeprecated] = [0, 0];
  let [rule, output, hostname, source] = ['', '', '', ''];
  let time: string | null = null;
  for (const { number, value } of readFields(bytes)) {
    if (typeof value === 'number') {
      if (number === field.priority) priority = value;
      else if (number === field.sourceDeprecated) sourceDeprecated = value;
    } else if (value !== null) {
      if (number === field.outputFields) readEntry(value, fields);
      else if (number === field.rule) rule = value.toString('utf8');
      else if (number === field.output) output = value.toString('utf8');
      else if (number === field.tags) tags.push(value.toString('utf8'));
      else if (number === field.hostname) hostname = value.toString('utf8');
      else if (number === field.source) source = value.toString('utf8');
      else if (number === field.time) time = readTime(value);
    }
  }
  return {
    ...(hostname === '' ? {} : { hostname }),
    output,
    output_fields: Object.fromEntries(fields),
    priority: priorities[priority] ?? '',
    rule,
    source: source === '' ? (deprecatedSources[sourceDeprecated] ?? '') : source,
    tags,
    ...(time === null ? {} : { time }),
  };
}

/** An entry of a `map<string, string>`. */
function readEntry(bytes: Buffer, fields: Map<string, string>): void {
  let [key, text] = ['', ''];
  for (const { number, value } of readFields(bytes)) {
    if (!Buffer.isBuffer(value)) continue;
    if (number === 1) key = value.toString('utf8');
    else if (number === 2) text = value.toString('utf8');
  }
  fields.set(key, text);
}

/** The last second that RFC 3339 can write. */
const lastSecond = 253_402_300_799;

/** `google.protobuf.Timestamp` as Falco's JSON writes it: UTC, nine decimals. Null before 1970 and after 9999. */
function readTime(bytes: Buffer): string | null {
  let [seconds, nanos] = [0, 0];
  for (const { number, value } of readFields(bytes)) {
    if (typeof value !== 'number') continue;
    if (number === 1) seconds = value;
    else if (number === 2) nanos = value;
  }
  if (seconds > lastSecond || nanos > 999_999_999) return null;
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${String(nanos).padStart(9, '0')}Z`;
}

/**
 * The alert that `output` holds, where it says of itself what the message says: time to the nanosecond, rule, host and source. Else
 * the message is the alert, for without `json_output` that text is partly written by who is observed.
 */
function wholeAlert({ output, output_fields: fields, ...message }: Message): GrpcAlert | null {
  if (!output.startsWith('{')) return null;
  const read = readJson(output);
  if ('problem' in read || typeof read.value !== 'object' || read.value === null) return null;
  const line = read.value as Readonly<Record<string, unknown>>;
  for (const key of ['time', 'rule', 'hostname', 'source'] as const) {
    if (!Object.hasOwn(line, key) || line[key] !== message[key]) return null;
  }
  // They can be switched off for the text alone (Falco 0.41).
  if (Object.hasOwn(line, 'output_fields')) return { value: line, text: output };
  const whole = { ...line, output_fields: fields };
  return { value: whole, text: JSON.stringify(whole) };
}
