/** What the schema found, in sentences: what is expected, what is there instead, and an example. */
import type * as z from 'zod';
import { quote } from '../address/address.ts';
import { variableOf } from './environment.ts';
import { type Layer, settingAt } from './layer.ts';
import { nearest } from './nearest.ts';
import { inline } from './print.ts';
import type { Place, Problem } from './problem.ts';
import { expectation, keysAt, leaves, type Shape, shapeAt } from './shape.ts';

/** One issue of zod's may be about several keys. */
export function explain(issue: z.core.$ZodIssue, shape: Shape, layer: Layer): Problem[] {
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => unknownKey(shape, [...issue.path, key], layer));
  const { path } = issue;
  const place = layer.placeOf(path);
  const setting = settingName(path);
  const about = shapeAt(shape, path) ?? {};
  const secret = shapeAt(shape, path.slice(0, -1))?.['x-secret'] === true || about['x-secret'] === true;
  const value = settingAt(layer.settings, path);
  const given = (issue as { readonly params?: { readonly hint?: string } }).params?.hint;
  return [
    {
      code: 'config_invalid',
      place,
      setting,
      message: `${setting}: ${sentence(issue, about, value, secret)}`,
      hint: given ?? exampleOf(about, path, place),
    },
  ];
}

function sentence(issue: z.core.$ZodIssue, about: Shape, value: unknown, secret: boolean): string {
  if (about['x-secret'] === true && issue.code === 'invalid_type') {
    return 'a secret may not stand here, where whoever reads the configuration reads it';
  }
  if (issue.code === 'custom') return issue.message;
  if (value === undefined) return `is missing; expected ${expectation(about)}`;
  if (issue.code === 'too_big' && issue.origin !== 'number' && issue.origin !== 'int') {
    return `has more than ${issue.maximum} ${issue.origin === 'string' ? 'characters' : 'elements'}`;
  }
  return `expected ${expectation(about)}, not ${secret ? 'what stands here' : shown(value)}`;
}

function shown(value: unknown): string {
  if (typeof value === 'string') return value === '' ? 'an empty text' : quote(value);
  if (value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'keys and values' : String(value);
}

/** Also of text that somebody else wrote, so made harmless. */
export function settingName(path: readonly PropertyKey[]): string {
  const text = path.map((step, n) => (typeof step === 'number' ? `[${step}]` : `${n === 0 ? '' : '.'}${String(step)}`));
  return quote(text.join('')).slice(1, -1);
}

function exampleOf(about: Shape, path: readonly PropertyKey[], place: Place): string | null {
  const example = about['x-example'];
  if (example === undefined) return null;
  if (place.kind === 'environment') return `for example ${variableOf(path)}=${String(example)}`;
  const last = path.at(-1);
  return `for example ${typeof last === 'string' ? `${last}: ` : ''}${inline(example)}`;
}

function unknownKey(shape: Shape, path: readonly PropertyKey[], layer: Layer): Problem {
  const setting = settingName(path);
  const keys = keysAt(shape, path.slice(0, -1));
  const word = String(path.at(-1) ?? '');
  const near = nearest(word, keys) ?? elsewhere(shape, word);
  const hint =
    near !== undefined
      ? `did you mean ${near}?`
      : keys.length === 0
        ? null
        : `the settings ${path.length === 1 ? '' : `of ${settingName(path.slice(0, -1))} `}are ${keys.join(', ')}`;
  return {
    code: 'config_invalid',
    place: layer.placeOf(path),
    setting,
    message: `there is no setting ${setting}`,
    hint,
  };
}

/** A setting of that very name at another level. */
function elsewhere(shape: Shape, word: string): string | undefined {
  const same = leaves(shape).find(({ path }) => path.length > 1 && path.at(-1) === word);
  return same === undefined ? undefined : settingName(same.path);
}
