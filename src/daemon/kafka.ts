/** Kafka's topics, wired to the queue, the log, secrets and what is durable. */
import { hostname } from 'node:os';
import { formatBrokerAddress } from '../config/broker-address.ts';
import type { KafkaConfig, KafkaTlsConfig } from '../config/config.ts';
import type { Intake } from '../sources/intake.ts';
import type { KafkaAccess, KafkaTls } from '../sources/kafka/message.ts';
import type { KafkaTopic, TopicCounts, TopicPace } from '../sources/kafka/topic.ts';
import type { Logger } from './log.ts';
import { type AddSource, noSources } from './sources.ts';
import { sayTo } from './text.ts';

export interface KafkaOptions {
  readonly config: readonly KafkaConfig[];
  /** Bytes of one alert. */
  readonly longest: number;
  readonly intake: Intake;
  /** Where messages are kept aside that are no alerts. */
  readonly stateDir: string;
  /** As {@link Keeping}'s. */
  readonly durable: () => Promise<boolean>;
  readonly logger: Logger;
  /** For credentials. */
  readonly environment: NodeJS.ProcessEnv;
  readonly add?: AddSource;
  readonly pace?: Partial<TopicPace>;
}

export interface Kafka {
  /** Reads no more; resolves when what came is queued. */
  readonly stop: () => Promise<void>;
  /** Stops, and commits what is durable. */
  readonly close: () => Promise<void>;
  /** Closes as a crash would. */
  readonly abandon: () => Promise<void>;
  /** Secrets and certificates are read again; other ones are used at once. */
  readonly reload: () => void;
  /** By source. */
  readonly counts: () => Readonly<Record<string, TopicCounts>>;
}

/** Whether there is a topic to be read. */
export function readsTopics(config: readonly KafkaConfig[]): boolean {
  return config.some(({ enabled }) => enabled);
}

/** Brokers that can not be reached are said, and tried again: nothing keeps this from starting. */
export async function openKafka(options: KafkaOptions): Promise<Kafka> {
  const { config, longest, intake, stateDir, durable, logger, environment, add = noSources, pace = {} } = options;
  const wanted = config.filter(({ enabled }) => enabled);
  const { Aside } = await import('../sources/kafka/aside.ts');
  const { Member } = await import('../sources/kafka/member.ts');
  const { KafkaTopic } = await import('../sources/kafka/topic.ts');
  const { readSecret } = await import('../config/secret.ts');
  const readTls = await tlsReader(environment);
  const aside = new Aside(stateDir);
  const topics = wanted.map(({ name, brokers, topic, group, begin, tls, sasl, remote, fleetHosts }): KafkaTopic => {
    const source = `kafka:${name}`;
    if (tls === null && sasl?.mechanism === 'plain') {
      logger.warn({ source }, 'the password goes to the brokers in clear text: kafka.tls');
    }
    const ourGroup = group ?? `falcodrop-${hostname()}`;
    const standing = add({ name: source, kind: 'kafka' });
    standing.at(`${topic} at ${brokers.map(formatBrokerAddress).join()}`);
    const readAccess = (): KafkaAccess => ({
      tls: tls === null ? null : readTls(tls),
      sasl: sasl === null ? null : { ...sasl, password: readSecret(sasl.password, environment) },
    });
    return new KafkaTopic({
      brokers,
      topic,
      group: ourGroup,
      begin,
      readAccess,
      intake,
      source,
      remote,
      fleetHosts,
      longest,
      durable,
      aside,
      member: new Member(stateDir, source, { topic, group: ourGroup }),
      say: standing.hears(sayTo(logger)),
      standing,
      pace,
    });
  });
  const each = async (work: (topic: KafkaTopic) => Promise<void>): Promise<void> => {
    await Promise.all(topics.map(work));
  };
  for (const topic of topics) topic.start();
  return {
    stop: () => each((topic) => topic.stop()),
    close: () => each((topic) => topic.close()),
    abandon: () => each((topic) => topic.abandon()),
    reload: () => {
      for (const topic of topics) topic.renew();
    },
    counts: () => Object.fromEntries(topics.map((topic) => [topic.source, topic.counts()])),
  };
}

async function tlsReader(environment: NodeJS.ProcessEnv): Promise<(tls: KafkaTlsConfig) => KafkaTls> {
  const { readPem } = await import('../config/secret.ts');
  const { requirePair } = await import('../sources/pair.ts');
  return ({ ca, cert, key }) => {
    const authority = ca === null ? null : readPem('certificate', ca, environment);
    if (cert === null || key === null) return { ca: authority, cert: null, key: null };
    const own = { cert: readPem('certificate', cert, environment), key: readPem('key', key, environment) };
    requirePair(own, 'kafka.tls');
    return { ca: authority, ...own };
  };
}
