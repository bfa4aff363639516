/** `falcodrop run` */
import { resolve } from 'node:path';
import type { Config, FileConfig } from '../config/config.ts';
import { runDaemon } from '../daemon/daemon.ts';
import { FalcodropError } from '../errors.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { type Call, stateDirOf } from './call.ts';
import { runReconcile } from './reconcile-child.ts';
import { readConfig } from './settings.ts';

export async function run(call: Call): Promise<void> {
  const config = withSources(call, await readConfig(call));
  await runDaemon({
    config,
    pinDir: pinDirOf(call.environment),
    stateDir: stateDirOf(call.environment),
    reconcile: async (signal) => {
      const { failure } = await runReconcile(call, signal);
      if (failure !== null) throw failure;
    },
  });
}

/** Ways in that were typed are all there are; `--http` keeps the configured one. Throws `usage`. */
export function withSources(call: Pick<Call, 'options'>, config: Config): Config {
  const { file } = call.options;
  const paths = [...new Set(Array.isArray(file) ? file.map((path) => resolve(String(path))) : [])];
  const follow = call.options.follow === true;
  if (follow && paths.length === 0) {
    throw new FalcodropError('usage', '--follow is for files, and none is named', 'falcodrop run --file PATH --follow');
  }
  const http = call.options.http === true;
  const stdin = call.options.stdin === true;
  if (paths.length === 0 && !stdin) return http ? { ...config, http: { ...config.http, enabled: true } } : config;
  // Whom a file speaks for is a matter of the configuration, whoever names it.
  const files = paths.map((path): FileConfig => {
    const configured = config.lines.files.find((file) => file.path === path);
    return { path, follow, remote: configured?.remote ?? false, fleetHosts: configured?.fleetHosts ?? [] };
  });
  return {
    ...config,
    http: { ...config.http, enabled: http, socket: http ? config.http.socket : null },
    lines: { files, stdin },
    grpc: [],
    journal: { ...config.journal, enabled: false },
    kafka: [],
  };
}
