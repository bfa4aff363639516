/** The configuration as the program uses it, whatever it was written in. Without any file: these defaults. */
import type { Ports } from '../address/port.ts';
import type { Prefix } from '../address/prefix.ts';
import type { Rules } from '../judge/judge.ts';
import type { BrokerAddress } from './broker-address.ts';
import type { FalcoAddress } from './falco-address.ts';
import type { Secret } from './secret.ts';

export interface Config {
  /** What `attach` takes when no interface is named. */
  readonly interfaces: readonly string[];
  /** What automatic blocks may do at most. */
  readonly automatic: 'monitor' | 'enforce';
  /** For `judge()` and `guard()`: guard settings, `max_alert_age`, policies. */
  readonly rules: Rules;
  /** Networks that root mirrors into the kernel's allows. */
  readonly management: readonly Prefix[];
  /** Local ports to which packets pass whatever is blocked; empty = there are none (not: every port). At most 16. */
  readonly neverDropPorts: Ports;
  /** What a reconcile does with entries that the ledger knows nothing of (bpftool's, or of a lost ledger). */
  readonly foreign: 'adopt' | 'remove';
  /** User and group that the service runs as, and that the maps are made for. */
  readonly service: { readonly user: string; readonly group: string };
  readonly hostAliases: readonly string[];
  readonly http: HttpConfig;
  readonly lines: LinesConfig;
  /** Falcos up to 0.43; none twice. */
  readonly grpc: readonly GrpcConfig[];
  readonly journal: JournalConfig;
  /** No name twice. */
  readonly kafka: readonly KafkaConfig[];
}

/** systemd's journal. */
export interface JournalConfig {
  readonly enabled: boolean;
  /** With their suffix. */
  readonly units: readonly string[];
  /** Beside the units; in each every `FIELD=value` must hold. */
  readonly matches: readonly (readonly string[])[];
  /** Absolute; null: the system's own. */
  readonly directory: string | null;
}

/** Whether alerts of other hosts come in this way, and of which hosts they count. */
export interface SpeaksFor {
  readonly remote: boolean;
  readonly fleetHosts: readonly string[];
}

/** Alerts one a line. */
export interface LinesConfig {
  readonly files: readonly FileConfig[];
  readonly stdin: boolean;
}

export interface FileConfig extends SpeaksFor {
  /** Absolute. */
  readonly path: string;
  /** Goes on at its end, through rotation and restarts; false: read once, whole, to its end. */
  readonly follow: boolean;
}

/** A Falco's gRPC server. */
export interface GrpcConfig extends SpeaksFor {
  readonly enabled: boolean;
  readonly address: FalcoAddress;
  /** There for a host and port, and null for a unix socket. */
  readonly tls: GrpcTlsConfig | null;
}

/** Each file is PEM. */
export interface GrpcTlsConfig {
  readonly ca: string;
  readonly cert: string;
  readonly key: Secret;
  /** That Falco's certificate is for, where that is not the host. */
  readonly name: string | null;
}

/** A topic of alerts. */
export interface KafkaConfig extends SpeaksFor {
  readonly enabled: boolean;
  /** Of the source: `kafka:NAME`. */
  readonly name: string;
  readonly brokers: readonly BrokerAddress[];
  readonly topic: string;
  /** null: one of this host's own. */
  readonly group: string | null;
  readonly begin: 'latest' | 'earliest';
  /** null: none. */
  readonly tls: KafkaTlsConfig | null;
  /** null: no password is asked for. */
  readonly sasl: KafkaSaslConfig | null;
}

/** PEM; certificate and key are both there, or neither. */
export interface KafkaTlsConfig {
  /** null: the public ones. */
  readonly ca: Secret | null;
  readonly cert: Secret | null;
  readonly key: Secret | null;
}

export interface KafkaSaslConfig {
  readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
  readonly username: string;
  readonly password: Secret;
}

export interface HttpConfig extends SpeaksFor {
  /** Over TCP; the unix socket is there whenever it is named. */
  readonly enabled: boolean;
  /** An IP address. */
  readonly address: string;
  readonly port: number;
  /** Path of a unix socket; null: none. */
  readonly socket: string | null;
  /** Any one of these admits a request; all null: everybody on this host. */
  readonly token: Secret | null;
  readonly basic: Secret | null;
  readonly path: Secret | null;
  /** null: plain HTTP. */
  readonly tls: HttpTlsConfig | null;
  /** Alerts a second of one sender, 0 = no limit, and at once. */
  readonly rate: { readonly alerts: number; readonly burst: number };
  /** Bytes. */
  readonly maxBody: number;
  readonly maxConnections: number;
}

/** Certificate and key belong together; one layer of the configuration may name the one, and another the other. */
export interface HttpTlsConfig {
  readonly cert: Secret | null;
  readonly key: Secret | null;
  /** null: clients need no certificate. */
  readonly clientCa: Secret | null;
}
