/** Alerts over HTTP, by TCP and by a unix socket: wired to the configuration, its secrets, the queue and the log. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { readAccountId } from '../cli/account.ts';
import type { HttpConfig } from '../config/config.ts';
import { pinPaths } from '../kernel/pins.ts';
import { blockMapNames } from '../kernel/set.ts';
import { isLoopback } from '../sources/http/access.ts';
import { requireTls } from '../sources/http/tls.ts';
import { type HttpAuthentication, type HttpCounts, type HttpSource, serveHttp } from '../sources/http.ts';
import type { Intake } from '../sources/intake.ts';
import { describe } from './alerts.ts';
import { readAuthentication } from './authentication.ts';
import type { Logger } from './log.ts';
import { type AddSource, noSources } from './sources.ts';
import { sayTo } from './text.ts';

export interface HttpOptions {
  readonly config: HttpConfig;
  /** Name or number: whose members may send over the unix socket. */
  readonly group: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly intake: Pick<Intake, 'push' | 'countBad'>;
  readonly notReady: () => string | null;
  readonly logger: Logger;
  /** Where each listener says how it is. */
  readonly add?: AddSource;
}

export interface Http {
  readonly close: (graceMs: number) => Promise<void>;
  /** Reads secrets and certificates again; what can not be read or used leaves the former in force, and is said. */
  readonly reload: () => void;
  /** By listener. */
  readonly counts: () => Readonly<Record<string, HttpCounts>>;
}

/** Whether alerts are taken over HTTP at all. */
export function listens({ enabled, socket }: HttpConfig): boolean {
  return enabled || socket !== null;
}

/** Rejects with `listen_failed`, and what {@link readAuthentication} throws; nothing is open then. */
export async function openHttp(options: HttpOptions): Promise<Http> {
  const { config, group, environment, intake, notReady, logger, add = noSources } = options;
  const say = sayTo(logger);
  const common = {
    intake,
    notReady,
    limits: {
      maxBody: config.maxBody,
      maxConnections: config.maxConnections,
      alertsPerSecond: config.rate.alerts,
      burst: config.rate.burst,
    },
  };
  const sources: HttpSource[] = [];
  const close = async (graceMs: number): Promise<void> => {
    await Promise.all(sources.map((source) => source.close(graceMs)));
  };
  try {
    if (config.enabled) {
      const authentication = readAuthentication(config, environment);
      const { address, port } = config;
      const standing = add({ name: 'http', kind: 'http' });
      const source = await serveHttp({ address, port, ...authentication, ...common, say: standing.hears(say) });
      sources.push(source);
      standing.at(placeOf(source, authentication));
      standing.is('listening');
      logger.info({ address: source.address, port: source.port, ...spoken(authentication) }, 'listening');
      warnOf(config.address, authentication, logger);
    }
    if (config.socket !== null) {
      const gid = readAccountId(group, '/etc/group');
      // The own group's members are taken where the named one is not there, as `attach` does with the maps.
      const standing = add({ name: 'http:unix', kind: 'unix' });
      sources.push(await serveHttp({ socket: config.socket, gid, ...common, say: standing.hears(say) }));
      standing.at(config.socket);
      standing.is('listening');
      logger.info({ socket: config.socket }, 'listening on a socket');
    }
  } catch (error) {
    await close(0);
    throw error;
  }
  return {
    close,
    reload: () => {
      try {
        const authentication = readAuthentication(config, environment);
        for (const source of sources) source.renew(authentication);
        logger.info(spoken(authentication), 'secrets and certificates of HTTP read again');
        warnOf(config.address, authentication, logger);
      } catch (error) {
        logger.error(describe(error), 'the former secrets and certificates of HTTP go on');
      }
    },
    counts: () => Object.fromEntries(sources.map((source) => [source.name, source.counts()])),
  };
}

/** As senders on this host name it, but for a secret path. */
function placeOf({ address, port }: HttpSource, { tls }: HttpAuthentication): string {
  return `${tls === null ? 'http' : 'https'}://${address.includes(':') ? `[${address}]` : address}:${port}`;
}

/** For the log: what is asked of senders, and nothing of it. */
function spoken({ credentials, tls }: HttpAuthentication): Record<string, unknown> {
  const asked = Object.entries(credentials).flatMap(([name, value]) => (value === null ? [] : [name]));
  if (tls !== null && tls.clientCa !== null) asked.push('client_ca');
  return { tls: tls !== null, authentication: asked };
}

function warnOf(address: string, { tls }: HttpAuthentication, logger: Logger): void {
  if (tls === null) {
    if (!isLoopback(address))
      logger.warn({ address }, 'secrets and alerts go over the network in clear text: http.tls');
    return;
  }
  const endsAtMs = requireTls(tls);
  if (endsAtMs < Date.now()) logger.warn({ ended: new Date(endsAtMs).toISOString() }, 'http.tls.cert has expired');
}

/** How long what is pinned is believed to be as it was: probes may come as often as they like. */
const believedMs = 500;

/** Why nobody could be blocked now; null = all block maps are there, and may be written to. `now` in ms. */
export function pinsReadiness(pinDir: string, now: () => number = () => performance.now()): () => string | null {
  let why: string | null = null;
  let askedAt = Number.NEGATIVE_INFINITY;
  return () => {
    if (now() - askedAt < believedMs) return why;
    askedAt = now();
    why = null;
    for (const name of blockMapNames) {
      try {
        accessSync(join(pinPaths(pinDir).current, name), constants.R_OK | constants.W_OK);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        why =
          code === 'ENOENT' ? `there is no map ${name}: nothing is attached` : `the map ${name} can not be written to`;
        break;
      }
    }
    return why;
  };
}
