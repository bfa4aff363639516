/** What gRPC and TLS say when a connection fails, in words for the operator. */
import { type ServiceError, status } from '@grpc/grpc-js';
import { FalcodropError } from '../../errors.ts';

export interface Failure {
  readonly problem: string;
  readonly hint: string | null;
}

const known: readonly (readonly [said: RegExp, problem: string, hint: string])[] = [
  [/ECONNREFUSED/, 'nobody listens there', 'is Falco running, with grpc: { enabled: true }?'],
  [
    /EACCES|EPERM/,
    'the socket may not be written to by this user',
    'Falco makes it for its own user alone: give it to the group of the service (docs/sources.md)',
  ],
  [/ENOTFOUND|EAI_AGAIN|Name resolution failed/, 'its name has no address', 'see the host in grpc.address'],
  [
    /alert certificate expired|SSL alert number 45/,
    'Falco refuses our certificate: it has expired',
    'make another one, and name it in grpc.tls.cert',
  ],
  [
    /alert (unknown ca|bad certificate|certificate unknown|certificate required|handshake failure|decrypt error)|SSL alert number (40|42|46|48|51|116)/,
    'Falco refuses our certificate',
    'grpc.tls.cert must be of the CA that is grpc.root_certs in falco.yaml',
  ],
  [
    /CERT_HAS_EXPIRED|certificate has expired/,
    "Falco's certificate has expired",
    'make another one: grpc.cert_chain in falco.yaml',
  ],
  [
    /ERR_TLS_CERT_ALTNAME_INVALID|does not match certificate/,
    "Falco's certificate is for another name",
    'name that in grpc.tls.name, if it is your Falco',
  ],
  [
    /self[- ]signed|unable to (verify|get)|UNABLE_TO_|SELF_SIGNED/,
    "Falco's certificate is not of the CA in grpc.tls.ca",
    'if it is your Falco, name the CA that its certificate is of',
  ],
  [
    /wrong version number|packet length too long|before secure TLS connection|EPROTO/,
    'no TLS was spoken there, or it hung up at once',
    'see grpc.address, and grpc.bind_address in falco.yaml',
  ],
];

/** `error` is what a call, the reading of certificates, or the TLS library threw. */
export function failureOf(error: unknown): Failure {
  if (error instanceof FalcodropError) return { problem: error.message, hint: error.hint ?? null };
  if (!isServiceError(error)) return { problem: error instanceof Error ? error.message : String(error), hint: null };
  if (error.code === status.UNIMPLEMENTED) {
    return { problem: 'this server has no alerts of Falco', hint: 'grpc.address must be that of a Falco up to 0.43' };
  }
  if (error.code === status.DEADLINE_EXCEEDED) return { problem: 'it does not answer', hint: null };
  if (error.code === status.RESOURCE_EXHAUSTED) {
    return { problem: `Falco or a message was too large: ${error.details}`, hint: null };
  }
  const found = known.find(([said]) => said.test(error.details));
  if (found !== undefined) return { problem: found[1], hint: found[2] };
  const last = /Last error: (?:Error: )?(.*?)\.? Resolution note:/s.exec(error.details)?.[1];
  return { problem: last ?? error.details, hint: null };
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'details' in error && typeof error.details === 'string' && 'code' in error;
}
