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

/** What may be written there, with an example: said with every mistake. By place, list members under `[]`. */
const expectations: Readonly<Record<string, string>> = {
  automatic: 'monitor or enforce, as automatic: monitor',
  guard: 'settings below it, as guard: { allow_private: false }',
  'guard.allow_private': 'true or false',
  'guard.protected': 'a list of addresses and prefixes, as [192.0.2.7, "2001:db8::/32"]',
  'guard.protected.[]': 'an address or a prefix, as 192.0.2.0/24 or "2001:db8::1"',
  'guard.widest_v4': 'a prefix length from 1 to 32, as 8',
  'guard.widest_v6': 'a prefix length from 1 to 128, as 32',
  foreign: 'adopt or remove, as foreign: adopt',
  service: 'settings below it, as service: { user: falcodrop, group: falcodrop }',
  'service.user': 'the name or the number of a user, as falcodrop',
  'service.group': 'the name or the number of a group, as falcodrop',
  host_aliases: 'a list of host names, as [web.example.org]',
  'host_aliases.[]': 'a host name of 1 to 255 characters, as web.example.org',
  max_alert_age: 'a duration, as 90s, 5m or 1h, or 0 for any age',
  http: 'settings below it, as http: { port: 2804 }',
  'http.enabled': 'true or false',
  'http.address': 'a loopback address, as 127.0.0.1 or "::1"',
  'http.port': 'a port from 0 to 65535, as 2804; 0 takes a free one',
  'http.max_body': 'bytes from 1024 to 1048576, as 65536',
  'http.max_connections': 'a number from 1 to 65536, as 128',
};

/** Null where there is no such setting. */
export function expectedAt(path: readonly PropertyKey[]): string | null {
  const name = path.map((step) => (typeof step === 'number' ? '[]' : String(step))).join('.');
  return Object.hasOwn(expectations, name) ? (expectations[name] ?? null) : null;
}

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
