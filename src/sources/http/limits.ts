/** What a sender may use of this process. */
export interface HttpLimits {
  /** Bytes, of the body as sent and as inflated. */
  readonly maxBody: number;
  /** Alerts in one body. */
  readonly maxAlerts: number;
  readonly maxConnections: number;
  /** Bytes of the request line and all headers. */
  readonly maxHeader: number;
  /** From the first byte of a connection or the end of the answer before, to the last byte of the headers. */
  readonly headersMs: number;
  /** To the last byte of the body. */
  readonly requestMs: number;
  /** A connection without a request is closed after so long. Falco keeps one connection for all alerts. */
  readonly keepAliveMs: number;
  /** Alerts a second of one sender, in the long run; 0 is no limit. */
  readonly alertsPerSecond: number;
  /** Alerts of one sender at once. */
  readonly burst: number;
  /** Bytes of bodies that wait for their turn to be inflated or taken apart. */
  readonly maxWaiting: number;
}

export const httpLimits: HttpLimits = {
  maxBody: 1 << 20,
  maxAlerts: 4_096,
  maxConnections: 128,
  maxHeader: 16 << 10,
  headersMs: 5_000,
  requestMs: 10_000,
  keepAliveMs: 75_000,
  alertsPerSecond: 0,
  burst: 1_000,
  maxWaiting: 8 << 20,
};
