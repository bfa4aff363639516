/** Falcos that are asked over gRPC, wired to the queue and the log. */
import type { GrpcConfig, GrpcTlsConfig } from '../config/config.ts';
import { formatFalcoAddress } from '../config/falco-address.ts';
import type { Tls } from '../sources/grpc/connection.ts';
import type { GrpcPace, GrpcSubscription } from '../sources/grpc/subscription.ts';
import type { Intake } from '../sources/intake.ts';
import type { Logger } from './log.ts';
import { type AddSource, noSources } from './sources.ts';
import { sayTo } from './text.ts';

export interface GrpcOptions {
  readonly config: readonly GrpcConfig[];
  /** Bytes of one alert. */
  readonly longest: number;
  readonly intake: Intake;
  readonly logger: Logger;
  /** For credentials. */
  readonly environment: NodeJS.ProcessEnv;
  readonly pace?: Partial<GrpcPace>;
  /** Where each source says how it is. */
  readonly add?: AddSource;
}

export interface Grpc {
  /** Asks for no more; resolves when what was on its way is queued. */
  readonly stop: () => Promise<void>;
}

/** Whether there is a Falco to be asked. */
export function asksFalco(config: readonly GrpcConfig[]): boolean {
  return config.some(({ enabled }) => enabled);
}

/** A Falco that can not be reached is said, and tried again: nothing keeps this from starting. */
export async function openGrpc({
  config,
  longest,
  intake,
  logger,
  environment,
  pace = {},
  add = noSources,
}: GrpcOptions): Promise<Grpc> {
  const wanted = config.filter(({ enabled }) => enabled);
  if (wanted.length === 0) return { stop: async () => undefined };
  // Large, and of no use to who has a newer Falco.
  const { GrpcSubscription } = await import('../sources/grpc/subscription.ts');
  const { readPem } = await import('../config/secret.ts');
  const { requirePair } = await import('../sources/pair.ts');
  const readTls = ({ ca, cert, key, name }: GrpcTlsConfig): Tls => {
    const read = {
      ca: readPem('certificate', { file: ca }, environment),
      cert: readPem('certificate', { file: cert }, environment),
      key: readPem('key', key, environment),
    };
    requirePair(read, 'grpc.tls');
    return { ...read, name };
  };
  const subscriptions = wanted.map(({ address, tls, remote, fleetHosts }): GrpcSubscription => {
    const place = formatFalcoAddress(address);
    const standing = add({ name: `grpc:${place}`, kind: 'grpc' });
    standing.at(place);
    return new GrpcSubscription({
      address,
      readTls: tls === null ? null : () => readTls(tls),
      intake,
      source: `grpc:${place}`,
      remote,
      fleetHosts,
      longest,
      say: standing.hears(sayTo(logger)),
      standing,
      pace,
    });
  });
  for (const subscription of subscriptions) subscription.start();
  return {
    stop: async () => {
      await Promise.all(subscriptions.map((subscription) => subscription.stop()));
    },
  };
}
