/** `falcodrop map list|dump|check`: what is pinned, for those who look below the blocks. */
import { FalcodropError } from '../errors.ts';
import { readAction } from './action.ts';
import type { Call } from './call.ts';
import { checkMaps } from './map-check.ts';
import { dumpMap } from './map-dump.ts';
import { listMaps } from './map-list.ts';

export async function showMaps(call: Call): Promise<void> {
  const { action, operands } = readAction(call, ['list', 'dump', 'check']);
  if (action === 'dump') {
    const [name, ...more] = operands;
    if (name === undefined || more.length > 0) {
      throw new FalcodropError('usage', 'one map is dumped at a time', 'falcodrop map list names them');
    }
    await dumpMap(call, name);
    return;
  }
  if (operands.length > 0) {
    throw new FalcodropError('usage', `"falcodrop map ${action}" takes no names`, 'falcodrop map dump NAME');
  }
  if (action === 'list') listMaps(call);
  else await checkMaps(call);
}
