/**
 * A policy says what may be done with the offender of a rule's alerts. Naming an offender and acting on it are two
 * things: most rules can name one, few should act.
 */
import type { Address } from '../../address/address.ts';

/** enforce = drop; monitor = count in the kernel; observe = say it, set nothing. */
export type Action = 'enforce' | 'monitor' | 'observe';

/** What is known about one alert's connection, for a policy's conditions. */
export interface Sighting {
  readonly offender: Address;
  /** Which side opened the connection: outbound = ours did; null = not known. */
  readonly way: 'inbound' | 'outbound' | null;
  /** `fd.l4proto` in lower case; null = the alert does not print it. */
  readonly protocol: string | null;
  /** `evt.type`; null = the alert does not print it. */
  readonly event: string | null;
  /** True when the offender lies in no private range. */
  readonly public: boolean;
  /** False: all it proves is an attempt by whoever runs here, or it was read from text. Then observe at most. */
  readonly proven: boolean;
}

/** Every condition given must hold. */
export interface Condition {
  readonly way?: 'inbound' | 'outbound';
  readonly events?: readonly string[];
  readonly public?: boolean;
}

export interface PolicyCase {
  readonly when: Condition;
  readonly action: Action;
}

export interface Policy {
  readonly name: string;
  /** Names of Falco rules; letter case does not count. */
  readonly rules: readonly string[];
  /** True: its alerts are ignored, whatever they show. */
  readonly never: boolean;
  /** The first whose conditions hold decides; none: observe. */
  readonly cases: readonly PolicyCase[];
  /** True: offenders of outbound connections are acted on too, although whoever runs here chooses them. */
  readonly outbound: boolean;
  readonly seconds: number;
}
