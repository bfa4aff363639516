/** Falcos that are asked over gRPC, wired to the queue and the log. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { GrpcConfig, GrpcTlsConfig } from '../config/config.ts';
import { formatFalcoAddress } from '../config/falco-address.ts';
import { readText } from '../config/text.ts';
import { FalcodropError } from '../errors.ts';
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
  const { readSecretKey } = await import('../config/secret.ts');
  const readTls = ({ ca, cert, key, name }: GrpcTlsConfig): Tls => {
    const authority = readCertificate(ca);
    const own = readCertificate(cert);
    const ownKey = readSecretKey(key, environment);
    if (!own.certificate.checkPrivateKey(createPrivateKey(ownKey))) {
      throw new FalcodropError('config_invalid', `${cert}: the key in grpc.tls.key is of another certificate`);
    }
    return { ca: authority.text, cert: own.text, key: ownKey, name };
  };
  const subscriptions = wanted.map(({ address, tls }): GrpcSubscription => {
    const place = formatFalcoAddress(address);
    const standing = add({ name: `grpc:${place}`, kind: 'grpc' });
    standing.at(place);
    return new GrpcSubscription({
      address,
      readTls: tls === null ? null : () => aboutTls(() => readTls(tls)),
      intake,
      source: `grpc:${place}`,
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

/** With a hint for these files, where reading one fails: others are named on the command line. */
function aboutTls(read: () => Tls): Tls {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof FalcodropError) || error.code !== 'file_unreadable') throw error;
    throw new FalcodropError(error.code, error.message, 'grpc.tls in the configuration names it', error);
  }
}

/** PEM; the first certificate in it is looked at. Throws `file_unreadable`, `config_invalid`. */
function readCertificate(path: string): { readonly text: string; readonly certificate: X509Certificate } {
  const { text } = readText(path);
  try {
    return { text, certificate: new X509Certificate(text) };
  } catch (error) {
    throw new FalcodropError('config_invalid', `${path}: there is no certificate in it`, undefined, error);
  }
}
