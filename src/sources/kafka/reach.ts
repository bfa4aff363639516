/** Whether a broker can be reached at all: a session of its own would take a thread and a third of a second of the CPU to say so. */
import { connect } from 'node:net';
import { type Failure, failureOf } from './failure.ts';
import type { BrokerAddress } from './message.ts';

/** Null when one accepts a connection, else what the last one said. Never rejects. */
export async function reachProblem(
  brokers: readonly BrokerAddress[],
  connectMs: number,
  signal: AbortSignal,
): Promise<Failure | null> {
  let failure: Failure | null = null;
  for (const broker of brokers) {
    const error = await tryConnect(broker, connectMs, signal);
    if (error === null) return null;
    const { host, port } = broker;
    failure = failureOf(new Error(`Connection to ${host}:${port} failed`, { cause: error }));
    if (signal.aborted) return failure;
  }
  return failure;
}

function tryConnect({ host, port }: BrokerAddress, timeout: number, signal: AbortSignal): Promise<Error | null> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout, signal });
    const end = (error: Error | null) => () => {
      resolve(error);
      socket.destroy();
    };
    socket.once('connect', end(null));
    socket.once('timeout', end(new Error('timed out')));
    socket.on('error', (error) => end(error)());
  });
}
