/** What is wrong with a configuration, and where. */
import { FalcodropError } from '../errors.ts';

/** Where a setting's value comes from. `line` and `column` from 1; null where it is about the whole file. */
export type Place =
  | { readonly kind: 'file'; readonly file: string; readonly line: number | null; readonly column: number | null }
  | { readonly kind: 'environment'; readonly variable: string }
  | { readonly kind: 'flag'; readonly flag: string }
  | { readonly kind: 'default' };

export interface Problem {
  readonly code: 'config_invalid' | 'file_unreadable';
  readonly place: Place;
  /** As in `http.port` or `guard.protected[1]`; null where it is about none. */
  readonly setting: string | null;
  /** One sentence without the place. */
  readonly message: string;
  /** What to do about it. */
  readonly hint: string | null;
}

/** `f.yaml:3:1`, `FALCODROP_HTTP__PORT`, `--stdin`, `default`. */
export function formatPlace(place: Place): string {
  if (place.kind === 'environment') return place.variable;
  if (place.kind === 'flag') return place.flag;
  if (place.kind === 'default') return 'default';
  const { file, line, column } = place;
  if (line === null) return file;
  return column === null ? `${file}:${line}` : `${file}:${line}:${column}`;
}

export function aboutFile(file: string, message: string, hint: string | null = null): Problem {
  const place: Place = { kind: 'file', file, line: null, column: null };
  return { code: 'config_invalid', place, setting: null, message, hint };
}

/** As an error; `others` = how many problems more there are. */
export function errorOf({ code, place, message, hint }: Problem, others = 0): FalcodropError {
  const more = `falcodrop check tells ${others} more`;
  const way = others === 0 ? hint : hint === null ? more : `${hint}; ${more}`;
  return new FalcodropError(code, `${formatPlace(place)}: ${message}`, way ?? undefined);
}
