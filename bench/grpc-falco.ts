/** `grpc-falco.ts SOCKET COUNT`: a Falco of its own process, with so many recorded alerts in its queue. */
import { grpcBytes } from '../test/alert/recordings.ts';
import { startFalco } from '../test/sources/grpc/falco.ts';

const [socket = '', count = '0'] = process.argv.slice(2);
const messages = grpcBytes();
const queue = Array.from({ length: Number(count) }, (_, n) => messages[n % messages.length] ?? Buffer.alloc(0));
await startFalco({ listen: `unix://${socket}`, queue });
process.stdout.write('listening\n');
