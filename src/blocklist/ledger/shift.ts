/** Events whose times were made by another clock than the ledger's: all their moments, moved alike. */
import type { LedgerEvent } from './record.ts';

/** `shift` in ms. 0 and "for ever" are no moments. */
export function shiftEvent(event: LedgerEvent, shift: number): LedgerEvent {
  const at = event.at === undefined ? {} : { at: event.at + shift };
  if (event.kind !== 'wish') return { ...event, ...at };
  const moved = (end: number): number =>
    end === 0 || end === Number.MAX_SAFE_INTEGER ? end : Math.max(1, end + shift);
  const { wishedEnd, unlessWithdrawnSince } = event;
  return {
    ...event,
    ...at,
    dropEnd: moved(event.dropEnd),
    countEnd: moved(event.countEnd),
    ...(wishedEnd === undefined ? {} : { wishedEnd: moved(wishedEnd) }),
    ...(unlessWithdrawnSince === undefined ? {} : { unlessWithdrawnSince: unlessWithdrawnSince + shift }),
  };
}
