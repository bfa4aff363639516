/** What the daemon and the thread that speaks with Kafka say to each other. */
import type { Failure } from './failure.ts';

export interface BrokerAddress {
  readonly host: string;
  readonly port: number;
}

/** Each is PEM; `ca` null: those that Node brings. */
export interface KafkaTls {
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

export interface KafkaSasl {
  readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
  readonly username: string;
  readonly password: string;
}

/** Read anew for each session. */
export interface KafkaAccess {
  readonly tls: KafkaTls | null;
  readonly sasl: KafkaSasl | null;
}

/** Of one session, from joining the group to its end. */
export interface SessionOptions extends KafkaAccess {
  readonly brokers: readonly BrokerAddress[];
  readonly topic: string;
  readonly group: string;
  /** Where a partition begins of which the group has committed nothing. */
  readonly begin: 'latest' | 'earliest';
  /** Of the session before, so that the group need not wait until that one counts as dead. */
  readonly memberId: string | null;
  /** Bytes of a message; of a larger one only its beginning is handed over. */
  readonly longest: number;
  readonly pace: SessionPace;
}

/** Milliseconds. */
export interface SessionPace {
  /** A member that is not heard of for so long is dead to the group; brokers take 6 s to 30 min. */
  readonly sessionMs: number;
  /** How long the group waits for its members when partitions are dealt anew. */
  readonly rebalanceMs: number;
  readonly heartbeatMs: number;
  readonly connectMs: number;
  /** How long a broker may keep a request for which it has nothing. */
  readonly fetchMs: number;
  /** What is known of the topic (its partitions, who leads them) is asked for again after so long. */
  readonly metadataMs: number;
  /** Failures to fetch in a row may last so long; then the session ends. */
  readonly patienceMs: number;
}

export interface ThreadData {
  readonly falcodropKafka: SessionOptions;
}

/** Bytes that are handed over of a message that is longer than an alert may be. */
export const cutAt = 4_096;

/** Some messages of one partition, in order. */
export interface Records {
  readonly kind: 'records';
  readonly partition: number;
  /** Of the partition's assignment. */
  readonly lease: number;
  readonly offsets: Float64Array<ArrayBuffer>;
  /** In `bytes`, where each ends and the next begins. */
  readonly ends: Uint32Array<ArrayBuffer>;
  /** Bytes of each as a whole; −1: it has no value. */
  readonly sizes: Int32Array<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The offset after all that was read. */
  readonly next: number;
  /** That of the next message to be written, when this was read. */
  readonly high: number;
}

export interface Assigned {
  readonly partition: number;
  /** The same as before where it was ours all the time. */
  readonly lease: number;
  readonly offset: number;
}

export type FromThread =
  /** Partitions are dealt: these are ours, and no others. */
  | {
      readonly kind: 'assigned';
      readonly memberId: string | null;
      readonly partitions: readonly Assigned[];
    }
  | Records
  /** What lay there was deleted before it was read (retention), or the topic is another one: goes on at `to`. */
  | { readonly kind: 'moved'; readonly partition: number; readonly lease: number; readonly to: number }
  /** Nothing from `from` up to `to` can be read. */
  | {
      readonly kind: 'unreadable';
      readonly partition: number;
      readonly lease: number;
      readonly from: number;
      readonly to: number;
      readonly problem: string;
    }
  | { readonly kind: 'committed'; readonly id: number; readonly failure: Failure | null }
  | { readonly kind: 'ended'; readonly failure: Failure; readonly memberId: string | null };

export interface Offset {
  readonly partition: number;
  readonly lease: number;
  readonly offset: number;
}

export type ToThread =
  /** So many bytes are queued: there is room for others. */
  | { readonly kind: 'taken'; readonly bytes: number }
  | { readonly kind: 'commit'; readonly id: number; readonly offsets: readonly Offset[] }
  /** Reads no more, and stays in the group. */
  | { readonly kind: 'quiet' }
  | { readonly kind: 'leave' };
