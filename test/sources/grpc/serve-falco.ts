/** `serve-falco.ts SOCKET`: a Falco to be killed. Messages come over stdin, a line of base64 each; one on stdout once it listens. */
import { rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { startFalco } from './falco.ts';

const [socket = ''] = process.argv.slice(2);
// As gRPC's server of C++ does with a socket that another one left.
rmSync(socket, { force: true });
const { queue } = await startFalco({ listen: `unix://${socket}` });
process.stdout.write('listening\n');
for await (const line of createInterface(process.stdin)) queue.push(Buffer.from(line, 'base64'));
