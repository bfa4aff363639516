/** What Kafka's brokers, TLS and the client's library say when something fails, in words for the operator. */

export interface Failure {
  readonly problem: string;
  readonly hint: string | null;
  /** A broker does not let us in: trying again soon is of no use, and may lock the account. */
  readonly isRefusal: boolean;
}

/** Of an error and all that caused it: messages, and names of errors (the protocol's, Node's). */
function words(error: unknown, depth = 0): string[] {
  if (depth > 8) return [];
  if (!(error instanceof Error)) return [String(error)];
  const { code, apiId, serverErrorMessage, cause, errors } = error as Error & {
    readonly code?: unknown;
    readonly apiId?: unknown;
    readonly serverErrorMessage?: unknown;
    readonly errors?: unknown;
  };
  const own = [error.message, code, apiId, serverErrorMessage].filter((word) => typeof word === 'string');
  const inner = [cause, ...(Array.isArray(errors) ? (errors as unknown[]) : [])].filter((each) => each != null);
  return [...own, ...inner.flatMap((each) => words(each, depth + 1))];
}

const known: readonly (readonly [said: RegExp, problem: string, hint: string | null, isRefusal?: true])[] = [
  [
    /SASL_AUTHENTICATION_FAILED|SASL authentication failed|Authentication failed/,
    'the broker refuses user name or password',
    'see kafka.sasl: username, password, and the mechanism that the user was made for',
    true,
  ],
  [
    /UNSUPPORTED_SASL_MECHANISM|suitable SASL mechanism/,
    'the broker does not take this mechanism of SASL',
    'see kafka.sasl.mechanism, and sasl.enabled.mechanisms of the broker',
    true,
  ],
  [/ILLEGAL_SASL_STATE/, 'the broker asks for no password on this port', 'see kafka.brokers and kafka.sasl', true],
  [/Invalid server signature/, 'the broker does not know the password itself: it may be another one', null, true],
  [
    /TOPIC_AUTHORIZATION_FAILED/,
    'the broker does not let us read the topic',
    'kafka-acls.sh --add --allow-principal User:… --operation Read --operation Describe --topic …',
    true,
  ],
  [
    /GROUP_AUTHORIZATION_FAILED/,
    'the broker does not let us into the group',
    'kafka-acls.sh --add --allow-principal User:… --operation Read --group …',
    true,
  ],
  [/CLUSTER_AUTHORIZATION_FAILED/, 'the broker does not let us do that', null, true],
  [
    /Unknown topic|UNKNOWN_TOPIC/,
    'the topic is not there',
    'kafka-topics.sh --create (or topiccreation of falcosidekick), or see kafka.topic',
  ],
  [
    /alert certificate expired|SSL alert number 45/,
    'the broker refuses our certificate: it has expired',
    'make another one, and name it in kafka.tls.cert',
    true,
  ],
  [
    /certificate required|SSL alert number 116|alert (unknown ca|bad certificate|certificate unknown|handshake failure|decrypt error)|SSL alert number (40|42|46|48|51)/,
    'the broker refuses our certificate, or that there is none',
    'kafka.tls.cert must be of a CA in the truststore of the broker',
    true,
  ],
  [/CERT_HAS_EXPIRED|certificate has expired/, "the broker's certificate has expired", null, true],
  [
    /ERR_TLS_CERT_ALTNAME_INVALID|does not match certificate/,
    "the broker's certificate is for another name",
    'name the brokers in kafka.brokers, and in advertised.listeners of each, as their certificates do',
    true,
  ],
  [
    /self[- ]signed|unable to (verify|get)|UNABLE_TO_|SELF_SIGNED/,
    "the broker's certificate is not of the CA in kafka.tls.ca",
    'if it is your broker, name the CA that its certificate is of',
    true,
  ],
  [
    /wrong version number|packet length too long|secure TLS connection|EPROTO|TLS handshake failed/,
    'no TLS was spoken there, or it hung up at once',
    'see kafka.tls, and the listeners of the broker: each has a port of its own',
  ],
  [/ECONNREFUSED/, 'nobody listens there', 'is the broker running? see kafka.brokers, and its advertised.listeners'],
  [
    /ENOTFOUND|EAI_AGAIN/,
    'a name of a broker has no address',
    'see kafka.brokers, and advertised.listeners of the broker, which name it to its clients',
  ],
  [/EHOSTUNREACH|ENETUNREACH/, 'there is no way to the broker', 'see kafka.brokers, and its advertised.listeners'],
  [
    /timed out/,
    'it does not answer',
    'see kafka.brokers, kafka.tls (a port for TLS says nothing to who speaks none), and a firewall',
  ],
  [/COORDINATOR_(NOT|LOAD)|NOT_COORDINATOR/, 'no broker keeps the group now', null],
  [
    /UNSUPPORTED_COMPRESSION|Unsupported compression/,
    'messages are compressed in a way that this Node cannot read',
    null,
  ],
  [/Unsupported API|No usable implementation|UNSUPPORTED_VERSION/, 'the broker is too old: Kafka 2.7 is needed', null],
  [/ECONNRESET|EPIPE|Connection (closed|error)|Cannot find broker/, 'the connection broke', null],
];

/** `error` is what the library, Node or this source threw. */
export function failureOf(error: unknown): Failure {
  const said = words(error);
  const text = said.join('\n');
  const found = known.find(([pattern]) => pattern.test(text));
  if (found !== undefined) {
    const [, problem, hint, isRefusal = false] = found;
    return { problem: `${problem}${brokerIn(said)}`, hint, isRefusal };
  }
  return { problem: said.at(-1) ?? 'it failed', hint: null, isRefusal: false };
}

/** ` (kafka-1:9092)`, where the library says which it was: what a broker is called by itself is often no name for others. */
function brokerIn(said: readonly string[]): string {
  const [, broker] = said.map((word) => /^Connection to (\S+) (?:failed|timed out)/.exec(word)).find(Boolean) ?? [];
  return broker === undefined ? '' : ` (${broker})`;
}
