/**
 * A real Kafka broker: one process that is its own controller (KRaft), on loopback, its data in a directory of its own. It dies with
 * the process that started it. `make` brings its jars (.make/kafka/jars) and Java.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const jars = fileURLToPath(new URL('../../../.make/kafka/jars', import.meta.url));

/** What each listener asks of clients. `tls` and `mtls` have a certificate for `localhost`. */
export const listeners = ['plain', 'tls', 'mtls', 'sasl'] as const;
export type Listener = (typeof listeners)[number];

export const user = { name: 'falcodrop', password: 'a-password-of-tests!' } as const;

export interface BrokerOptions {
  /** For data, configuration and log. */
  readonly directory: string;
  /** PEM: key and certificate of the broker, and the CA of its clients; without it there is only `plain`. */
  readonly tls?: { readonly key: string; readonly cert: string; readonly ca: string };
  /** Puts it elsewhere: into a network namespace. */
  readonly within?: readonly string[];
}

export interface Broker {
  readonly ports: Readonly<Record<Listener, number>>;
  /** Resolves when it runs, a while before it answers. */
  start(): void;
  kill(signal?: NodeJS.Signals): Promise<void>;
  readonly log: () => string;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(
    servers.map((server) => {
      server.close();
      return once(server, 'close');
    }),
  );
  return ports;
}

const quoted = (text: string): string => `"${text.replaceAll('"', '\\"')}"`;

/** Nothing runs yet. */
export async function prepareBroker({ directory, tls, within = [] }: BrokerOptions): Promise<Broker> {
  if (!existsSync(jars)) throw new Error(`there is no ${jars}: make .make/kafka/jars brings the tests' Kafka broker`);
  mkdirSync(directory, { recursive: true });
  const [plain = 0, overTls = 0, overMtls = 0, sasl = 0, controller = 0] = await freePorts(5);
  const ports = { plain, tls: overTls, mtls: overMtls, sasl };
  const all = tls === undefined ? (['plain'] as const) : listeners;
  const addresses = all.map(
    (name) => `${name.toUpperCase()}://${name.includes('tls') ? 'localhost' : '127.0.0.1'}:${ports[name]}`,
  );
  const settings: Record<string, string | number> = {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controller}`,
    'controller.listener.names': 'CONTROLLER',
    listeners: [...addresses, `CONTROLLER://127.0.0.1:${controller}`].join(','),
    'advertised.listeners': addresses.join(','),
    'listener.security.protocol.map': 'PLAIN:PLAINTEXT,TLS:SSL,MTLS:SSL,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT',
    'inter.broker.listener.name': 'PLAIN',
    'log.dirs': join(directory, 'data'),
    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 1,
    'auto.create.topics.enable': 'false',
    'group.initial.rebalance.delay.ms': 0,
    'group.min.session.timeout.ms': 500,
    // After kill -9 it waits until it is believed that it is gone.
    'broker.session.timeout.ms': 1_500,
    'broker.heartbeat.interval.ms': 300,
    'message.max.bytes': 20_000_000,
    'log.retention.check.interval.ms': 500,
    'log.segment.delete.delay.ms': 100,
    'file.delete.delay.ms': 100,
  };
  if (tls !== undefined) {
    const [keystore, truststore] = [join(directory, 'broker.pem'), join(directory, 'clients.pem')];
    writeFileSync(keystore, `${tls.key}${tls.cert}`);
    writeFileSync(truststore, tls.ca);
    Object.assign(settings, {
      'ssl.keystore.type': 'PEM',
      'ssl.keystore.location': keystore,
      'ssl.truststore.type': 'PEM',
      'ssl.truststore.location': truststore,
      'listener.name.mtls.ssl.client.auth': 'required',
      'sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
      'listener.name.sasl.plain.sasl.jaas.config': `org.apache.kafka.common.security.plain.PlainLoginModule required user_${user.name}=${quoted(user.password)};`,
      'listener.name.sasl.scram-sha-256.sasl.jaas.config':
        'org.apache.kafka.common.security.scram.ScramLoginModule required;',
      'listener.name.sasl.scram-sha-512.sasl.jaas.config':
        'org.apache.kafka.common.security.scram.ScramLoginModule required;',
    });
  }
  const file = join(directory, 'server.properties');
  writeFileSync(
    file,
    Object.entries(settings)
      .map(([key, value]) => `${key}=${String(value).replaceAll('\\', '\\\\')}\n`)
      .join(''),
  );
  const java = ['java', '-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-cp', `${jars}/*`];
  const log = join(directory, 'log');
  const scram = ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((mechanism) => [
    '--add-scram',
    `${mechanism}=[name=${user.name},password="${user.password}"]`,
  ]);
  execFileSync(
    'java',
    [
      ...java.slice(1),
      'kafka.tools.StorageTool',
      'format',
      '--cluster-id',
      'ZmFsY29kcm9wLXRlc3RzLQ',
      '--config',
      file,
      ...scram,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let child: ChildProcess | null = null;
  return {
    ports,
    start: () => {
      const out = openSync(log, 'a');
      const [command = '', ...rest] = [...within, 'setpriv', '--pdeathsig=KILL', ...java, 'kafka.Kafka', file];
      child = spawn(command, rest, { stdio: ['ignore', out, out] });
    },
    kill: async (signal = 'SIGKILL') => {
      const running = child;
      child = null;
      if (running === null || running.exitCode !== null || running.signalCode !== null) return;
      running.kill(signal);
      await once(running, 'close');
    },
    log: () => readFileSync(log, 'utf8'),
  };
}
