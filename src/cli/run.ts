/** `falcodrop run` */
import { runDaemon } from '../daemon/daemon.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { type Call, stateDirOf } from './call.ts';
import { runReconcile } from './reconcile-child.ts';
import { readConfig } from './settings.ts';

export async function run(call: Call): Promise<void> {
  const config = await readConfig(call);
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
