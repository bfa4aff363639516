/**
 * The thread that speaks with Kafka's brokers, for one session. An entry point of its own in the bundle; topic.ts starts it.
 *
 * A thread, for what the client's library throws in its own callbacks ends that and not the daemon, and what it takes to inflate
 * and read megabytes holds nobody else's alerts up.
 */
import './bounded.ts';
import { parentPort, workerData } from 'node:worker_threads';
import { failureOf } from './failure.ts';
import type { FromThread, Records, ThreadData, ToThread } from './message.ts';
import { Session } from './session.ts';

const port = parentPort;
if (port === null) throw new Error('a thread of the daemon');

const isRecords = (message: FromThread): message is Records => message.kind === 'records';

const say = (message: FromThread): void => {
  const moved = isRecords(message)
    ? [message.offsets.buffer, message.ends.buffer, message.sizes.buffer, message.bytes.buffer]
    : [];
  port.postMessage(message, moved);
};

const session = new Session((workerData as ThreadData).falcodropKafka, say);
port.on('message', (message: ToThread) => {
  if (message.kind === 'taken') session.taken(message.bytes);
  else if (message.kind === 'commit') void session.commit(message.id, message.offsets);
  else if (message.kind === 'quiet') session.quiet();
  else session.leave();
});
try {
  await session.run();
} catch (error) {
  say({ kind: 'ended', failure: failureOf(error), memberId: session.memberId });
}
port.close();
