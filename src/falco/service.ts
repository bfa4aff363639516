/** Falco as a service: which unit it is, restarting it, and waiting until it is well. */
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { setTimeout as wait } from 'node:timers/promises';
import { FalcodropError } from '../errors.ts';
import { lastWords, type Running, runProgram } from './program.ts';

/** As Falco's packages name them; falco.service is an alias of the one that is enabled. */
const unitNames = ['falco-modern-bpf', 'falco-kmod', 'falco-bpf', 'falco-custom', 'falco'];

/** TimeoutSec of the units is 30 s, for the stop and for the start. */
const restartTimeoutMs = 90_000;
const askTimeoutMs = 10_000;

type Environment = Pick<Running, 'environment' | 'signal'>;

/**
 * The units that run; else those that are enabled; each once, whatever names it has. Empty where there is none, or no systemd.
 */
export async function findUnits(environment: Environment): Promise<string[]> {
  const ended = await runProgram(
    'systemctl',
    [
      'show',
      '--no-pager',
      '--property=Id,LoadState,ActiveState,UnitFileState',
      ...unitNames.map((name) => `${name}.service`),
    ],
    { ...environment, timeoutMs: askTimeoutMs },
  );
  if (ended.status !== 0) return [];
  const units = ended.stdout
    .toString()
    .split(/\n\s*\n/)
    .map(
      (block) =>
        new Map(block.split('\n').map((line) => [line.split('=')[0] ?? '', line.slice(line.indexOf('=') + 1)])),
    )
    .filter((unit) => unit.get('LoadState') === 'loaded');
  const idsOf = (property: string, values: readonly string[]): string[] => [
    ...new Set(units.filter((unit) => values.includes(unit.get(property) ?? '')).map((unit) => unit.get('Id') ?? '')),
  ];
  const running = idsOf('ActiveState', ['active', 'reloading', 'activating']);
  return running.length > 0 ? running : idsOf('UnitFileState', ['enabled', 'enabled-runtime']);
}

/** How Falco is restarted, and what says afterwards that it is well. */
export interface Service {
  /** Program and its words. */
  readonly restart: readonly [string, ...string[]];
  /** Null: restarted in another way. */
  readonly unit: string | null;
  /** Null: it has no web server. */
  readonly healthUrl: string | null;
}

/** Why it could not be restarted; null: it was. */
export async function restartFalco({ restart }: Service, environment: Environment): Promise<string | null> {
  const [program, ...words] = restart;
  const ended = await runProgram(program, words, { ...environment, timeoutMs: restartTimeoutMs });
  return ended.status === 0 ? null : `${restart.join(' ')}: ${lastWords(ended, 6)}`;
}

export interface Patience {
  /** How long it may take until it is well. */
  readonly waitMs: number;
  /** How long it must stay so, where its web server answers: that starts last. */
  readonly steadyMs: number;
  /** Without one: a unit is active from its start on, while Falco still loads its rules. */
  readonly steadyAloneMs: number;
  readonly everyMs: number;
}

export const patience: Patience = { waitMs: 30_000, steadyMs: 3_000, steadyAloneMs: 10_000, everyMs: 250 };

/**
 * Why Falco is not well, or did not stay so; null: it is. Without unit and URL nothing is asked. A unit that failed ends the
 * wait at once; one that systemd starts again does not.
 */
export async function awaitHealth(
  { unit, healthUrl }: Service,
  environment: Environment,
  { waitMs, everyMs, ...steady }: Patience = patience,
): Promise<string | null> {
  if (unit === null && healthUrl === null) return null;
  const steadyMs = healthUrl === null ? steady.steadyAloneMs : steady.steadyMs;
  const begun = performance.now();
  let wellSince: number | null = null;
  let starts: string | null = null;
  for (;;) {
    if (environment.signal?.aborted === true) return 'it was interrupted';
    const state = unit === null ? null : await unitState(unit, environment);
    const said = healthUrl === null ? null : await healthOf(healthUrl);
    const now = performance.now();
    const isWell = (state === null || state.active === 'active') && said === null;
    const seen = state?.starts ?? null;
    // Another start than the one that was seen: it fell over in between.
    if (isWell && (wellSince === null || seen !== starts)) wellSince = now;
    if (!isWell) wellSince = null;
    starts = seen;
    if (wellSince !== null && now - wellSince >= steadyMs) return null;
    const why =
      state !== null && state.active !== 'active' ? `${unit} is ${state.active}` : (said ?? 'it did not stay up');
    if (state?.active === 'failed') return why;
    if (now - begun > waitMs + (wellSince === null ? 0 : steadyMs)) return `${why}, after ${waitMs / 1000} s`;
    await wait(everyMs, undefined, { signal: environment.signal }).catch(() => undefined);
  }
}

async function unitState(unit: string, environment: Environment): Promise<{ active: string; starts: string }> {
  const ended = await runProgram(
    'systemctl',
    ['show', '--no-pager', '--property=ActiveState,NRestarts,MainPID', unit],
    { ...environment, timeoutMs: askTimeoutMs },
  );
  const text = ended.status === 0 ? ended.stdout.toString() : '';
  const active = /^ActiveState=([a-z-]+)$/m.exec(text)?.[1] ?? 'unknown to systemd';
  return {
    active,
    starts:
      text
        .match(/^(NRestarts|MainPID)=\d+$/gm)
        ?.toSorted()
        .join() ?? '',
  };
}

/** Why it is not well; null: it answered with 200. */
function healthOf(url: string): Promise<string | null> {
  return new Promise((resolve) => {
    // Its certificate is its own; it is asked whether it lives, and told nothing.
    const options = { timeout: 2_000, agent: false, rejectUnauthorized: false };
    const request = (url.startsWith('https:') ? httpsRequest : httpRequest)(url, options, (response) => {
      response.resume();
      resolve(response.statusCode === 200 ? null : `${url} answers with ${response.statusCode}`);
    });
    request.on('timeout', () => request.destroy(new Error('it does not answer')));
    request.on('error', (error: NodeJS.ErrnoException) => resolve(`${url}: ${error.code ?? error.message}`));
    request.end();
  });
}

/** Throws `usage` for what is no URL of a web server. */
export function requireHealthUrl(url: string): string {
  if (URL.canParse(url) && /^https?:$/.test(new URL(url).protocol)) return url;
  throw new FalcodropError('usage', '--health takes a URL, or none', 'it is like http://127.0.0.1:8765/healthz');
}
