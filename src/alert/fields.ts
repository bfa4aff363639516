/**
 * Typed access to an alert's `output_fields`. "Missing" is spelled four ways (key absent, null, "<NA>", ""), and means
 * the same in all of them. A value of another type than asked for counts as missing: nothing is guessed.
 */
export type Fields = Readonly<Record<string, unknown>> | null;

/** Of fields, and of the members of a list; real alerts have some thirty, and falcosidekick adds a few. */
const most = 64;

/**
 * The same, for an alert that may wait among thousands: a megabyte of empty objects is thirty in memory, and nobody asks for
 * them. Of an object is kept that it is one, of a list its first texts and numbers; and of more fields than there ever were
 * those that tell of the call and its connection.
 */
export function leanFields(fields: NonNullable<Fields>): NonNullable<Fields> {
  let count = 0;
  for (const name in fields) {
    const value = fields[name];
    if (++count > most || (typeof value === 'object' && value !== null)) return leaner(fields);
  }
  return fields;
}

function leaner(fields: NonNullable<Fields>): NonNullable<Fields> {
  const entries = Object.entries(fields);
  const telling = entries.length <= most ? entries : entries.filter(([name]) => /^(fd|evt)\./.test(name));
  return Object.fromEntries(telling.slice(0, most).map(([name, value]) => [name, leanValue(value)]));
}

function leanValue(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  return Array.isArray(value) ? value.slice(0, most).filter((member) => typeof member !== 'object') : {};
}

/** The value as it came; null when missing. Keys may carry brackets: `proc.aname[2]`. */
export function field(fields: Fields, key: string): unknown {
  if (fields === null || !Object.hasOwn(fields, key)) return null;
  const value = fields[key];
  return value === undefined || value === '' || value === '<NA>' ? null : value;
}

export function textField(fields: Fields, key: string): string | null {
  const value = field(fields, key);
  return typeof value === 'string' ? value : null;
}

/** 0…65535. Falco writes JSON numbers, gRPC and others strings of decimal digits. */
export function portField(fields: Fields, key: string): number | null {
  const value = field(fields, key);
  if (typeof value === 'string') return readPort(value);
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 65_535 ? value : null;
}

/** 0…65535 in decimal, without sign, space or leading zero; null for anything else. */
export function readPort(text: string): number | null {
  if (!/^(0|[1-9]\d{0,4})$/.test(text)) return null;
  const port = Number(text);
  return port <= 65_535 ? port : null;
}

/** A safe integer, also as a string of decimal digits. */
export function integerField(fields: Fields, key: string): number | null {
  const value = field(fields, key);
  const number = typeof value === 'string' && /^-?\d{1,16}$/.test(value) ? Number(value) : value;
  return typeof number === 'number' && Number.isSafeInteger(number) ? number : null;
}

/** JSON true and false, and gRPC's "true" and "false". */
export function truthField(fields: Fields, key: string): boolean | null {
  const value = field(fields, key);
  if (value === true || value === 'true') return true;
  return value === false || value === 'false' ? false : null;
}

/** Strings of a list: a JSON array, gRPC's `(a,b)`, or one string alone. Null when missing; members of other types are left out. */
export function listField(fields: Fields, key: string): readonly string[] | null {
  const value = field(fields, key);
  if (Array.isArray(value)) return value.filter((member): member is string => typeof member === 'string');
  if (typeof value !== 'string') return null;
  const inner = /^\((.*)\)$/s.exec(value)?.[1];
  if (inner === undefined) return [value];
  return inner
    .split(',')
    .map((member) => member.trim())
    .filter((member) => member !== '');
}
