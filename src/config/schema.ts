/**
 * What may stand in falcodrop.yaml. Everything has a default, unknown keys are errors. `protected` prefixes and durations
 * are checked by the parsers that the command's arguments go through.
 */
import { z } from 'zod';
import { readAddress } from '../address/address.ts';
import { type Prefix, parsePrefix } from '../address/prefix.ts';
import { prefixSet } from '../address/set.ts';
import { FalcodropError } from '../errors.ts';
import { loopback } from '../judge/guard/ranges.ts';
import { defaultRules } from '../judge/judge.ts';
import { parseDuration } from '../time/duration.ts';
import type { Config } from './config.ts';

/** What `parse` throws becomes the issue's message, with the hint. */
function parsed<T>(context: z.core.$RefinementCtx<string>, parse: (text: string) => T): T {
  try {
    return parse(context.value);
  } catch (error) {
    if (!(error instanceof FalcodropError)) throw error;
    context.issues.push({
      code: 'custom',
      input: context.value,
      message: error.hint === undefined ? error.message : `${error.message}; ${error.hint}`,
    });
    return z.NEVER;
  }
}

const prefix = z.string().transform((_text, context): Prefix => parsed(context, parsePrefix));

/** A name as useradd takes it (shadow-utils), or a number. */
const account = z
  .union([z.string(), z.int().nonnegative()])
  .transform((value) => String(value))
  .refine((text) => /^([a-z_][a-z0-9_-]{0,31}\$?|\d{1,10})$/i.test(text), {
    error: 'is not a name of a user or group',
  });

const age = z
  .union([z.string(), z.literal(0)])
  .transform((value) => String(value))
  .transform((_text, context) => parsed(context, (text) => parseDuration(text, { zero: true })));

/** Authentication of senders comes with other addresses; until then nobody off this host may have an address blocked. */
const listenAddress = z.string().refine(
  (text) => {
    const address = readAddress(text);
    return address !== null && loopback.covering(address) !== null;
  },
  { error: 'must be a loopback address, 127.0.0.1 or ::1: alerts over HTTP are not authenticated' },
);

/** Relative to what, nobody could tell of a daemon. */
const filePath = z
  .string()
  .max(4_095)
  .refine((text) => text.startsWith('/') && !text.includes('\0') && !text.endsWith('/'), {
    error: 'is no absolute path of a file',
  });

export const schema = z.strictObject({
  automatic: z.enum(['monitor', 'enforce']).default('monitor'),
  guard: z
    .strictObject({
      allow_private: z.boolean().default(false),
      protected: z.array(prefix).max(65_536).default([]),
      widest_v4: z.int().min(1).max(32).default(defaultRules.guard.widest[4]),
      widest_v6: z.int().min(1).max(128).default(defaultRules.guard.widest[6]),
    })
    .prefault({}),
  foreign: z.enum(['adopt', 'remove']).default('adopt'),
  service: z.strictObject({ user: account.default('falcodrop'), group: account.default('falcodrop') }).prefault({}),
  host_aliases: z.array(z.string().min(1).max(255)).max(1_024).default([]),
  max_alert_age: age.prefault('5m'),
  http: z
    .strictObject({
      enabled: z.boolean().default(true),
      address: listenAddress.default('127.0.0.1'),
      port: z.int().min(0).max(65_535).default(2804),
      max_body: z.int().min(1_024).max(1_048_576).default(1_048_576),
      max_connections: z.int().min(1).max(65_536).default(128),
    })
    .prefault({}),
  files: z
    .array(z.strictObject({ path: filePath, follow: z.boolean().default(true) }))
    .max(64)
    .refine((files) => new Set(files.map(({ path }) => path)).size === files.length, {
      error: 'names a file twice: its alerts would be taken twice',
    })
    .default([]),
  stdin: z.boolean().default(false),
});

export function toConfig(settings: z.output<typeof schema>): Config {
  const { guard, http } = settings;
  return {
    automatic: settings.automatic,
    rules: {
      ...defaultRules,
      guard: {
        allowPrivate: guard.allow_private,
        protected: prefixSet(guard.protected),
        widest: { 4: guard.widest_v4, 6: guard.widest_v6 },
      },
      maxAlertAgeSeconds: settings.max_alert_age,
    },
    foreign: settings.foreign,
    service: settings.service,
    hostAliases: settings.host_aliases,
    http: {
      enabled: http.enabled,
      address: http.address,
      port: http.port,
      maxBody: http.max_body,
      maxConnections: http.max_connections,
    },
    lines: { files: settings.files, stdin: settings.stdin },
  };
}

/** A setting's place and the kind of its value. */
export interface Scalar {
  readonly path: readonly string[];
  readonly kind: 'text' | 'number' | 'truth';
}

interface Shape {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, Shape>>;
}

const kindOf: Readonly<Record<string, Scalar['kind'] | null>> = {
  integer: 'number',
  number: 'number',
  boolean: 'truth',
  array: null,
};

/** Keys at a level of the settings; null when there is no such level. */
export function keysAt(path: readonly PropertyKey[]): readonly string[] | null {
  let shape: Shape | undefined = shapeOf();
  for (const step of path) shape = shape?.properties?.[String(step)];
  return shape?.properties === undefined ? null : Object.keys(shape.properties);
}

/** Every setting that holds one value: those that the environment may set. */
export function scalars(): Scalar[] {
  const visit = (shape: Shape, path: readonly string[]): Scalar[] => {
    if (shape.properties !== undefined) {
      return Object.entries(shape.properties).flatMap(([key, inner]) => visit(inner, [...path, key]));
    }
    const kind = Object.hasOwn(kindOf, shape.type ?? '') ? kindOf[shape.type ?? ''] : 'text';
    return kind === null || kind === undefined ? [] : [{ path, kind }];
  };
  return visit(shapeOf(), []);
}

function shapeOf(): Shape {
  return z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Shape;
}
