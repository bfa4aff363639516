/**
 * A line of `journalctl -o json` (systemd's "Journal JSON Format"): an object of fields, each a text, an array of byte numbers
 * where it is not printable UTF-8, null where it is larger than journalctl's limit (4096 bytes without `--all`), or an array
 * of such values where the entry has the field several times.
 */

export interface Entry {
  /** Tells the entry among all of the journal; null when the line has none. */
  readonly cursor: string | null;
  /** null: larger than journalctl would say. */
  readonly messages: readonly (string | null)[];
}

/** Real ones have some 140 characters. */
const longestCursor = 512;

/** Null: it is none of journalctl's. Never throws. */
export function readEntry(line: string): Entry | null {
  let entry: unknown;
  try {
    entry = JSON.parse(line);
  } catch {
    return null;
  }
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return null;
  const { __CURSOR: cursor, MESSAGE: message } = entry as Readonly<Record<string, unknown>>;
  if (cursor === undefined && message === undefined) return null;
  return { cursor: isCursor(cursor) ? cursor : null, messages: message === undefined ? [] : textsOf(message) };
}

/** As it may stand on a command line. */
export function isCursor(value: unknown): value is string {
  return typeof value === 'string' && value.length <= longestCursor && /^[\x21-\x7e]+$/.test(value);
}

function textsOf(field: unknown): (string | null)[] {
  // An array of numbers is one value, any other one a list of values.
  if (Array.isArray(field) && !isBytes(field)) return field.map(textOf);
  return [textOf(field)];
}

function textOf(value: unknown): string | null {
  if (typeof value === 'string') return value;
  if (value === null) return null;
  // What is no UTF-8 becomes U+FFFD.
  if (Array.isArray(value) && isBytes(value)) return Buffer.from(value as number[]).toString('utf8');
  return '';
}

function isBytes(values: readonly unknown[]): boolean {
  return values.every((value) => typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 255);
}

/**
 * What a message is taken for. Falco writes its own words beside the alerts (version, files, drivers), so what does not begin
 * as an object is `text`; `alert-text` looks like an alert as Falco writes it without `json_output`.
 */
export function kindOf(message: string): 'object' | 'alert-text' | 'text' {
  if (/^\s*\{/.test(message)) return 'object';
  return alertText.test(message) ? 'alert-text' : 'text';
}

/** `23:10:05.123456789: Warning …`, or with `time_format_iso_8601` `2026-01-02T23:10:05.123456789+0000: Warning …` */
const alertText =
  /^\S{0,12}\d\d:\d\d:\d\d\.\d{6,9}\S{0,6}: (?:Emergency|Alert|Critical|Error|Warning|Notice|Informational|Debug)\b/;
