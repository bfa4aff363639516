/** What a schema says of each setting, as plain data: for the environment's names, for messages, for editors. */
import * as z from 'zod';

/** What a setting's schema carries (`.meta()`) beside its type. Names that begin with `x-` are not published. */
export interface Told {
  readonly description?: string;
  /** In words, where the type does not say it: "a duration, or 0". */
  readonly 'x-expects'?: string;
  readonly 'x-example'?: unknown;
  /** Its value is never shown. */
  readonly 'x-secret'?: true;
  /** Of a secret: it is PEM, of several lines. A certificate everybody may read. */
  readonly 'x-pem'?: Pem;
}

export type Pem = 'certificate' | 'key';

/** The part of JSON Schema (draft 7) that our schemas come out as. */
export interface Shape extends Told {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, Shape>>;
  readonly items?: Shape;
  readonly default?: unknown;
}

/** A setting that holds one value, and the kind of it. */
export interface Scalar {
  readonly path: readonly string[];
  readonly kind: 'text' | 'number' | 'truth';
}

const known = new WeakMap<z.ZodType, Shape>();

/** As written in a file, before anything is parsed further. */
export function shapeOf(schema: z.ZodType): Shape {
  let shape = known.get(schema);
  if (shape === undefined) {
    shape = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any', target: 'draft-7' }) as Shape;
    known.set(schema, shape);
  }
  return shape;
}

/** Null when there is no such setting. A number steps into a list. */
export function shapeAt(shape: Shape, path: readonly PropertyKey[]): Shape | null {
  let at: Shape | undefined = shape;
  for (const step of path) {
    const { properties, items }: Shape = at;
    if (typeof step === 'number') at = items;
    else
      at = properties !== undefined && Object.hasOwn(properties, String(step)) ? properties[String(step)] : undefined;
    if (at === undefined) return null;
  }
  return at;
}

/** Keys at a level of the settings; none when it is no level. */
export function keysAt(shape: Shape, path: readonly PropertyKey[]): readonly string[] {
  return Object.keys(shapeAt(shape, path)?.properties ?? {});
}

/** Keys and values that are merged one by one. A secret is one value, and so is an element of a list. */
export function isSection(shape: Shape | null): boolean {
  return shape?.properties !== undefined && shape['x-secret'] !== true;
}

const kindOf: Readonly<Record<string, Scalar['kind']>> = { integer: 'number', number: 'number', boolean: 'truth' };

/** Every setting that holds one value: those that the environment may set. */
export function scalars(shape: Shape, path: readonly string[] = []): Scalar[] {
  if (shape.properties !== undefined) {
    return Object.entries(shape.properties).flatMap(([key, inner]) => scalars(inner, [...path, key]));
  }
  return shape.type === 'array' ? [] : [{ path, kind: kindOf[shape.type ?? ''] ?? 'text' }];
}

/** Every setting that is merged as one: values, lists, secrets. */
export function leaves(shape: Shape, path: readonly string[] = []): { path: readonly string[]; shape: Shape }[] {
  if (!isSection(shape)) return [{ path, shape }];
  return Object.entries(shape.properties ?? {}).flatMap(([key, inner]) => leaves(inner, [...path, key]));
}

/** Completes "expected …". */
export function expectation(shape: Shape): string {
  const { type, minimum, maximum } = shape;
  if (shape['x-expects'] !== undefined) return shape['x-expects'];
  if (shape.enum !== undefined) return shape.enum.map(String).join(' or ');
  if (type === 'integer') {
    if (minimum === undefined || maximum === undefined || maximum === Number.MAX_SAFE_INTEGER) return 'a whole number';
    return `a whole number from ${minimum} to ${maximum}`;
  }
  if (type === 'boolean') return 'true or false';
  if (type === 'array') return 'a list';
  if (type === 'object') return 'keys and values';
  return 'text';
}
