/** The daemon's ledger: a thread writes it, and whatever happens to it, blocking goes on. */
import type { Book } from '../blocklist/blocklist.ts';
import { LedgerWriter, type Opened } from '../blocklist/ledger/writer.ts';
import { ownerOfPins } from '../kernel/owner.ts';
import { Audit, audited } from '../observe/audit.ts';
import { describe } from './alerts.ts';
import type { Logger } from './log.ts';

export interface DaemonBook extends Book {
  /** Resolves when nothing can be written: at once where that is so already. */
  troubled(): Promise<void>;
  /** Writes what waits, within some seconds. */
  close(): Promise<void>;
}

export interface BookOptions {
  readonly pinDir: string;
  readonly stateDir: string;
  readonly logger: Logger;
  /** At the start, and when a ledger was begun anew: what the maps hold is to be made known to it. */
  readonly onOpen: (opened: Opened) => void;
}

export function openBook({ pinDir, stateDir, logger, onOpen }: BookOptions): DaemonBook {
  const service = ownerOfPins(pinDir);
  let tellTrouble: (() => void)[] = [];
  const audit = new Audit({ stateDir, service, onTrouble: (problem) => logger.error({ problem }, 'audit') });
  const writer = new LedgerWriter({
    stateDir,
    service,
    onOpen: (opened) => {
      if (opened.movedAside !== null)
        logger.error({ movedAside: opened.movedAside }, 'a damaged ledger was moved aside');
      else logger.info({ isNew: opened.isNew }, 'ledger');
      const { deleted } = opened;
      if (deleted.length > 0)
        logger.warn({ deleted }, 'old ledgers and copies were deleted, the newest three are kept');
      onOpen(opened);
    },
    onTrouble: (error, waiting) => {
      for (const tell of tellTrouble) tell();
      tellTrouble = [];
      logger.error({ ...describe(error), waiting }, 'the ledger can not be written; drops go on');
    },
  });
  writer.start();
  const book: Book = {
    now: () => writer.now(),
    record: (events) => writer.post(events),
    get trouble() {
      return writer.trouble;
    },
    // The daemon neither unblocks nor replaces: it asks for nobody's claims.
    claimsOf: () => [],
  };
  return Object.assign(audited(book, audit), {
    troubled: (): Promise<void> =>
      writer.trouble !== null ? Promise.resolve() : new Promise((resolve) => tellTrouble.push(resolve)),
    close: async () => {
      await writer.close();
      await audit.close();
    },
  });
}
