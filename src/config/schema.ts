/**
 * What may stand in falcodrop.yaml. Everything has a default, unknown keys are errors. Addresses, ports and durations are
 * checked by the parsers that the command's arguments go through.
 *
 * Each setting carries what editors, `falcodrop check` and docs/configuration.md tell of it (see shape.ts): a description,
 * what is expected in words where the type does not say it, and an example. Defaults of what is parsed further are
 * `prefault`s: only those are known as they would be written.
 */
import * as z from 'zod';
import { readAddress } from '../address/address.ts';
import { joinPorts, mostPorts, type Ports, parsePorts } from '../address/port.ts';
import { formatPrefix, type Prefix, parsePrefix } from '../address/prefix.ts';
import { prefixSet } from '../address/set.ts';
import { FalcodropError } from '../errors.ts';
import { defaultRules } from '../judge/judge.ts';
import { parseDuration } from '../time/duration.ts';
import { type BrokerAddress, formatBrokerAddress, parseBrokerAddress } from './broker-address.ts';
import type { Config, GrpcConfig, HttpConfig, KafkaConfig, SpeaksFor } from './config.ts';
import { type FalcoAddress, formatFalcoAddress, parseFalcoAddress } from './falco-address.ts';
import { pem, type Secret, secret } from './secret.ts';
import type { Told } from './shape.ts';

/** What `parse` throws becomes the issue's message, and its hint a parameter. */
function parsed<T>(context: z.core.$RefinementCtx<string>, parse: (text: string) => T): T {
  try {
    return parse(context.value);
  } catch (error) {
    if (!(error instanceof FalcodropError)) throw error;
    const params = error.hint === undefined ? {} : { hint: error.hint };
    context.issues.push({ code: 'custom', input: context.value, message: error.message, params });
    return z.NEVER;
  }
}

/** Typed, so that a misspelt member is no silent one. */
function told(tells: Told): Told & Readonly<Record<string, unknown>> {
  return { ...tells };
}

const prefix = z
  .string()
  .transform((_text, context): Prefix => parsed(context, parsePrefix))
  .meta(told({ 'x-expects': 'an address or a prefix', 'x-example': '192.0.2.0/24' }));

/** The shortest lengths in `management`: wider networks let pass for ever leave next to nothing to be dropped. */
const widestManagement = { 4: 8, 6: 16 } as const;

const network = z
  .string()
  .transform((_text, context): Prefix => parsed(context, parseNetwork))
  .meta(told({ 'x-expects': 'an address or a prefix', 'x-example': '198.51.100.0/24' }));

function parseNetwork(text: string): Prefix {
  const given = parsePrefix(text);
  const widest = widestManagement[given.address.family];
  if (given.length >= widest) return given;
  throw new FalcodropError(
    'config_invalid',
    `${formatPrefix(given)} is wider than /${widest}: nothing in it would ever be dropped`,
    'name the networks that you really come from',
  );
}

const port = z
  .string()
  .transform((_text, context): Ports => parsed(context, parsePorts))
  .meta(told({ 'x-expects': 'a protocol and a port', 'x-example': 'tcp/22' }));

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

/** Whether senders are authenticated on a wide one is asked when it is listened at: secrets may come from another file. */
const listenAddress = z.string().refine((text) => readAddress(text) !== null, {
  error: 'is no IP address: 127.0.0.1 and ::1 are for this host alone, 0.0.0.0 and :: for everybody',
});

/** Relative to what, nobody could tell of a daemon. */
const filePath = z
  .string()
  .max(4_095)
  .refine((text) => text.startsWith('/') && !text.includes('\0') && !text.endsWith('/'), {
    error: 'is no absolute path of a file',
  });

const remote = z
  .boolean()
  .default(false)
  .meta(
    told({
      description: 'Whether alerts of other hosts come this way; then one that names no host is not taken for ours.',
      'x-example': true,
    }),
  );

const fleetHosts = z
  .array(
    z
      .string()
      .min(1)
      .max(255)
      .meta(told({ 'x-expects': 'a host name', 'x-example': 'web-2.example.org' })),
  )
  .max(65_536)
  .default([])
  .meta(
    told({
      description:
        'Other hosts whose alerts count when they come this way: whom they connected to or accepted is judged here. It is remote then.',
      'x-expects': 'a list of host names',
      'x-example': ['web-2.example.org'],
    }),
  );

/** Of one of several of a kind. */
const enabled = z
  .boolean()
  .default(true)
  .meta(told({ description: 'Whether alerts are taken from it.', 'x-example': false }));

/** Falco's gRPC server asks for client certificates wherever it listens on a port, and never on a unix socket. */
const grpcServer = z
  .strictObject({
    address: z
      .string()
      .transform((_text, context): FalcoAddress => parsed(context, parseFalcoAddress))
      .meta(
        told({
          description: "Falco's grpc.bind_address: a unix socket, or a host and a port.",
          'x-expects': 'unix:///PATH, or HOST:PORT',
          'x-example': 'unix:///run/falco/falco.sock',
        }),
      ),
    tls: z
      .strictObject({
        ca: filePath.meta(
          told({
            description: "The CA that Falco's certificate is of, in PEM.",
            'x-expects': 'an absolute path',
            'x-example': '/etc/falcodrop/grpc/ca.crt',
          }),
        ),
        cert: filePath.meta(
          told({
            description: 'Our certificate, in PEM.',
            'x-expects': 'an absolute path',
            'x-example': '/etc/falcodrop/grpc/client.crt',
          }),
        ),
        key: pem('key', 'The key of our certificate, in PEM.', 'client.key'),
        name: z
          .string()
          .regex(/^[a-z0-9_.:-]{1,253}$/i)
          .optional()
          .meta(
            told({
              description: "The name in Falco's certificate, where it is not the host of the address.",
              'x-expects': 'a host name',
              'x-example': 'localhost',
            }),
          ),
      })
      .optional()
      .meta(told({ description: 'For a host and port: both sides show a certificate.' })),
    remote,
    fleet_hosts: fleetHosts,
    enabled,
  })
  .transform(({ address, tls, remote: isRemote, fleet_hosts, ...rest }, context): GrpcConfig => {
    if ('path' in address && tls !== undefined) {
      context.issues.push({ code: 'custom', input: null, message: 'a unix socket has no tls' });
    }
    if ('host' in address && tls === undefined) {
      context.issues.push({ code: 'custom', input: null, message: 'needs tls: Falco asks for a client certificate' });
    }
    return {
      address,
      ...rest,
      tls: tls === undefined ? null : { ...tls, name: tls.name ?? null },
      ...speaksFor({ remote: isRemote, fleet_hosts }),
    };
  });

/** Kafka's own rules for a topic (Topic.validate): ASCII, at most 249 characters, neither "." nor "..". */
const topicName = z
  .string()
  .refine((text) => /^[\w.-]{1,249}$/.test(text) && text !== '.' && text !== '..', { error: 'is no name of a topic' });

const kafkaTopic = z
  .strictObject({
    name: z
      .string()
      .refine((text) => /^[a-z0-9][\w.-]{0,62}$/i.test(text), {
        error: 'is no name: letters, digits, "_", "." and "-"',
      })
      .default('kafka')
      .meta(
        told({
          description: 'Tells it from others: the source is kafka:NAME.',
          'x-expects': 'a name',
          'x-example': 'fleet',
        }),
      ),
    brokers: z
      .array(
        z
          .string()
          .transform((_text, context): BrokerAddress => parsed(context, parseBrokerAddress))
          .meta(told({ 'x-expects': 'HOST:PORT', 'x-example': 'kafka-1.example.org:9092' })),
      )
      .min(1)
      .max(64)
      .refine((brokers) => new Set(brokers.map(formatBrokerAddress)).size === brokers.length, {
        error: 'names a broker twice',
      })
      .meta(
        told({
          description: 'Where to begin; they name the others.',
          'x-expects': 'a list of HOST:PORT',
          'x-example': ['kafka-1.example.org:9092'],
        }),
      ),
    topic: topicName.meta(
      told({
        description: "The topic: falcosidekick's kafka.topic.",
        'x-expects': 'the name of a topic',
        'x-example': 'falco',
      }),
    ),
    group: z
      .string()
      .refine((text) => /^[\x21-\x7e]{1,249}$/.test(text), { error: 'is no name of a group' })
      .optional()
      .meta(
        told({
          description:
            'The consumer group; falcodrop-HOSTNAME where it is not given. Of several hosts in one group each alert reaches one.',
          'x-expects': 'the name of a group',
          'x-example': 'falcodrop-edge1',
        }),
      ),
    begin: z
      .enum(['latest', 'earliest'])
      .default('latest')
      .meta(
        told({
          description: 'Where a group begins that has never been there: at what comes from now on, or at the oldest.',
          'x-example': 'earliest',
        }),
      ),
    tls: z
      .strictObject({
        ca: pem(
          'certificate',
          "The CA of the brokers' certificates, PEM; without it the public ones.",
          'kafka-ca.crt',
        ).optional(),
        cert: pem('certificate', 'Our certificate, PEM, where brokers ask for one.', 'kafka.crt').optional(),
        key: pem('key', 'The key of our certificate, PEM.', 'kafka.key').optional(),
      })
      .optional()
      .meta(told({ description: 'TLS; {} is TLS with the public CAs.' })),
    sasl: z
      .strictObject({
        mechanism: z
          .enum(['plain', 'scram-sha-256', 'scram-sha-512'])
          .meta(told({ description: 'As the user was made for.', 'x-example': 'scram-sha-512' })),
        username: z
          .string()
          .min(1)
          .max(255)
          .meta(told({ description: 'Who we are.', 'x-expects': 'a name', 'x-example': 'falcodrop' })),
        password: secret('The password.', 'kafka-password'),
      })
      .optional()
      .meta(told({ description: 'A password, where brokers ask for one.' })),
    remote,
    fleet_hosts: fleetHosts,
    enabled,
  })
  .transform(({ tls, sasl, group, remote: isRemote, fleet_hosts, ...rest }, context): KafkaConfig => {
    if (tls !== undefined && (tls.cert === undefined) !== (tls.key === undefined)) {
      const lacks = tls.cert === undefined ? 'certificate' : 'key';
      context.issues.push({
        code: 'custom',
        input: null,
        message: `tls names no ${lacks}: cert and key belong together`,
      });
    }
    const { ca = null, cert = null, key = null } = tls ?? {};
    return {
      ...rest,
      group: group ?? null,
      tls: tls === undefined ? null : { ca, cert, key },
      sasl: sasl ?? null,
      ...speaksFor({ remote: isRemote, fleet_hosts }),
    };
  });

/** As the kernel takes them (dev_valid_name of net/core/dev.c): at most 15 bytes, no slash, colon or white space. */
const interfaceName = z
  .string()
  .refine((text) => /^[^\s/:\0]+$/.test(text) && Buffer.byteLength(text) <= 15 && text !== '.' && text !== '..', {
    error: 'is no name of an interface',
  })
  .meta(told({ 'x-expects': 'the name of an interface', 'x-example': 'eth0' }));

/** As systemd takes them (unit_name_is_valid of src/basic/unit-name.c); a name without a type is a service. */
const unitName = z
  .string()
  .refine((text) => /^[\w:.\\@-]{1,255}$/.test(text), { error: 'is no name of a unit' })
  .transform((text) => (/\.(service|scope)$/.test(text) ? text : `${text}.service`))
  .meta(told({ 'x-expects': 'the name of a unit', 'x-example': 'falco.service' }));

/** Names of fields as journald takes them (journal_field_valid): capitals, digits and underscores, no digit first. */
const journalMatch = z
  .string()
  .max(4_096)
  .refine((text) => splitMatch(text).every((part) => /^[A-Z_][A-Z0-9_]{0,63}=[^\0\n]+$/.test(part)), {
    error: 'is no FIELD=value',
  })
  .transform(splitMatch)
  .meta(told({ 'x-expects': 'one or several FIELD=value', 'x-example': '_COMM=falco _UID=0' }));

/** Values may hold spaces: a field begins behind one. */
function splitMatch(text: string): string[] {
  return text.trim().split(/\s+(?=[A-Z_][A-Z0-9_]*=)/);
}

export const schema = z
  .strictObject({
    interfaces: z
      .array(interfaceName)
      .max(64)
      .refine((names) => new Set(names).size === names.length, { error: 'names an interface twice' })
      .default([])
      .meta(
        told({
          description:
            'Interfaces that "falcodrop attach" takes when none is named: the ports that packets come in by.',
          'x-expects': 'a list of names of interfaces',
          'x-example': ['eth0'],
        }),
      ),
    automatic: z
      .enum(['monitor', 'enforce'])
      .default('monitor')
      .meta(
        told({
          description: 'What automatic blocks may do at most: monitor counts their packets, enforce drops them.',
          'x-example': 'monitor',
        }),
      ),
    guard: z
      .strictObject({
        allow_private: z
          .boolean()
          .default(false)
          .meta(
            told({
              description: 'Whether private addresses (RFC 1918, ULA, CGNAT) may be blocked.',
              'x-example': true,
            }),
          ),
        protected: z
          .array(prefix)
          .max(65_536)
          .prefault([])
          .meta(
            told({
              description: 'Addresses and prefixes that falcodrop refuses to block. The kernel does not know them.',
              'x-expects': 'a list of addresses and prefixes',
              'x-example': ['192.0.2.0/24', '2001:db8::1'],
            }),
          ),
        widest_v4: z
          .int()
          .min(1)
          .max(32)
          .default(defaultRules.guard.widest[4])
          .meta(told({ description: 'The shortest length of an IPv4 prefix that may be blocked.', 'x-example': 16 })),
        widest_v6: z
          .int()
          .min(1)
          .max(128)
          .default(defaultRules.guard.widest[6])
          .meta(told({ description: 'The shortest length of an IPv6 prefix that may be blocked.', 'x-example': 48 })),
      })
      .prefault({})
      .meta(told({ description: 'What is refused, to keep you and this host reachable.' })),
    management: z
      .array(network)
      .max(1_024)
      .prefault([])
      .meta(
        told({
          description:
            'Networks you administer this host from: "falcodrop protect" has the kernel let them pass, whatever is blocked.',
          'x-expects': 'a list of addresses and prefixes',
          'x-example': ['198.51.100.0/24'],
        }),
      ),
    never_drop_ports: z
      .array(port)
      .refine((ports) => ports.flat().length <= mostPorts, { error: `are more ports than the kernel's ${mostPorts}` })
      .prefault([])
      .meta(
        told({
          description:
            'Local ports to which packets pass even from blocked addresses, so that you can always log in. Open to every attacker, too.',
          'x-expects': 'a list of ports',
          'x-example': ['tcp/22'],
        }),
      ),
    foreign: z
      .enum(['adopt', 'remove'])
      .default('adopt')
      .meta(
        told({
          description: 'What a reconcile does with blocks in the kernel that the ledger knows nothing of.',
          'x-example': 'adopt',
        }),
      ),
    service: z
      .strictObject({
        user: account.prefault('falcodrop').meta(
          told({
            description: 'Whom "falcodrop run" runs as; the maps are made for him.',
            'x-expects': 'the name or number of a user',
            'x-example': 'falcodrop',
          }),
        ),
        group: account.prefault('falcodrop').meta(
          told({
            description: 'Whose members may block and unblock without being root.',
            'x-expects': 'the name or number of a group',
            'x-example': 'falcodrop',
          }),
        ),
      })
      .prefault({})
      .meta(told({ description: 'The service without privileges.' })),
    host_aliases: z
      .array(
        z
          .string()
          .min(1)
          .max(255)
          .meta(told({ 'x-expects': 'a host name', 'x-example': 'web.example.org' })),
      )
      .max(1_024)
      .default([])
      .meta(
        told({
          description: 'Further names of this host in alerts (a Falco in a container reports the id of its container).',
          'x-expects': 'a list of host names',
          'x-example': ['web.example.org'],
        }),
      ),
    max_alert_age: age.prefault('5m').meta(
      told({
        description: 'Older alerts are not acted on; 0 takes any age.',
        'x-expects': 'a duration, or 0',
        'x-example': '5m',
      }),
    ),
    http: z
      .strictObject({
        enabled: z
          .boolean()
          .default(true)
          .meta(told({ description: 'Whether alerts are taken over HTTP (TCP).', 'x-example': false })),
        address: listenAddress.default('127.0.0.1').meta(
          told({
            description:
              'Where it listens. A wider address than loopback needs token, basic, path or tls.client_ca, or falcodrop run refuses to start.',
            'x-expects': 'an IP address',
            'x-example': '127.0.0.1',
          }),
        ),
        port: z
          .int()
          .min(0)
          .max(65_535)
          .default(2804)
          .meta(told({ description: 'The TCP port; 0 takes a free one.', 'x-example': 2804 })),
        socket: filePath.optional().meta(
          told({
            description: "A unix socket too, for members of the service's group.",
            'x-expects': 'an absolute path',
            'x-example': '/run/falcodrop-http/http.sock',
          }),
        ),
        token: secret('A bearer token. Of token, basic and path any one admits a request.', 'http-token').optional(),
        basic: secret(
          'A name and a password, NAME:PASSWORD, as in http://NAME:PASSWORD@HOST/.',
          'http-basic',
        ).optional(),
        path: secret('A path that nobody guesses, as in http://HOST/PATH.', 'http-path').optional(),
        tls: z
          .strictObject({
            cert: pem('certificate', 'The certificate, PEM; with it HTTP is HTTPS.', 'http.crt').optional(),
            key: pem('key', 'Its private key, PEM.', 'http.key').optional(),
            client_ca: pem(
              'certificate',
              'The CA of client certificates, PEM: who shows none of it is not let in.',
              'client-ca.crt',
            ).optional(),
          })
          .prefault({})
          .meta(told({ description: 'TLS.' })),
        rate: z
          .strictObject({
            alerts: z
              .int()
              .min(0)
              .max(1_000_000)
              .default(0)
              .meta(
                told({
                  description:
                    'Alerts a second that one sender (an address) may send; 0 is no limit. The queue sheds what is redundant, this sheds blindly.',
                  'x-example': 100,
                }),
              ),
            burst: z
              .int()
              .min(1)
              .max(1_000_000)
              .default(1_000)
              .meta(told({ description: 'Alerts that one sender may send at once.', 'x-example': 1_000 })),
          })
          .prefault({})
          .meta(told({ description: 'How much one sender may send.' })),
        max_body: z
          .int()
          .min(1_024)
          .max(1_048_576)
          .default(1_048_576)
          .meta(told({ description: 'Longest alert, and longest body, in bytes.', 'x-example': 65_536 })),
        max_connections: z
          .int()
          .min(1)
          .max(65_536)
          .default(128)
          .meta(told({ description: 'Connections at a time.', 'x-example': 128 })),
        remote,
        fleet_hosts: fleetHosts,
      })
      .prefault({})
      .meta(told({ description: "Alerts over HTTP: Falco's http_output, falcosidekick's webhook." })),
    files: z
      .array(
        z.strictObject({
          path: filePath.meta(
            told({
              description: 'The file.',
              'x-expects': 'an absolute path',
              'x-example': '/var/log/falco/events.json',
            }),
          ),
          follow: z
            .boolean()
            .default(true)
            .meta(
              told({
                description: 'Go on at its end, through rotation and restarts; false reads it once.',
                'x-example': false,
              }),
            ),
          remote,
          fleet_hosts: fleetHosts,
        }),
      )
      .max(64)
      .refine((files) => new Set(files.map(({ path }) => path)).size === files.length, {
        error: 'names a file twice: its alerts would be taken twice',
      })
      .default([])
      .meta(
        told({
          description: "Files of alerts, one a line: Falco's file_output.",
          'x-expects': 'a list of files',
          'x-example': [{ path: '/var/log/falco/events.json', follow: true }],
        }),
      ),
    grpc: z
      .array(grpcServer)
      .max(64)
      .refine((servers) => new Set(servers.map(({ address }) => formatFalcoAddress(address))).size === servers.length, {
        error: 'names an address twice: the two would take the alerts from each other',
      })
      .prefault([])
      .meta(
        told({
          description: 'Falcos up to 0.43 whose alerts are taken over gRPC; 0.44 has none any more.',
          'x-expects': 'a list of addresses of gRPC servers',
          'x-example': [{ address: 'unix:///run/falco/falco.sock' }],
        }),
      ),
    stdin: z
      .boolean()
      .default(false)
      .meta(
        told({
          description: "Whether alerts are read from standard input, one a line: Falco's program_output.",
          'x-example': true,
        }),
      ),
    journal: z
      .strictObject({
        enabled: z
          .boolean()
          .default(false)
          .meta(
            told({
              description: "Whether alerts are read from systemd's journal: Falco's syslog_output, or its stdout.",
              'x-example': true,
            }),
          ),
        units: z
          .array(unitName)
          .max(64)
          .prefault([
            'falco.service',
            'falco-kmod.service',
            'falco-bpf.service',
            'falco-modern-bpf.service',
            'falco-custom.service',
          ])
          .meta(
            told({
              description: 'Units whose entries are read.',
              'x-expects': 'a list of units',
              'x-example': ['falco.service'],
            }),
          ),
        matches: z
          .array(journalMatch)
          .max(64)
          .prefault(['_COMM=falco _UID=0'])
          .meta(
            told({
              description:
                'Entries that are read beside those of the units: in each all must hold. Fields without a first underscore can be written by anybody on this host.',
              'x-expects': 'a list of FIELD=value',
              'x-example': ['_COMM=falco _UID=0'],
            }),
          ),
        directory: z
          .union([z.literal(''), filePath])
          .default('')
          .meta(
            told({
              description: "A directory of journal files instead of the system's own; empty: that.",
              'x-expects': 'an absolute path, or nothing',
              'x-example': '/host/var/log/journal',
            }),
          ),
      })
      .refine(({ units, matches }) => units.length + matches.length > 0, {
        error: 'names neither units nor matches: the whole journal would be read',
      })
      .prefault({})
      .meta(told({ description: 'Alerts from the journal, through journalctl.' })),
    kafka: z
      .array(kafkaTopic)
      .max(64)
      .refine((topics) => new Set(topics.map(({ name }) => name)).size === topics.length, {
        error: 'gives a name twice: each topic takes one of its own',
      })
      .prefault([])
      .meta(
        told({
          description: "Topics of alerts: falcosidekick's Kafka output.",
          'x-expects': 'a list of topics',
          'x-example': [{ brokers: ['kafka-1.example.org:9092'], topic: 'falco' }],
        }),
      ),
  })
  .meta(told({ description: 'The configuration of falcodrop.' }));

export function toConfig(settings: z.output<typeof schema>): Config {
  const { guard, http, journal } = settings;
  return {
    interfaces: settings.interfaces,
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
    management: settings.management,
    neverDropPorts: portsOf(settings.never_drop_ports),
    foreign: settings.foreign,
    service: settings.service,
    hostAliases: settings.host_aliases,
    http: httpOf(http),
    lines: {
      files: settings.files.map((file) => ({ path: file.path, follow: file.follow, ...speaksFor(file) })),
      stdin: settings.stdin,
    },
    grpc: settings.grpc,
    journal: {
      enabled: journal.enabled,
      units: [...new Set(journal.units)],
      matches: journal.matches,
      directory: journal.directory === '' ? null : journal.directory,
    },
    kafka: settings.kafka,
  };
}

/** Whoever names other hosts has said that their alerts come. */
function speaksFor({ remote, fleet_hosts: fleetHosts }: { remote: boolean; fleet_hosts: string[] }): SpeaksFor {
  return { remote: remote || fleetHosts.length > 0, fleetHosts };
}

function httpOf(http: z.output<typeof schema>['http']): HttpConfig {
  const named = (secret: Secret | undefined): Secret | null => secret ?? null;
  const { cert, key, client_ca } = http.tls;
  const isTls = cert !== undefined || key !== undefined || client_ca !== undefined;
  return {
    enabled: http.enabled,
    address: http.address,
    port: http.port,
    socket: http.socket ?? null,
    token: named(http.token),
    basic: named(http.basic),
    path: named(http.path),
    tls: isTls ? { cert: named(cert), key: named(key), clientCa: named(client_ca) } : null,
    rate: http.rate,
    maxBody: http.max_body,
    maxConnections: http.max_connections,
    ...speaksFor(http),
  };
}

/** Each once, in order; none where none is given (an empty set stands for every port, where something is limited to it). */
function portsOf(given: readonly Ports[]): Ports {
  return given.length === 0 ? [] : given.reduce(joinPorts);
}
