/** Where an alert came from: `local` = loopback, a unix socket, a local file. Decides what a missing hostname means. */
export type Origin = 'local' | 'network';

export interface Alert {
  /** ns since 1970; null when absent or unreadable. */
  readonly timeNs: bigint | null;
  readonly rule: string;
  /** As Falco's JSON writes it: `Emergency`, `Alert`, … `Debug`; other text as it came. */
  readonly priority: string;
  /** `syscalls` (falcosidekick's default) and absent are `syscall`. */
  readonly source: string;
  readonly hostname: string | null;
  readonly tags: readonly string[];
  readonly uuid: string | null;
  readonly output: string;
  /** null: the alert has no `output_fields` at all (they can be switched off since Falco 0.41). */
  readonly fields: Readonly<Record<string, unknown>> | null;
  readonly origin: Origin;
}

/** Why something is no alert; one sentence. */
export interface NotAlert {
  readonly problem: string;
}

export function decodeAlert(_value: unknown, _origin: Origin): Alert | NotAlert {
  throw new Error('to be written');
}

export function parseAlert(_text: string, _origin: Origin): Alert | NotAlert {
  throw new Error('to be written');
}
