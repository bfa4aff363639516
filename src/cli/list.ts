/** `falcodrop list` */
import { formatPrefix } from '../address/prefix.ts';
import { blocksOf } from './blocks.ts';
import type { Call } from './call.ts';
import { allowFinder } from './circumstance.ts';
import { names, readFilters } from './filter.ts';
import { openHand } from './hand.ts';
import { blockColumns, blockObject, blockRows } from './output/block.ts';
import { table } from './output/table.ts';

export async function listBlocks(call: Call): Promise<void> {
  const { answer, clock } = call;
  const filters = readFilters(call);
  const hand = openHand(call);
  try {
    const blocks = blocksOf(hand, filters);
    const nowMs = clock.now();
    const allowing = allowFinder(hand.blocklist.set);
    if (answer.json) {
      for (const block of blocks) {
        const allow = allowing(block.entry.target);
        answer.object({ ...blockObject(block, nowMs), allowed_by: allow === null ? null : formatPrefix(allow) });
        if (answer.full) await answer.flush();
        if (answer.closed) return;
      }
      return;
    }
    let count = 0;
    function* rows() {
      count = 0;
      for (const block of blocks) {
        count++;
        const [first = [], ...claims] = blockRows(block, nowMs);
        yield allowing(block.entry.target) === null ? first : first.with(1, 'allowed');
        yield* claims;
      }
    }
    for (const line of table(blockColumns(nowMs), rows, answer.colour, answer.width)) {
      if (count === 0) break; // the heading comes after the widths are known
      answer.line(line);
      if (answer.full) await answer.flush();
      if (answer.closed) return;
    }
    if (count === 0) answer.line(names(filters) ? 'nothing that is blocked fits' : 'nothing is blocked');
  } finally {
    hand.close();
  }
}
