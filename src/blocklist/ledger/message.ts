/** What writer and thread say to each other. */
import type { ErrorCode } from '../../errors.ts';
import type { Service } from './files.ts';
import type { LedgerEvent, Outcome } from './record.ts';
import type { Retention } from './retention.ts';

export interface ThreadData {
  readonly falcodropLedger: {
    readonly stateDir: string;
    readonly service: Service;
    readonly patienceMs: number;
    readonly gatherMs: number;
    readonly retention: Retention;
  };
}

/** An error on its way between threads. */
export interface ToldError {
  readonly code: ErrorCode | null;
  readonly message: string;
  readonly hint: string | undefined;
}

export interface Post {
  readonly n: number;
  readonly events: readonly LedgerEvent[];
  /** By what the events' times were made; null: before the ledger's time was known, from CLOCK_BOOTTIME alone. */
  readonly offsetMs: number | null;
}

export type ToThread = { readonly post: Post } | { readonly close: true };

export type FromThread =
  /** Open; again after trouble, and when the ledger is another. */
  | {
      readonly open: {
        readonly offsetMs: number;
        readonly isNew: boolean;
        readonly movedAside: string | null;
        readonly deleted: readonly string[];
      };
    }
  | {
      readonly done: readonly {
        readonly n: number;
        readonly outcomes: readonly Outcome[] | null;
        readonly error: ToldError | null;
      }[];
      readonly offsetMs: number;
    }
  /** Nothing is lost; it is tried again. */
  | { readonly trouble: ToldError }
  | { readonly closed: true };
